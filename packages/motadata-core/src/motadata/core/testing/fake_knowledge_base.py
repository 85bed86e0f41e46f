"""A knowledge base in memory: per tenant, by words only, for tests of what stands on one.

It keeps the whole contract of `motadata.core.protocols.KnowledgeBase` (the conformance kit runs on
it) and finds passages by shared words. It is no product: nothing is kept behind the process, and a
search reads every chunk of the tenant.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Literal, Self

from motadata.core.errors import (
    DocumentNotFoundError,
    DocumentProcessingError,
    InvalidIdentifierError,
    RetrievalError,
)
from motadata.core.models import (
    Answer,
    Citation,
    Document,
    DocumentInfo,
    Health,
    IngestedDocument,
    RetrievedChunk,
)
from motadata.core.tenancy import Identifier, TenantId, resolve_tenant


_DONT_KNOW: Final = "I don't know."
_MAX_QUERY: Final = 8_000
_MAX_TEXT: Final = 10_000_000
_MAX_TITLE: Final = 500
_MAX_SOURCE: Final = 1_000
_MAX_LIMIT: Final = 100
_WORD: Final = re.compile(r"\w+")
_PARAGRAPH: Final = re.compile(r"\S(?:.{0,800}?(?=\n\s*\n|\Z)|.{0,800})", re.DOTALL)
_SENTENCE: Final = re.compile(r"\S.*?(?:[.!?](?=\s|\Z)|\n|\Z)", re.DOTALL)
_STOP_WORDS: Final = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be by can do does for from how i in is it me my of on or our the this "
        "to was we what when where which who why will with you your",
    )
)


@dataclass(frozen=True, slots=True)
class _Stored:
    versions: tuple[Document, ...]
    digest: str
    updated_at: datetime

    @property
    def current(self) -> Document:
        return self.versions[-1]


class FakeKnowledgeBase:
    """Keeps each tenant's documents in a dictionary; answers with the best matching sentence."""

    def __init__(self) -> None:
        self._tenants: dict[TenantId, dict[str, _Stored]] = {}

    async def __aenter__(self) -> Self:
        """Acquire nothing."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release nothing; the documents stay."""

    async def ingest_document(
        self, document: Document, *, tenant_id: str | None = None
    ) -> IngestedDocument:
        """Store a document, a new version of it, or nothing if unchanged.

        Raises:
            DocumentProcessingError: The document breaks a limit.
        """
        documents = self._documents(tenant_id)
        _validate(document)
        document_id = document.document_id or _derived_id(document.source)
        stored = documents.get(document_id)
        digest = _digest(document)
        outcome: Literal["created", "updated", "unchanged"] = "created"
        if stored is not None:
            outcome = "unchanged" if stored.digest == digest else "updated"
        if stored is None or outcome == "updated":
            kept = replace(document, document_id=document_id)
            versions = (*(stored.versions if stored else ()), kept)
            stored = documents[document_id] = _Stored(versions, digest, datetime.now(UTC))
        return IngestedDocument(
            document_id=document_id,
            title=stored.current.title,
            source=stored.current.source,
            version=len(stored.versions),
            chunks=sum(1 for _ in _spans(stored.current.text)),
            outcome=outcome,
            embedded=False,
        )

    async def update_document(
        self, document: Document, *, tenant_id: str | None = None
    ) -> IngestedDocument:
        """Store a new version of a document that is there.

        Raises:
            DocumentNotFoundError: It is not.
            DocumentProcessingError: The document breaks a limit.
        """
        _validate(document)
        self._stored(document.document_id or _derived_id(document.source), tenant_id)
        return await self.ingest_document(document, tenant_id=tenant_id)

    async def delete_document(self, document_id: str, *, tenant_id: str | None = None) -> None:
        """Remove a document with all its versions.

        Raises:
            DocumentNotFoundError: The tenant has no such document.
        """
        self._stored(document_id, tenant_id)
        del self._documents(tenant_id)[document_id]

    async def list_documents(
        self, *, limit: int = 100, after: str | None = None, tenant_id: str | None = None
    ) -> list[DocumentInfo]:
        """Return documents by ascending id."""
        documents = self._documents(tenant_id)
        ids = sorted(key for key in documents if after is None or key > after)[:limit]
        return [_info(key, documents[key]) for key in ids]

    async def get_document(
        self, document_id: str, *, version: int | None = None, tenant_id: str | None = None
    ) -> Document:
        """Return a stored document with its text.

        Raises:
            DocumentNotFoundError: The tenant has no such document, or it has no such version.
        """
        stored = self._stored(document_id, tenant_id)
        number = len(stored.versions) if version is None else version
        if not 1 <= number <= len(stored.versions):
            message = f"Document {document_id!r} has no version {version!r}."
            raise DocumentNotFoundError(message, remedy=f"It has 1 to {len(stored.versions)}.")
        return stored.versions[number - 1]

    async def retrieve(
        self,
        query: str,
        *,
        limit: int = 8,
        document_ids: Sequence[str] = (),
        tenant_id: str | None = None,
    ) -> list[RetrievedChunk]:
        """Return the chunks that share most words with `query`, best first.

        Raises:
            RetrievalError: The query is empty or too long, or the limit is out of range.
        """
        documents = self._documents(tenant_id)
        wanted = _query_words(query, limit)
        found = [
            chunk
            for document_id, stored in documents.items()
            if not document_ids or document_id in document_ids
            for chunk in _matches(document_id, stored, wanted)
        ]
        found.sort(key=lambda chunk: (-chunk.score, chunk.document_id, chunk.chunk))
        return found[:limit]

    async def query(
        self,
        query: str,
        *,
        limit: int = 8,
        document_ids: Sequence[str] = (),
        model: str | None = None,
        tenant_id: str | None = None,
    ) -> Answer:
        """Answer with the sentence that shares most words with `query`, cited.

        Raises:
            RetrievalError: The query is empty or too long, or the limit is out of range.
        """
        chunks = await self.retrieve(
            query, limit=limit, document_ids=document_ids, tenant_id=tenant_id
        )
        name = model or "fake"
        if not chunks:
            return Answer(query=query, answer=_DONT_KNOW, answered=False, model=name)
        citation = _best_sentence(chunks[0], _words(query))
        text = f"{' '.join(citation.quote.split())} [1]"
        return Answer(query=query, answer=text, citations=(citation,), model=name)

    async def health(self) -> Health:
        """Say that it answers, by words only."""
        return Health("ok", detail="In memory, by words only.")

    def _documents(self, tenant_id: str | None) -> dict[str, _Stored]:
        return self._tenants.setdefault(resolve_tenant(tenant_id), {})

    def _stored(self, document_id: str, tenant_id: str | None) -> _Stored:
        try:
            return self._documents(tenant_id)[document_id]
        except KeyError:
            message = f"There is no document {document_id[:80]!r}."
            raise DocumentNotFoundError(
                message, remedy="List the documents for their ids."
            ) from None


