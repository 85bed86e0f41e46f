"""The contract of the gateway: one door to every language and embedding model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Literal, Protocol

from motadata.core.models import (
    Completion,
    CompletionChunk,
    Embeddings,
    Health,
    Message,
    ToolDefinition,
)


CachePolicy = Literal["use", "refresh", "bypass"]
"""`use` reads and writes the response cache, `refresh` only writes it, `bypass` does neither."""


class Gateway(Protocol):
    """Calls models on behalf of a tenant.

    A prompt is a string (one user turn) or a sequence of messages. None for `model` means the
    gateway's default, None for `tenant_id` the tenant of the scope.

    Raises:
        TenantRequiredError: No tenant is given and none is in scope.
        ValidationError: The request cannot be right: no message, an empty text, a bad parameter.
        ConfigurationError: The model is unknown, or its provider has no key.
        ProviderError: The provider failed or did not answer within `timeout`.
        RateLimitError: The provider, or a limit of ours, asks to wait.
    """

    async def generate_async(
        self,
        prompt: str | Sequence[Message],
        *,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        tools: Sequence[ToolDefinition] = (),
        timeout: float | None = None,
        cache: CachePolicy = "use",
        tenant_id: str | None = None,
    ) -> Completion:
        """Return the model's whole answer; `timeout` is in seconds."""
        ...

    def stream(
        self,
        prompt: str | Sequence[Message],
        *,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        tools: Sequence[ToolDefinition] = (),
        timeout: float | None = None,
        tenant_id: str | None = None,
    ) -> AsyncIterator[CompletionChunk]:
        """Yield the answer as it comes; the last chunk carries finish reason and usage.

        Closing the iterator ends the provider's request.
        """
        ...

    async def embed(
        self,
        texts: Sequence[str],
        *,
        model: str | None = None,
        timeout: float | None = None,
        tenant_id: str | None = None,
    ) -> Embeddings:
        """Return one unit-length vector a text, in order; no texts give no vectors."""
        ...

    async def health(self) -> Health:
        """Say which models can be called."""
        ...
