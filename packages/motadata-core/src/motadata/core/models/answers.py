"""What a knowledge base gives back: retrieved chunks, citations, answers."""

from __future__ import annotations

from dataclasses import dataclass

from motadata.core.models._record import Record
from motadata.core.models.completions import Usage


@dataclass(frozen=True, slots=True)
class RetrievedChunk(Record):
    """A chunk that a search found.

    Attributes:
        start: Offset of its first character in the text of that version of the document.
        end: Offset behind its last character.
        score: The fused relevance by which results are ordered, between 0 and 1.
        similarity: Cosine similarity to the query; None when there are no vectors.
        lexical: Raw score of the full-text search; None when no word matched.
    """

    document_id: str
    version: int
    chunk: int
    title: str
    source: str
    text: str
    start: int
    end: int
    page: int | None
    heading: str | None
    score: float
    similarity: float | None = None
    lexical: float | None = None


@dataclass(frozen=True, slots=True)
class Citation(Record):
    """The place in a document that an answer rests on.

    `quote` is exactly characters `start` to `end` of the text of that version of the document.
    """

    document_id: str
    title: str
    source: str
    version: int
    page: int | None
    heading: str | None
    start: int
    end: int
    quote: str
    score: float


@dataclass(frozen=True, slots=True)
class Answer(Record):
    """An answer and what it rests on.

    Attributes:
        answer: Text with citation marks: `[1]` is `citations[0]`.
        answered: False when the documents do not hold an answer; `answer` then says so.
        model: Which model worded it.
        cached: Whether it came from the query cache.
        call_id: Of the call that worded it, in the usage log and to feedback; empty when nothing
            records calls.
    """

    query: str
    answer: str
    citations: tuple[Citation, ...] = ()
    answered: bool = True
    model: str = ""
    usage: Usage = Usage()
    cached: bool = False
    trace_id: str | None = None
    call_id: str = ""