def _validate(document: Document) -> None:
    problem = None
    if not document.text.strip() or len(document.text) > _MAX_TEXT:
        problem = f"The text has {len(document.text)} characters, or only blanks."
    elif len(document.title) > _MAX_TITLE:
        problem = f"The title has {len(document.title)} characters."
    elif not document.source.strip() or len(document.source) > _MAX_SOURCE:
        problem = f"The source has {len(document.source)} characters, or only blanks."
    elif any(
        character == "\0" or "\ud800" <= character <= "\udfff"
        for part in (document.text, document.title, document.source)
        for character in part
    ):
        problem = "The document holds NUL characters or lone surrogates."
    if problem is None and document.document_id is not None:
        try:
            Identifier(document.document_id)
        except InvalidIdentifierError as error:
            problem = str(error)
    if problem is not None:
        raise DocumentProcessingError(problem, remedy="Correct the document and send it again.")


def _derived_id(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()[:32]


def _digest(document: Document) -> str:
    parts = (document.title, document.text, document.sections, sorted(document.metadata.items()))
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _info(document_id: str, stored: _Stored) -> DocumentInfo:
    current = stored.current
    return DocumentInfo(
        document_id=document_id,
        title=current.title,
        source=current.source,
        version=len(stored.versions),
        media_type=current.media_type,
        digest=stored.digest,
        characters=len(current.text),
        chunks=sum(1 for _ in _spans(current.text)),
        updated_at=stored.updated_at,
        metadata=current.metadata,
    )


def _query_words(query: str, limit: int) -> frozenset[str]:
    if not query.strip() or len(query) > _MAX_QUERY:
        message = f"The query has {len(query)} characters, or only blanks."
        raise RetrievalError(message, remedy=f"Ask in 1 to {_MAX_QUERY} characters.")
    if not 1 <= limit <= _MAX_LIMIT:
        message = f"The limit {limit!r} is out of range."
        raise RetrievalError(message, remedy=f"Use 1 to {_MAX_LIMIT}.")
    return _words(query)


def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.lower())) - _STOP_WORDS


def _spans(text: str) -> Iterator[tuple[int, int]]:
    for match in _PARAGRAPH.finditer(text):
        yield match.start(), match.start() + len(match.group().rstrip())


def _matches(document_id: str, stored: _Stored, wanted: frozenset[str]) -> Iterator[RetrievedChunk]:
    document = stored.current
    for number, (start, end) in enumerate(_spans(document.text)):
        text = document.text[start:end]
        shared = len(wanted & _words(text))
        if shared:
            section = next((s for s in document.sections if s.start <= start < s.end), None)
            yield RetrievedChunk(
                document_id=document_id,
                version=len(stored.versions),
                chunk=number,
                title=document.title,
                source=document.source,
                text=text,
                start=start,
                end=end,
                page=section.page if section else None,
                heading=section.heading if section else None,
                score=shared / len(wanted),
                lexical=float(shared),
            )


def _best_sentence(chunk: RetrievedChunk, wanted: frozenset[str]) -> Citation:
    spans = [match.span() for match in _SENTENCE.finditer(chunk.text)]
    start, end = max(spans, key=lambda span: len(wanted & _words(chunk.text[slice(*span)])))
    quote = chunk.text[start:end].rstrip()
    return Citation(
        document_id=chunk.document_id,
        title=chunk.title,
        source=chunk.source,
        version=chunk.version,
        page=chunk.page,
        heading=chunk.heading,
        start=chunk.start + start,
        end=chunk.start + start + len(quote),
        quote=quote,
        score=chunk.score,
    )
