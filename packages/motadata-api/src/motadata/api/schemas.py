"""What the HTTP API and `motadata --json` take and give. Data from outside is checked here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from motadata.core.models import (
    Answer,
    Citation,
    Document,
    DocumentInfo,
    IngestedDocument,
    Section,
    TaskResult,
)


QueryMode = Literal["auto", "rag", "agent", "both"]
UsedMode = Literal["rag", "agent", "both"]

_MAX_QUERY = 8_000
_MAX_LIMIT = 100
_MAX_TEXT = 10_000_000


def _without_nul(text: str) -> str:
    if "\0" in text:
        message = "must not hold NUL characters"
        raise ValueError(message)
    return text


Text = Annotated[str, AfterValidator(_without_nul)]
_Id = Annotated[str, StringConstraints(pattern=r"\A[A-Za-z0-9_-]{1,64}\z")]


class RequestBody(BaseModel):
    """Base of what comes in: unknown fields are refused, so that a typing error is found."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class ResponseBody(BaseModel):
    """Base of what goes out."""

    model_config = ConfigDict(frozen=True)


class QueryRequest(RequestBody):
    """A question about the tenant's documents.

    Attributes:
        mode: Who answers: the documents (`rag`), the agent, both, or whichever fits (`auto`).
        limit: How many passages the answer may rest on.
        document_ids: Narrows the search to these documents; empty means all.
    """

    query: Annotated[Text, StringConstraints(min_length=1, max_length=_MAX_QUERY, pattern=r"\S")]
    mode: QueryMode = "auto"
    limit: Annotated[int, Field(ge=1, le=_MAX_LIMIT)] = 8
    document_ids: Annotated[tuple[_Id, ...], Field(max_length=100)] = ()


class DocumentRequest(RequestBody):
    """A document whose text the caller has already."""

    text: Annotated[Text, StringConstraints(min_length=1, max_length=_MAX_TEXT, pattern=r"\S")]
    source: Annotated[Text, StringConstraints(min_length=1, max_length=1000, pattern=r"\S")]
    title: Annotated[Text, StringConstraints(max_length=500)] = ""
    document_id: _Id | None = None
    metadata: Annotated[
        Mapping[
            Annotated[Text, StringConstraints(min_length=1, max_length=100)],
            Annotated[Text, StringConstraints(max_length=2000)],
        ],
        Field(default_factory=dict, max_length=50),
    ]

    def to_document(self) -> Document:
        """Return it as the knowledge base takes it."""
        return Document(
            text=self.text,
            source=self.source,
            title=self.title or self.source,
            document_id=self.document_id,
            metadata=dict(self.metadata),
        )


class CitationBody(ResponseBody):
    """The place that a part of an answer rests on; `start` and `end` count Unicode characters."""

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

    @classmethod
    def of(cls, citation: Citation) -> Self:
        """Return the citation as it is sent."""
        return cls(**citation.to_dict())  # type: ignore[arg-type]  # checked by pydantic


class QueryResponse(ResponseBody):
    """An answer: the mark `[1]` in it stands for the first citation.

    Attributes:
        answered: False when the documents do not hold an answer; `answer` then says so.
        mode: Who answered.
        model: Which model worded it.
        cached: Whether it was worded before and is still true.
        call_id: Names the model's call to `POST /v1/feedback`; empty when nothing records calls.
    """

    query: str
    answer: str
    answered: bool
    citations: list[CitationBody]
    mode: UsedMode
    model: str = ""
    cached: bool = False
    call_id: str = ""
    trace_id: str | None = None

    @classmethod
    def of(
        cls,
        query: str,
        *,
        mode: UsedMode,
        answer: Answer | None,
        task: TaskResult | None,
        trace_id: str | None,
    ) -> Self:
        """Return an answer as it is sent; the agent's words win over the documents'."""
        return cls(
            query=query,
            answer=task.output if task is not None else answer.answer if answer else "",
            answered=task is not None or (answer is not None and answer.answered),
            citations=[CitationBody.of(citation) for citation in answer.citations]
            if answer
            else [],
            mode=mode,
            model=answer.model if answer else "",
            cached=answer.cached if answer and task is None else False,
            call_id=answer.call_id if answer and task is None else "",
            trace_id=trace_id,
        )


