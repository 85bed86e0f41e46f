"""How a platform finds and opens the knowledge base."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from motadata.core.platform import ComponentSpec, Platform
from motadata.core.settings import Settings
from motadata.rag._system import RAGSystem, create_rag_system
from motadata.rag.options import RAGOptions


class RAGSettings(Settings, prefix="MOTADATA_RAG_"):
    """Settings of the knowledge base, from variables such as `MOTADATA_RAG_GENERATION_MODEL`.

    Attributes:
        embedding_model: None means the gateway's default.
        generation_model: None means the gateway's default.
        chunk_tokens: Estimated tokens of a chunk; changing it chunks documents again on ingestion.
        kept_versions: Versions of a document whose text is kept.
        vector_weight: Share of the vector side in the score, 0 to 1.
        cache_ttl: Seconds that an answer may be served from the cache.
        timeout: Seconds for each call of a model.
    """

    embedding_model: str | None = None
    generation_model: str | None = None
    chunk_tokens: int = RAGOptions().chunk_tokens
    kept_versions: int = RAGOptions().kept_versions
    vector_weight: float = RAGOptions().vector_weight
    cache_ttl: float = RAGOptions().cache_ttl
    timeout: float = RAGOptions().timeout


@asynccontextmanager
async def open_knowledge_base(platform: Platform) -> AsyncIterator[RAGSystem]:
    """Build the knowledge base from the platform's database, gateway and cache.

    Raises:
        ConfigurationError: A setting does not fit.
    """
    settings = RAGSettings.from_environment(platform.environment)
    system = create_rag_system(
        platform.database,
        platform.gateway,
        settings.embedding_model,
        settings.generation_model,
        cache=platform.cache if platform.has("cache") else None,
        options=RAGOptions(
            chunk_tokens=settings.chunk_tokens,
            kept_versions=settings.kept_versions,
            vector_weight=settings.vector_weight,
            cache_ttl=settings.cache_ttl,
            timeout=settings.timeout,
        ),
    )
    async with system:
        yield system


COMPONENT = ComponentSpec(
    name="knowledge_base",
    open=open_knowledge_base,
    requires=("database", "gateway"),
    uses=("cache",),
    migrations="motadata.rag.migrations",
)
