"""Documents into the database: cut, embed outside of any transaction, then store in one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

from motadata.core.errors import (
    ConfigurationError,
    DocumentNotFoundError,
    DocumentProcessingError,
    GatewayError,
    QueryError,
)
from motadata.core.models import Document, IngestedDocument
from motadata.core.observability import get_logger, span
from motadata.core.protocols import Database, Gateway, Row, Transaction
from motadata.core.tenancy import TenantId
from motadata.rag import _sql
from motadata.rag._preparation import PreparedChunk, digest_of, prepare
from motadata.rag._validation import check_document
from motadata.rag.options import RAGOptions


_BLOCK: Final = 500
"""Chunks whose words are stored by one statement."""

_log = get_logger("rag")


@dataclass(frozen=True, slots=True)
class _Vectors:
    """The chunks' vectors, in their order; none at all when there is no embedding model."""

    values: tuple[tuple[float, ...] | None, ...]
    model: str | None


class Ingester:
    """Stores documents for one RAG system.

    Attributes:
        unavailable: Why the last attempt found no embedding model; None when it found one.
    """

    def __init__(
        self, db: Database, gateway: Gateway, embedding_model: str | None, options: RAGOptions
    ) -> None:
        self._db = db
        self._gateway = gateway
        self._requested_model = embedding_model
        self._options = options
        # The name under which the model answers, known once it did.
        self._model: str | None = None
        self.unavailable: str | None = None

    async def ingest(
        self, document: Document, tenant: TenantId, *, must_exist: bool
    ) -> IngestedDocument:
        """Store a document, or find that there is nothing to do.

        Raises:
            DocumentProcessingError: It cannot be stored; nothing of it was.
            DocumentNotFoundError: It must exist and does not.
        """
        document_id = await asyncio.to_thread(check_document, document)
        digest = await asyncio.to_thread(digest_of, document, self._options)
        try:
            async with self._db.transaction(tenant) as transaction:
                stored = await transaction.fetch_one(_sql.CURRENT_DOCUMENT, tenant, document_id)
            if stored is None and must_exist:
                raise _not_found(document_id)
            if stored is not None and self._is_done(stored, digest):
                return _unchanged(document_id, stored)
            with span("rag.chunk", tenant_id=tenant):
                chunks = await asyncio.to_thread(prepare, document, self._options)
            vectors = await self._embed(chunks, tenant)
            with span("rag.store", tenant_id=tenant, chunks=len(chunks)):
                return await self._store(
                    document, document_id, digest, chunks, vectors, tenant, must_exist=must_exist
                )
        except QueryError as error:
            message = f"The document {document_id!r} could not be stored: {error}"
            raise DocumentProcessingError(message, retryable=error.retryable) from error

    async def delete(self, document_id: str, tenant: TenantId) -> None:
        """Remove a document with all its versions.

        Raises:
            DocumentNotFoundError: The tenant has no such document.
        """
        async with self._db.transaction(tenant, timeout=self._options.store_timeout) as transaction:
            await transaction.execute(_sql.LOCK_DOCUMENT, tenant, document_id)
            gone = await transaction.fetch_one(_sql.DELETE_DOCUMENT, tenant, document_id)
            if gone is None:
                raise _not_found(document_id)
            chunks, words = cast("int", gone["chunks"]), cast("int", gone["words"])
            await transaction.execute(_sql.BUMP_GENERATION, tenant, -chunks, -words)

    def _is_done(self, stored: Row, digest: str) -> bool:
        model = stored["embedding_model"]
        return (
            stored["digest"] == digest
            and model is not None
            and (self._model is None or model == self._model)
        )

    async def _embed(self, chunks: Sequence[PreparedChunk], tenant: TenantId) -> _Vectors:
        values: list[tuple[float, ...] | None] = []
        model: str | None = None
        batch = self._options.embedding_batch
        with span("rag.embed", tenant_id=tenant, chunks=len(chunks)):
            for first in range(0, len(chunks), batch):
                texts = [chunk.embedded_text for chunk in chunks[first : first + batch]]
                try:
                    found = await self._gateway.embed(
                        texts,
                        model=self._requested_model,
                        timeout=self._options.timeout,
                        tenant_id=tenant,
                    )
                except ConfigurationError as error:
                    return self._without_vectors(len(chunks), error)
                except GatewayError as error:
                    message = f"The chunks could not be embedded: {error}"
                    raise DocumentProcessingError(message, retryable=error.retryable) from error
                if len(found.vectors) != len(texts) or model not in (None, found.model):
                    message = (
                        f"The embedding model {found.model!r} gave {len(found.vectors)} vectors for"
                        f" {len(texts)} texts, or is another than before ({model!r})."
                    )
                    raise DocumentProcessingError(message, retryable=True)
                model = found.model
                values.extend(found.vectors)
        self._model, self.unavailable = model, None
        return _Vectors(tuple(values), model)

    def _without_vectors(self, count: int, error: ConfigurationError) -> _Vectors:
        self.unavailable = str(error)
        _log.warning("embedding_unavailable", reason=str(error))
        return _Vectors((None,) * count, None)

    async def _store(
        self,
        document: Document,
        document_id: str,
        digest: str,
        chunks: Sequence[PreparedChunk],
        vectors: _Vectors,
        tenant: TenantId,
        *,
        must_exist: bool,
    ) -> IngestedDocument:
        async with self._db.transaction(tenant, timeout=self._options.store_timeout) as transaction:
            await transaction.execute(_sql.LOCK_DOCUMENT, tenant, document_id)
            stored = await transaction.fetch_one(_sql.CURRENT_DOCUMENT, tenant, document_id)
            if stored is None and must_exist:
                raise _not_found(document_id)
            # Another instance may have been faster since the first look.
            if (
                stored is not None
                and stored["digest"] == digest
                and vectors.model in (None, stored["embedding_model"])
            ):
                return _unchanged(document_id, stored)
            version = 1 if stored is None else cast("int", stored["version"]) + 1
            words = sum(chunk.words.length for chunk in chunks)
            await self._write_document(
                transaction, tenant, document, document_id, version, digest, chunks, words, vectors
            )
            await _write_chunks(transaction, tenant, document_id, version, chunks, vectors)
            before = (0, 0) if stored is None else (stored["chunks"], stored["words"])
            known_chunks, known_words = cast("tuple[int, int]", before)
            # Last, for this row is what all writers of the tenant wait for.
            await transaction.execute(
                _sql.BUMP_GENERATION, tenant, len(chunks) - known_chunks, words - known_words
            )
        return IngestedDocument(
            document_id=document_id,
            title=document.title,
            source=document.source,
            version=version,
            chunks=len(chunks),
            outcome="created" if stored is None else "updated",
            embedded=vectors.model is not None,
        )

    async def _write_document(
        self,
        transaction: Transaction,
        tenant: TenantId,
        document: Document,
        document_id: str,
        version: int,
        digest: str,
        chunks: Sequence[PreparedChunk],
        words: int,
        vectors: _Vectors,
    ) -> None:
        about = (document.title, document.source, document.media_type, dict(document.metadata))
        await transaction.execute(
            _sql.UPSERT_DOCUMENT,
            *(tenant, document_id, version, *about, digest),
            *(len(document.text), len(chunks), words, vectors.model),
        )
        sections = [[part.start, part.end, part.page, part.heading] for part in document.sections]
        await transaction.execute(
            _sql.INSERT_VERSION,
            *(tenant, document_id, version, *about, sections, document.text, digest),
        )
        if version > 1:
            await transaction.execute(_sql.DELETE_CHUNKS, tenant, document_id)
            await transaction.execute(_sql.DELETE_POSTINGS, tenant, document_id)
            oldest = version - self._options.kept_versions
            await transaction.execute(_sql.DELETE_OLD_VERSIONS, tenant, document_id, oldest)


