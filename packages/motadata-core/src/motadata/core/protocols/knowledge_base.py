"""The contract of a knowledge base: documents in, cited answers out, per tenant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from motadata.core.models import (
    Answer,
    Document,
    DocumentInfo,
    Health,
    IngestedDocument,
    RetrievedChunk,
)


class KnowledgeBase(Protocol):
    """Documents of a tenant that can be asked.

    What `ingest_document` acknowledged is found by the next query of that tenant, on every
    instance, and no answer is served any more that rests on an older version.

    Raises:
        TenantRequiredError: No tenant is given and none is in scope.
        DocumentProcessingError: A document cannot be stored; nothing of it was.
        DocumentNotFoundError: The tenant has no such document.
        RetrievalError: A query is empty or too long, or the search failed.
    """

    async def ingest_document(
        self, document: Document, *, tenant_id: str | None = None
    ) -> IngestedDocument:
        """Store a document: a new one, a new version of a known one, or nothing if unchanged."""
        ...

    async def update_document(
        self, document: Document, *, tenant_id: str | None = None
    ) -> IngestedDocument:
        """Like `ingest_document`, for a document that must be there already."""
        ...

    async def delete_document(self, document_id: str, *, tenant_id: str | None = None) -> None:
        """Remove a document with all its versions."""
        ...

    async def list_documents(
        self, *, limit: int = 100, after: str | None = None, tenant_id: str | None = None
    ) -> list[DocumentInfo]:
        """Return documents by ascending id; `after` is the last id of the page before."""
        ...

    async def get_document(
        self, document_id: str, *, version: int | None = None, tenant_id: str | None = None
    ) -> Document:
        """Return a stored document with its text; None for `version` means the current one."""
        ...

    async def retrieve(
        self,
        query: str,
        *,
        limit: int = 8,
        document_ids: Sequence[str] = (),
        tenant_id: str | None = None,
    ) -> list[RetrievedChunk]:
        """Return the chunks that fit `query` best, best first, of `document_ids` if any."""
        ...

    async def query(
        self,
        query: str,
        *,
        limit: int = 8,
        document_ids: Sequence[str] = (),
        model: str | None = None,
        tenant_id: str | None = None,
    ) -> Answer:
        """Answer `query` from the documents, with citations, or say that they do not hold it."""
        ...

    async def health(self) -> Health:
        """Say whether it can answer, and whether by meaning or by words only."""
        ...
