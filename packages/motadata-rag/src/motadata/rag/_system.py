"""The RAG system: documents in, cited answers out, per tenant."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Final, Self, cast

from motadata.core.errors import (
    CacheError,
    DocumentNotFoundError,
    InvalidIdentifierError,
    RetrievalError,
)
from motadata.core.models import (
    Answer,
    Document,
    DocumentInfo,
    Health,
    IngestedDocument,
    RetrievedChunk,
    Usage,
)
from motadata.core.observability import get_logger, span
from motadata.core.protocols import Cache, Database, Gateway, Row
from motadata.core.tenancy import Identifier, TenantId, resolve_tenant
from motadata.rag import _sql
from motadata.rag._answering import answer_from, messages_for, no_answer
from motadata.rag._ingestion import Ingester
from motadata.rag._retrieval import Retriever, sections_of
from motadata.rag._validation import MAX_VERSION, check_query
from motadata.rag.options import RAGOptions


_CACHE_NAMESPACE: Final = "rag_answers"
_MAX_PAGE: Final = 1_000

_log = get_logger("rag")


class RAGSystem:
    """Answers from a tenant's documents; built by `create_rag_system`.

    It holds nothing open itself: entering and leaving it do nothing to the database, the gateway
    and the cache that it was given.
    """

    def __init__(
        self,
        db: Database,
        gateway: Gateway,
        *,
        embedding_model: str | None,
        generation_model: str | None,
        cache: Cache | None,
        options: RAGOptions,
    ) -> None:
        self._db = db
        self._gateway = gateway
        self._cache = cache
        self._embedding_model = embedding_model
        self._generation_model = generation_model
        self._options = options
        self._ingester = Ingester(db, gateway, embedding_model, options)
        self._retriever = Retriever(db, gateway, embedding_model, options)

    async def __aenter__(self) -> Self:
        """Acquire nothing."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release nothing."""

    async def ingest_document(
        self, document: Document, *, tenant_id: str | None = None
    ) -> IngestedDocument:
        """Store a document: a new one, a new version of a known one, or nothing if unchanged.

        The document is cut and embedded first and stored in one transaction then. Cancelled or
        crashed before its commit, nothing has changed.

        Raises:
            TenantRequiredError: No tenant is given and none is in scope.
            DocumentProcessingError: It cannot be stored; nothing of it was.
            ConnectionError: The database cannot be reached.
        """
        tenant = resolve_tenant(tenant_id)
        with span("rag.ingest", tenant_id=tenant) as current:
            stored = await self._ingester.ingest(document, tenant, must_exist=False)
            current.set_attribute("outcome", stored.outcome)
            return stored

    async def update_document(
        self, document: Document, *, tenant_id: str | None = None
    ) -> IngestedDocument:
        """Like `ingest_document`, for a document that must be there already.

        Raises:
            TenantRequiredError: No tenant is given and none is in scope.
            DocumentNotFoundError: The tenant has no such document.
            DocumentProcessingError: It cannot be stored; nothing of it was.
            ConnectionError: The database cannot be reached.
        """
        tenant = resolve_tenant(tenant_id)
        with span("rag.ingest", tenant_id=tenant) as current:
            stored = await self._ingester.ingest(document, tenant, must_exist=True)
            current.set_attribute("outcome", stored.outcome)
            return stored

    async def delete_document(self, document_id: str, *, tenant_id: str | None = None) -> None:
        """Remove a document with all its versions.

        Raises:
            TenantRequiredError: No tenant is given and none is in scope.
            DocumentNotFoundError: The tenant has no such document.
            ConnectionError: The database cannot be reached.
        """
        tenant = resolve_tenant(tenant_id)
        with span("rag.delete", tenant_id=tenant):
            await self._ingester.delete(_known_id(document_id), tenant)

    async def list_documents(
        self, *, limit: int = 100, after: str | None = None, tenant_id: str | None = None
    ) -> list[DocumentInfo]:
        """Return documents by ascending id; `after` is the last id of the page before.

        Raises:
            TenantRequiredError: No tenant is given and none is in scope.
            RetrievalError: The limit is not from 1 to 1000, or `after` is no document id.
            ConnectionError: The database cannot be reached.
        """
        tenant = resolve_tenant(tenant_id)
        if not 1 <= limit <= _MAX_PAGE:
            message = f"limit={limit!r} is out of range."
            raise RetrievalError(message, remedy=f"Use 1 to {_MAX_PAGE}.")
        try:
            last = None if after is None else Identifier(after)
        except InvalidIdentifierError as error:
            raise RetrievalError(str(error), remedy="Pass the last id of a page.") from error
        rows = await self._db.execute_query(
            _sql.LIST_DOCUMENTS, tenant, last, limit, tenant_id=tenant
        )
        return [DocumentInfo(**row) for row in rows]  # type: ignore[arg-type]  # the columns are the fields

    async def get_document(
        self, document_id: str, *, version: int | None = None, tenant_id: str | None = None
    ) -> Document:
        """Return a stored document with its text; None for `version` means the current one.

        Raises:
            TenantRequiredError: No tenant is given and none is in scope.
            DocumentNotFoundError: The tenant has no such document, or that version is not kept.
            ConnectionError: The database cannot be reached.
        """
        tenant = resolve_tenant(tenant_id)
        known = _known_id(document_id)
        rows: list[Row] = []
        if version is None or 1 <= version <= MAX_VERSION:
            rows = await self._db.execute_query(
                _sql.GET_VERSION, tenant, known, version, tenant_id=tenant
            )
        if not rows:
            which = "" if version is None else f" with a version {version!r}"
            message = f"There is no document {known!r}{which}."
            raise DocumentNotFoundError(
                message, remedy=f"The last {self._options.kept_versions} versions are kept."
            )
        values = {**rows[0], "sections": sections_of(rows[0]["sections"])}
        return Document(**values)  # type: ignore[arg-type]  # the columns are the fields

    async def retrieve(
        self,
        query: str,
        *,
        limit: int = 8,
        document_ids: Sequence[str] = (),
        tenant_id: str | None = None,
    ) -> list[RetrievedChunk]:
        """Return the chunks that fit `query` best, best first; `document_ids` narrows the search.

        Raises:
            TenantRequiredError: No tenant is given and none is in scope.
            RetrievalError: An argument is out of range, or the search failed.
            ConnectionError: The database cannot be reached.
        """
        tenant = resolve_tenant(tenant_id)
        check_query(query, limit, document_ids)
        hits = await self._retriever.search(
            query, limit=limit, document_ids=document_ids, tenant=tenant
        )
        return [hit.chunk for hit in hits]

    async def query(
        self,
        query: str,
        *,
        limit: int = 8,
        document_ids: Sequence[str] = (),
        model: str | None = None,
        tenant_id: str | None = None,
    ) -> Answer:
        """Answer `query` from the documents, with citations, or say that they do not hold it.

        Args:
            query: The question, up to 8,000 characters.
            limit: Most passages that the model is given, 1 to 100.
            document_ids: Only these documents; none means all.
            model: Which model words the answer; None means the system's.
            tenant_id: None means the tenant of the scope.

        Raises:
            TenantRequiredError: No tenant is given and none is in scope.
            RetrievalError: An argument is out of range, or the search failed.
            GatewayError: The model failed.
            ConfigurationError: The model is unknown, or has no key.
            ConnectionError: The database cannot be reached.
        """
        tenant = resolve_tenant(tenant_id)
        check_query(query, limit, document_ids)
        with span("rag.query", tenant_id=tenant, limit=limit) as current:
            computed = False

            async def compute() -> Answer:
                nonlocal computed
                computed = True
                return await self._answer(query, limit, document_ids, model, tenant)

            if self._cache is None:
                return await compute()
            key = await self._cache_key(query, limit, document_ids, model, tenant)
            try:
                answer = await self._cache.get_or_compute(
                    key,
                    compute,
                    ttl=self._options.cache_ttl,
                    namespace=_CACHE_NAMESPACE,
                    tenant_id=tenant,
                )
            except CacheError as error:
                if computed:
                    raise
                _log.warning("query_cache_failed", code=error.code)
                return await compute()
            if computed or not isinstance(answer, Answer):
                return cast("Answer", answer) if computed else await compute()
            current.set_attribute("cached", True)
            # What it cost was paid by whoever asked first.
            return replace(answer, cached=True, usage=Usage(), trace_id=current.trace_id)

    async def health(self) -> Health:
        """Say whether it can answer, and whether by meaning or by words only."""
        database, gateway = await asyncio.gather(self._db.health(), self._gateway.health())
        components = {"database": database, "gateway": gateway}
        if "down" in (database.status, gateway.status):
            sick = "database" if database.status == "down" else "gateway"
            detail = f"The {sick} is down: {components[sick].detail}"
            return Health("down", detail=detail, components=components)
        unavailable = self._retriever.unavailable or self._ingester.unavailable
        if unavailable is not None:
            detail = f"Searches by words only: {unavailable}"
            return Health("degraded", detail=detail, components=components)
        if "degraded" in (database.status, gateway.status):
            detail = " ".join(filter(None, (database.detail, gateway.detail)))
            return Health("degraded", detail=detail, components=components)
        return Health("ok", components=components)

    async def _answer(
        self,
        query: str,
        limit: int,
        document_ids: Sequence[str],
        model: str | None,
        tenant: TenantId,
    ) -> Answer:
        with span("rag.answer", tenant_id=tenant) as current:
            hits = await self._retriever.search(
                query, limit=limit, document_ids=document_ids, tenant=tenant
            )
            if not self._retriever.is_relevant(hits):
                return no_answer(query, trace_id=current.trace_id)
            with span("rag.generate", tenant_id=tenant, passages=len(hits)):
                completion = await self._gateway.generate_async(
                    messages_for(query, hits),
                    model=model or self._generation_model,
                    temperature=0.0,
                    max_tokens=self._options.max_answer_tokens,
                    timeout=self._options.timeout,
                    tenant_id=tenant,
                )
            return answer_from(query, completion, hits, trace_id=current.trace_id)

    async def _cache_key(
        self,
        query: str,
        limit: int,
        document_ids: Sequence[str],
        model: str | None,
        tenant: TenantId,
    ) -> str:
        """Return a key that holds the generation of the tenant's documents.

        The generation is read before the documents are: an answer may rest on newer documents than
        its key says, never on older ones.
        """
        rows = await self._db.execute_query(_sql.GENERATION, tenant, tenant_id=tenant)
        generation = rows[0]["generation"] if rows else 0
        models = (self._embedding_model, model or self._generation_model)
        parts = (generation, models, query, limit, sorted(set(document_ids)), repr(self._options))
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def create_rag_system(
    db: Database,
    gateway: Gateway,
    embedding_model: str | None = None,
    generation_model: str | None = None,
    *,
    cache: Cache | None = None,
    options: RAGOptions | None = None,
) -> RAGSystem:
    """Return a RAG system on top of what it is given; all of it stays the caller's.

    Args:
        db: Where documents are stored; the migrations of `motadata.rag.migrations` have run there.
        gateway: Who embeds and words answers.
        embedding_model: None means the gateway's default.
        generation_model: None means the gateway's default.
        cache: Keeps answers until the tenant's documents change; None keeps none.
        options: Limits and weights.
    """
    return RAGSystem(
        db,
        gateway,
        embedding_model=embedding_model,
        generation_model=generation_model,
        cache=cache,
        options=options or RAGOptions(),
    )


def _known_id(document_id: str) -> str:
    try:
        return Identifier(document_id)
    except InvalidIdentifierError as error:
        raise DocumentNotFoundError(str(error), remedy="No document has such an id.") from error
