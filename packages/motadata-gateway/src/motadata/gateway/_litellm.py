"""The provider that reaches every vendor through litellm, which is imported by the first call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from pydantic import SecretStr

from motadata.core.models import Completion, CompletionChunk, Embeddings, Health
from motadata.core.observability import inject_trace
from motadata.gateway import _wire
from motadata.gateway._keys import KeySource, key_for
from motadata.gateway._litellm_endings import Ending
from motadata.gateway._litellm_errors import mapped
from motadata.gateway._litellm_module import loaded
from motadata.gateway._provider import ALIVE
from motadata.gateway._requests import ChatRequest, EmbeddingRequest
from motadata.gateway._wire_requests import chat_arguments
from motadata.gateway._wire_streams import StreamCollector


_CLOSE_TIMEOUT: Final = 5.0
_GOOGLE: Final = frozenset({"gemini", "vertex_ai", "vertex_ai_beta"})
"""Who answers in Gemini's words, which litellm shortens."""


class _Never(int):
    """Zero that counts as true: litellm's embedding reads `max_retries or 2`."""

    def __bool__(self) -> bool:
        return True


_NEVER: Final = _Never(0)


class LiteLLMProvider:
    """Serves the models of one of litellm's providers.

    litellm retries nothing here, keeps no cache and runs no callback; those are the gateway's.

    Args:
        name: As litellm calls the provider.
        api_key: None leaves it to litellm to find credentials in the environment.
        base_url: None means the provider's own address.
        keys: Knows the keys that tenants brought along.
    """

    def __init__(
        self,
        name: str,
        *,
        api_key: SecretStr | None = None,
        base_url: str | None = None,
        keys: KeySource | None = None,
    ) -> None:
        self._name = name
        self._api_key = api_key
        self._base_url = base_url
        self._keys = keys

    @property
    def name(self) -> str:
        """The prefix of its models."""
        return self._name

    @property
    def revision(self) -> str:
        """Its address: equal names may be other models elsewhere."""
        return self._base_url or ""

    async def complete(self, request: ChatRequest) -> Completion:
        """Return the whole answer.

        Raises:
            ConfigurationError: The model is unknown, or the key is missing or wrong.
            ValidationError: The provider refused the request.
            ProviderError: The provider failed.
            RateLimitError: The provider asks to wait.
        """
        litellm = await loaded()
        arguments = await self._chat(request, stream=False)
        ending = Ending(request.model)
        if self._name in _GOOGLE:
            arguments["logger_fn"] = ending.hear
        with mapped(request.model):
            response = await litellm.acompletion(**arguments)
            return ending.corrected(_wire.completion(response, request.model))

    async def stream(self, request: ChatRequest) -> AsyncIterator[CompletionChunk]:
        """Yield the answer as it comes; closing the iterator closes the connection.

        Raises:
            ConfigurationError: The model is unknown, or the key is missing or wrong.
            ValidationError: The provider refused the request.
            ProviderError: The provider failed, or ended before the answer did.
            RateLimitError: The provider asks to wait.
        """
        litellm = await loaded()
        collector, ending = StreamCollector(request), Ending(request.model)
        arguments = await self._chat(request, stream=True)
        with mapped(request.model):
            response = await litellm.acompletion(**arguments)
            ending.watch(response)
            try:
                async for part in response:
                    text = collector.text_of(part)
                    yield CompletionChunk(text) if text else ALIVE
                collector.ended(complete=ending.was_told)
            finally:
                await _close(response)
        answer = ending.corrected(collector.completion())
        yield CompletionChunk("", answer.finish_reason, answer.tool_calls, answer.usage)

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Return one vector a text, in order.

        Raises:
            ConfigurationError: The model is unknown, or the key is missing or wrong.
            ValidationError: The provider refused a text.
            ProviderError: The provider failed.
            RateLimitError: The provider asks to wait.
        """
        litellm = await loaded()
        access = await self._access()
        with mapped(request.model):
            response = await litellm.aembedding(
                model=request.model, input=list(request.texts), **access
            )
            return _wire.embeddings(response, request.model)

    async def health(self) -> Health:
        """Say whether there is a key; nothing is called."""
        if self._api_key is not None:
            return Health("ok", detail="Has a key.")
        return Health("ok", detail="Has no key of its own; litellm looks in the environment.")

    async def aclose(self) -> None:
        """Do nothing: litellm shares its connections between all who use it in this process."""

    async def _chat(self, request: ChatRequest, *, stream: bool) -> dict[str, object]:
        arguments = chat_arguments(request, model=request.model) | await self._access()
        if request.tools:
            # Otherwise litellm imports the package `mcp`, which it does not depend on, to look for
            # tools of its own proxy among ours.
            arguments["_skip_mcp_handler"] = True
        if stream:
            arguments |= {"stream": True, "stream_options": {"include_usage": True}}
        return arguments

    async def _access(self) -> dict[str, object]:
        """Return key, address, the trace, and the word that nothing is tried twice."""
        access: dict[str, object] = {"num_retries": 0, "max_retries": _NEVER}
        headers: dict[str, str] = {}
        inject_trace(headers)
        if headers:
            access["extra_headers"] = headers
        key = await key_for(self._name, self._api_key, self._keys)
        if key is not None:
            access["api_key"] = key.get_secret_value()
        if self._base_url is not None:
            access["api_base"] = self._base_url
        return access


async def _close(response: object) -> None:
    """Close a stream; its connection is dropped when it does not close in time."""
    close = getattr(response, "aclose", None)
    if close is not None:
        async with asyncio.timeout(_CLOSE_TIMEOUT):
            await close()
