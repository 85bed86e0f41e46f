"""The search: embed the query, run one statement, drop near-identical chunks."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, cast

from motadata.core.errors import ConfigurationError, GatewayError, QueryError, RetrievalError
from motadata.core.models import RetrievedChunk, Section
from motadata.core.observability import span
from motadata.core.protocols import Database, Gateway, Row
from motadata.core.tenancy import TenantId
from motadata.rag import _sql
from motadata.rag._lexical import words_of
from motadata.rag.options import RAGOptions


_K1: Final = 1.5
_B: Final = 0.75
_MAX_WORDS: Final = 300
_SPARE: Final = 3
"""How many times the wanted chunks are read, since some are dropped as copies of others."""

_SAME: Final = 0.9
"""Share of words from which on two chunks are taken for copies."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that the search found.

    Attributes:
        sections: The document's sections that it touches.
        coverage: Share of the query's words that it holds, weighted by how rare they are.
    """

    chunk: RetrievedChunk
    sections: tuple[Section, ...]
    coverage: float


class Retriever:
    """Searches for one RAG system.

    Attributes:
        unavailable: Why the last search found no embedding model; None when it found one.
    """

    def __init__(
        self, db: Database, gateway: Gateway, embedding_model: str | None, options: RAGOptions
    ) -> None:
        self._db = db
        self._gateway = gateway
        self._model = embedding_model
        self._options = options
        self.unavailable: str | None = None

    async def search(
        self, query: str, *, limit: int, document_ids: Sequence[str], tenant: TenantId
    ) -> list[Hit]:
        """Return the chunks that fit best, best first.

        Raises:
            RetrievalError: The query could not be embedded, or the database refused.
        """
        with span("rag.retrieve", tenant_id=tenant, limit=limit) as current:
            vector, model = await self._embedded(query, tenant)
            counts = (await asyncio.to_thread(words_of, query)).counts.most_common(_MAX_WORDS)
            arguments = (
                *(tenant, [word for word, _ in counts], [count for _, count in counts]),
                *(vector, model, max(self._options.candidates, limit)),
                *(self._options.vector_weight, list(document_ids), limit * _SPARE, _K1, _B),
            )
            with span("rag.search", tenant_id=tenant):
                rows = await self._rows(arguments, tenant)
            hits = self._chosen(map(_hit, rows), limit)
            current.set_attribute("chunks", len(hits))
            return hits

    def is_relevant(self, hits: Sequence[Hit]) -> bool:
        """Tell whether any of the chunks may hold an answer."""
        coverage = max((hit.coverage for hit in hits), default=0.0)
        known = [hit.chunk.similarity for hit in hits if hit.chunk.similarity is not None]
        if not known:
            # Words alone cannot know a paraphrase: they have to promise less.
            return bool(hits) and coverage >= self._options.min_coverage / 2
        return max(known) >= self._options.min_similarity or coverage >= self._options.min_coverage

    async def _embedded(
        self, query: str, tenant: TenantId
    ) -> tuple[tuple[float, ...] | None, str | None]:
        with span("rag.embed_query", tenant_id=tenant):
            try:
                found = await self._gateway.embed(
                    [query], model=self._model, timeout=self._options.timeout, tenant_id=tenant
                )
            except ConfigurationError as error:
                self.unavailable = str(error)
                return None, None
            except GatewayError as error:
                message = f"The query could not be embedded: {error}"
                raise RetrievalError(message, retryable=error.retryable) from error
        self.unavailable = None
        return found.vectors[0], found.model

    async def _rows(self, arguments: Sequence[object], tenant: TenantId) -> list[Row]:
        try:
            async with self._db.transaction(tenant) as transaction:
                await transaction.execute(_sql.CUSTOM_PLAN)
                return await transaction.fetch(_sql.SEARCH, *arguments)
        except QueryError as error:
            message = f"The search failed: {error}"
            raise RetrievalError(message, retryable=error.retryable) from error

    def _chosen(self, hits: Iterable[Hit], limit: int) -> list[Hit]:
        most = self._options.max_chunks_per_document or limit
        chosen: list[Hit] = []
        seen: list[frozenset[str]] = []
        documents: Counter[str] = Counter()
        for hit in hits:
            words = frozenset(hit.chunk.text.casefold().split())
            if documents[hit.chunk.document_id] >= most or any(_same(words, old) for old in seen):
                continue
            documents[hit.chunk.document_id] += 1
            chosen.append(hit)
            seen.append(words)
            if len(chosen) == limit:
                break
        return chosen


def _same(one: frozenset[str], other: frozenset[str]) -> bool:
    if min(len(one), len(other)) < _SAME * max(len(one), len(other)):
        return False
    return len(one & other) >= _SAME * len(one | other)


def _hit(row: Row) -> Hit:
    similarity = cast("float | None", row["similarity"])
    lexical = cast("float | None", row["lexical"])
    chunk = RetrievedChunk(
        document_id=cast("str", row["document_id"]),
        version=cast("int", row["version"]),
        chunk=cast("int", row["ordinal"]),
        title=cast("str", row["title"]),
        source=cast("str", row["source"]),
        text=cast("str", row["text"]),
        start=cast("int", row["start_offset"]),
        end=cast("int", row["end_offset"]),
        page=cast("int | None", row["page"]),
        heading=cast("str | None", row["heading"]),
        score=cast("float", row["score"]),
        similarity=similarity,
        lexical=lexical,
    )
    return Hit(chunk, sections_of(row["sections"]), cast("float", row["coverage"]))


def sections_of(stored: object) -> tuple[Section, ...]:
    """Return sections from their stored form, lists of start, end, page and heading."""
    rows = cast("list[tuple[int, int, int | None, str | None]]", stored)
    return tuple(Section(start, end, page, heading) for start, end, page, heading in rows)