class ErrorDetail(ResponseBody):
    """What went wrong and what to do about it.

    Attributes:
        code: Stable name, for programs.
        retryable: Whether the same request may succeed later.
        trace_id: Under which the server's log has the rest.
    """

    code: str
    message: str
    remedy: str | None = None
    retryable: bool = False
    trace_id: str | None = None


class ErrorBody(ResponseBody):
    """The body of every answer that is not a success."""

    error: ErrorDetail


class StoredDocument(ResponseBody):
    """A document as it was stored."""

    document_id: str
    title: str
    source: str
    version: int
    chunks: int
    embedded: bool


class FileBody(ResponseBody):
    """What became of one file: stored (`created`, `updated`, `unchanged`), or failed and why."""

    source: str
    outcome: Literal["created", "updated", "unchanged", "failed"]
    document: StoredDocument | None = None
    error: ErrorDetail | None = None

    @classmethod
    def stored(cls, document: IngestedDocument, *, source: str | None = None) -> Self:
        """Return the outcome of a file that is stored now."""
        return cls(
            source=source or document.source,
            outcome=document.outcome,
            document=StoredDocument(
                document_id=document.document_id,
                title=document.title,
                source=document.source,
                version=document.version,
                chunks=document.chunks,
                embedded=document.embedded,
            ),
        )

    @classmethod
    def failed(cls, source: str, error: ErrorDetail) -> Self:
        """Return the outcome of a file of which nothing was stored."""
        return cls(source=source, outcome="failed", error=error)


class UploadResponse(ResponseBody):
    """What became of an upload, file by file, in the order of the files."""

    files: list[FileBody]
    trace_id: str | None = None

    @property
    def failures(self) -> Sequence[FileBody]:
        """The files of which nothing was stored."""
        return [file for file in self.files if file.outcome == "failed"]


class DocumentSummary(ResponseBody):
    """A stored document, without its text."""

    document_id: str
    title: str
    source: str
    version: int
    media_type: str
    digest: str
    characters: int
    chunks: int
    updated_at: datetime
    metadata: dict[str, str]

    @classmethod
    def of(cls, info: DocumentInfo) -> Self:
        """Return the document as it is listed."""
        return cls(**info.to_dict())  # type: ignore[arg-type]  # checked by pydantic


class DocumentsResponse(ResponseBody):
    """A page of documents by ascending id; `next` is the `after` of the page behind it."""

    documents: list[DocumentSummary]
    next: str | None = None
    trace_id: str | None = None


class SectionBody(ResponseBody):
    """Which page or heading a run of characters sat under."""

    start: int
    end: int
    page: int | None
    heading: str | None

    @classmethod
    def of(cls, section: Section) -> Self:
        """Return the section as it is sent."""
        return cls(start=section.start, end=section.end, page=section.page, heading=section.heading)


class DocumentResponse(ResponseBody):
    """A version of a document with its text; offsets count Unicode characters.

    Attributes:
        version: The version that was asked for; None is the current one.
    """

    document_id: str
    title: str
    source: str
    version: int | None
    media_type: str
    text: str
    sections: list[SectionBody]
    metadata: dict[str, str]
    trace_id: str | None = None

    @classmethod
    def of(
        cls,
        document: Document,
        *,
        document_id: str,
        version: int | None,
        trace_id: str | None,
    ) -> Self:
        """Return the document as it is sent."""
        return cls(
            document_id=document_id,
            title=document.title,
            source=document.source,
            version=version,
            media_type=document.media_type,
            text=document.text,
            sections=[SectionBody.of(section) for section in document.sections],
            metadata=dict(document.metadata),
            trace_id=trace_id,
        )


class HealthResponse(ResponseBody):
    """How the service is; of its components the state only, since no key is needed to ask."""

    status: Literal["ok", "degraded", "down"]
    components: dict[str, Literal["ok", "degraded", "down"]]
