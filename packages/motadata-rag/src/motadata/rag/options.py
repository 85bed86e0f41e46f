"""What can be tuned about a RAG system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from motadata.core.errors import ConfigurationError


_RANGES: Final = {
    "chunk_tokens": (20, 8_000),
    "overlap_tokens": (0, 4_000),
    "embedding_batch": (1, 2_048),
    "kept_versions": (1, 1_000),
    "candidates": (1, 1_000),
    "vector_weight": (0.0, 1.0),
    "max_chunks_per_document": (1, 100),
    "min_similarity": (-1.0, 1.0),
    "min_coverage": (0.0, 1.0),
    "cache_ttl": (0.001, 31_536_000.0),
    "max_answer_tokens": (1, 1_000_000),
    "timeout": (0.001, 86_400.0),
    "store_timeout": (0.001, 86_400.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RAGOptions:
    """Limits and weights of a RAG system; the defaults are the ones that were measured.

    Attributes:
        chunk_tokens: Most estimated tokens of a chunk.
        overlap_tokens: Most tokens of whole sentences that neighbouring chunks share.
        embedding_batch: Texts a call to the embedding model.
        kept_versions: Versions of a document whose text is kept, the current one included.
        candidates: Chunks that each side of the hybrid search contributes.
        vector_weight: Share of the vector side in the fused score, 0 to 1. Raise it for embedding
            models whose cosines lie close together.
        max_chunks_per_document: Most chunks of one document in a result; None sets no limit.
        min_similarity: When the best chunk's cosine is below this, and `min_coverage` is missed as
            well, the documents do not hold an answer and no model is asked.
        min_coverage: Share of the query's words, weighted by how rare they are, in the best chunk;
            half of it is asked for when there are no vectors.
        cache_ttl: Seconds that an answer may be served from the cache.
        max_answer_tokens: Most tokens of an answer.
        timeout: Seconds for each call of a model.
        store_timeout: Seconds for each statement that stores a document.

    Raises:
        ConfigurationError: A value is out of range.
    """

    chunk_tokens: int = 220
    overlap_tokens: int = 30
    embedding_batch: int = 64
    kept_versions: int = 10
    candidates: int = 100
    vector_weight: float = 0.5
    max_chunks_per_document: int | None = None
    min_similarity: float = 0.25
    min_coverage: float = 0.5
    cache_ttl: float = 3600.0
    max_answer_tokens: int = 1024
    timeout: float = 60.0
    store_timeout: float = 120.0

    def __post_init__(self) -> None:
        """Check every value."""
        for name, (lowest, highest) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not lowest <= value <= highest:
                message = f"{name}={value!r} is out of range."
                raise ConfigurationError(message, remedy=f"Use {lowest:g} to {highest:g}.")
        if self.overlap_tokens * 2 > self.chunk_tokens:
            message = f"overlap_tokens={self.overlap_tokens!r} is more than half a chunk."
            raise ConfigurationError(message, remedy="Lower it, or raise chunk_tokens.")
