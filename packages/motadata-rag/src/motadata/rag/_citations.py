"""From a model's text with marks (`[2]`) to citations of exact places.

A mark is a claim that the words before it rest on a passage. For each, the place in that passage is
found that says it: the same words if they are there, else the sentence that shares most of them.
Marks that name no passage are removed, and the others renumbered in the order of their first use.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from motadata.core.models import Citation
from motadata.rag._lexical import words_of
from motadata.rag._retrieval import Hit
from motadata.rag._sentences import Span, blocks, lines, sentences


_MARKS: Final = re.compile(r"[ \t]*((?:\[\d{1,4}(?:\s*[,;]\s*\d{1,4})*\][ \t]*)+)")
_NUMBER: Final = re.compile(r"\d+")
_EDGES: Final = " \t\r\n.,;:!?*_`>#\"'“”-•"
_SHORTEST: Final = 4
"""Characters from which on equal words are no coincidence."""


def cite(text: str, hits: Sequence[Hit]) -> tuple[str, tuple[Citation, ...]]:
    """Return the text with its marks renumbered, and what they stand for: `[1]` is the first.

    Args:
        text: The model's words; `[n]` names the n-th of `hits`.
        hits: The passages that the model was given.
    """
    citations: list[Citation] = []
    places: dict[tuple[str, int, int], int] = {}
    pieces: list[str] = []
    position = 0
    for run in _MARKS.finditer(text):
        claim = text[position : run.start()] or text[run.end() : run.end() + 400]
        numbers: list[int] = []
        for number in map(int, _NUMBER.findall(run.group())):
            if not 1 <= number <= len(hits):
                continue
            citation = _citation(claim, hits[number - 1])
            place = (citation.document_id, citation.start, citation.end)
            if place not in places:
                citations.append(citation)
                places[place] = len(citations)
            if places[place] not in numbers:
                numbers.append(places[place])
        pieces.append(text[position : run.start()])
        pieces.append(_rendered(text, run, numbers))
        position = run.end()
    pieces.append(text[position:])
    return "".join(pieces).strip(), tuple(citations)


def _rendered(text: str, run: re.Match[str], numbers: Sequence[int]) -> str:
    behind = text[run.end() - 1 : run.end()].isspace() and text[run.end() : run.end() + 1].strip()
    marks = "".join(f"[{number}]" for number in numbers)
    glued = text[run.start() - 1 : run.start()].strip() != ""
    before = " " if marks and glued else ""
    return f"{before}{marks}{' ' if behind and text[run.end()] not in '.,;:!?' else ''}"


def _citation(claim: str, hit: Hit) -> Citation:
    chunk = hit.chunk
    start, end = find_quote(chunk.text, claim)
    offset = chunk.start + start
    section = next((part for part in hit.sections if part.start <= offset < part.end), None)
    return Citation(
        document_id=chunk.document_id,
        title=chunk.title,
        source=chunk.source,
        version=chunk.version,
        page=section.page if section else chunk.page,
        heading=section.heading if section else chunk.heading,
        start=offset,
        end=chunk.start + end,
        quote=chunk.text[start:end],
        score=chunk.score,
    )


def find_quote(passage: str, claim: str) -> Span:
    """Return the span of `passage` that `claim` rests on; never empty.

    The whole claim word for word, blanks and case disregarded; else its last sentence; else the
    sentence that shares most words with that; else the whole passage.
    """
    told = [claim[start:end] for start, end in sentences(claim, 0, len(claim))]
    last = told[-1] if told else claim
    for wanted in (claim, claim.strip(_EDGES), last.strip(_EDGES)):
        span = _verbatim(passage, wanted)
        if span is not None:
            return span
    wanted_words = set(words_of(last).counts)
    best, best_score = (0, len(passage)), 0.0
    for start, end in _statements(passage):
        own = set(words_of(passage[start:end]).counts)
        score = 2 * len(own & wanted_words) / max(len(own) + len(wanted_words), 1)
        if score > best_score:
            best, best_score = (start, end), score
    return best


def _statements(passage: str) -> Iterator[Span]:
    for block in blocks(passage, 0, len(passage)):
        cut = sentences if block.kind == "prose" else lines
        yield from cut(passage, block.start, block.end)


def _verbatim(passage: str, wanted: str) -> Span | None:
    needle, _ = _squeezed(wanted)
    if len(needle) < _SHORTEST:
        return None
    haystack, places = _squeezed(passage)
    found = haystack.find(needle)
    if found < 0:
        return None
    start, end = places[found], places[found + len(needle) - 1] + 1
    while end < len(passage) and passage[end] in ".!?\"'”)`":
        end += 1
    return start, end


def _squeezed(text: str) -> tuple[str, list[int]]:
    """Return `text` in lower case without blanks, and where each character was."""
    kept = [(i, character) for i, character in enumerate(text) if not character.isspace()]
    lowered = [
        character.lower() if len(character.lower()) == 1 else character for _, character in kept
    ]
    return "".join(lowered), [i for i, _ in kept]