async def _write_chunks(
    transaction: Transaction,
    tenant: TenantId,
    document_id: str,
    version: int,
    chunks: Sequence[PreparedChunk],
    vectors: _Vectors,
) -> None:
    rows = (
        (
            *(tenant, document_id, item.chunk.ordinal, version),
            *(item.chunk.start, item.chunk.end, item.chunk.page, item.chunk.heading),
            [[part.start, part.end, part.page, part.heading] for part in item.chunk.sections],
            *(item.text, vectors.model, vector),
        )
        for item, vector in zip(chunks, vectors.values, strict=True)
    )
    await transaction.execute_many(_sql.INSERT_CHUNK, rows)
    for block, first in enumerate(range(0, len(chunks), _BLOCK)):
        part = chunks[first : first + _BLOCK]
        found = [
            (word, item.chunk.ordinal, count)
            for item in part
            for word, count in item.words.counts.items()
        ]
        if found:
            words, ordinals, frequencies = (list(column) for column in zip(*found, strict=True))
            lengths = [item.words.length for item in part]
            await transaction.execute(
                _sql.INSERT_POSTINGS,
                *(tenant, document_id, block, words, ordinals, frequencies, first, lengths),
            )


def _unchanged(document_id: str, stored: Row) -> IngestedDocument:
    return IngestedDocument(
        document_id=document_id,
        title=cast("str", stored["title"]),
        source=cast("str", stored["source"]),
        version=cast("int", stored["version"]),
        chunks=cast("int", stored["chunks"]),
        outcome="unchanged",
        embedded=stored["embedding_model"] is not None,
    )


def _not_found(document_id: str) -> DocumentNotFoundError:
    message = f"There is no document {document_id[:80]!r}."
    return DocumentNotFoundError(message, remedy="List the documents for their ids.")
