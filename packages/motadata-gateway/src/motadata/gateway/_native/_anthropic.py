"""Anthropic's own wire format."""

from __future__ import annotations

import os
from typing import Final

from pydantic import SecretStr

from motadata.core.errors import ConfigurationError
from motadata.core.models import Completion, Embeddings
from motadata.gateway._keys import KeySource
from motadata.gateway._native._anthropic_answers import AnthropicCollector, completion
from motadata.gateway._native._anthropic_requests import chat_body
from motadata.gateway._native._http import HttpLimits
from motadata.gateway._native._provider import Collector, NativeProvider
from motadata.gateway._requests import ChatRequest, EmbeddingRequest


_ADDRESS: Final = "https://api.anthropic.com/v1"
_VARIABLE: Final = "ANTHROPIC_API_KEY"
_VERSION: Final = "2023-06-01"
_LIMITS: Final = HttpLimits()


class AnthropicProvider(NativeProvider):
    """Serves models over Anthropic's wire format.

    Args:
        name: The prefix of its models.
        api_key: None means the variable `ANTHROPIC_API_KEY`.
        base_url: None means Anthropic's own address.
        keys: Knows the keys that tenants brought along.
        limits: What its connections are held to.
        max_tokens: Most tokens of an answer when a call does not say; the format wants a number.

    Raises:
        ConfigurationError: The key or the address cannot be used.
    """

    chat_path = "/messages"

    def __init__(
        self,
        name: str = "anthropic",
        *,
        api_key: SecretStr | None = None,
        base_url: str | None = None,
        keys: KeySource | None = None,
        limits: HttpLimits = _LIMITS,
        max_tokens: int = 4096,
    ) -> None:
        if api_key is None and os.environ.get(_VARIABLE):
            api_key = SecretStr(os.environ[_VARIABLE])
        self._max_tokens = max_tokens
        super().__init__(
            name,
            api_key=api_key,
            base_url=base_url or _ADDRESS,
            keys=keys,
            needs_key=base_url is None,
            limits=limits,
        )

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Refuse: Anthropic serves no embeddings.

        Raises:
            ConfigurationError: Always.
        """
        message = f"The provider of {request.model!r} has no embedding models."
        raise ConfigurationError(message, remedy="Name an embedding model of another provider.")

    def _chat_body(self, request: ChatRequest, *, stream: bool) -> dict[str, object]:
        return chat_body(request, stream=stream, max_tokens=self._max_tokens)

    def _completion(self, data: bytes, request: ChatRequest) -> Completion:
        return completion(data, request)

    def _collector(self, request: ChatRequest) -> Collector:
        return AnthropicCollector(request)

    def _access(self, key: str | None) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
            "anthropic-version": _VERSION,
        }
        if key is not None:
            headers["x-api-key"] = key
        return headers
