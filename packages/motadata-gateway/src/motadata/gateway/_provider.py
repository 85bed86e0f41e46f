"""The contract between the gateway and whoever serves models: litellm, offline models, yours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, Protocol, runtime_checkable

from motadata.core.models import Completion, CompletionChunk, Embeddings, Health
from motadata.gateway._requests import ChatRequest, EmbeddingRequest


ALIVE: Final = CompletionChunk("")
"""A part of a stream that says nothing but that more is coming; no caller gets it."""


@runtime_checkable
class Provider(Protocol):
    """Serves the models whose names begin with `<name>/`.

    Requests arrive validated, within the tenant's scope and under the gateway's time limit. What a
    provider raises is an `SDKError`; its text holds no key, prompt or document.

    Raises:
        ConfigurationError: The model is unknown, or a key or package is missing.
        ValidationError: This model cannot take this request.
        ProviderError: The provider failed; `retryable` says whether a second try can help.
        RateLimitError: The provider asks to wait.
    """

    @property
    def name(self) -> str:
        """The prefix of its models, such as `openai`."""
        ...

    @property
    def revision(self) -> str:
        """A word that changes when equal requests begin to get other answers.

        It is part of the keys of the response cache.
        """
        ...

    async def complete(self, request: ChatRequest) -> Completion:
        """Return the whole answer."""
        ...

    def stream(self, request: ChatRequest) -> AsyncIterator[CompletionChunk]:
        """Yield the answer as it comes; the last chunk carries finish reason, tools and usage.

        What has no text yet, such as the arguments of a tool call, is told as `ALIVE`: the gateway
        gives up a stream from which nothing comes. Closing the iterator ends the request.
        """
        ...

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Return one vector a text, in order; the gateway brings them to unit length."""
        ...

    async def health(self) -> Health:
        """Say what can be called, without calling it."""
        ...

    async def aclose(self) -> None:
        """Release threads and connections."""
        ...
