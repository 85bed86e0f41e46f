"""OpenAI's wire format, spoken by OpenAI and by many others: chat, streams, tools, embeddings."""

from __future__ import annotations

import os
import re
from typing import Final

from pydantic import SecretStr

from motadata.core.errors import ConfigurationError
from motadata.core.models import Completion, Embeddings
from motadata.gateway import _wire
from motadata.gateway._keys import KeySource
from motadata.gateway._native._http import HttpLimits
from motadata.gateway._native._names import COMPATIBLE
from motadata.gateway._native._provider import (
    Collector,
    NativeProvider,
    decoded,
    encoded,
    read_off_loop,
)
from motadata.gateway._requests import ChatRequest, EmbeddingRequest
from motadata.gateway._wire_requests import chat_arguments
from motadata.gateway._wire_streams import StreamCollector


_LAST: Final = b"[DONE]"
# Models that think take their limit under this name only, which older servers do not know.
_THINKS: Final = re.compile(r"(o\d|gpt-5|codex)")
_LIMITS: Final = HttpLimits()


class OpenAIProvider(NativeProvider):
    """Serves models over OpenAI's wire format.

        OpenAIProvider("our-vllm", base_url="http://10.0.0.7:8000/v1")

    Args:
        name: The prefix of its models. Known names have an address and a variable for their key.
        api_key: None means the usual variable of a known name, or no key.
        base_url: None means the known name's own address.
        keys: Knows the keys that tenants brought along.
        limits: What its connections are held to.

    Raises:
        ConfigurationError: The name is not known and there is no address, or the key or the
            address cannot be used.
    """

    chat_path = "/chat/completions"

    def __init__(
        self,
        name: str = "openai",
        *,
        api_key: SecretStr | None = None,
        base_url: str | None = None,
        keys: KeySource | None = None,
        limits: HttpLimits = _LIMITS,
    ) -> None:
        known = COMPATIBLE.get(name)
        if known is None and base_url is None:
            message = f"Nobody knows the address of the provider {name!r}."
            raise ConfigurationError(message, remedy="Give it as `base_url`.")
        if api_key is None and known is not None and os.environ.get(known.variable):
            api_key = SecretStr(os.environ[known.variable])
        self._asks_usage = known is None or known.asks_usage
        self._renamed = {} if known is None else known.renamed
        super().__init__(
            name,
            api_key=api_key,
            base_url=base_url or (known.base_url if known is not None else ""),
            keys=keys,
            needs_key=base_url is None and known is not None and bool(known.variable),
            limits=limits,
        )

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Return one vector a text, in order.

        Raises:
            ConfigurationError: The model is unknown, or the key is missing or wrong.
            ValidationError: The provider refused a text.
            ProviderError: The provider failed.
            RateLimitError: The provider asks to wait.
        """
        model = request.model
        body = encoded(
            {
                "model": model.partition("/")[2],
                "input": request.texts,
                # A third of the bytes of numbers, and read in a fraction of the time. Servers that
                # do not know it send numbers, which are read as well.
                "encoding_format": "base64",
            },
            model,
        )
        headers = await self._headers()
        data = await self._http.post("/embeddings", body, headers, model=model)
        return await read_off_loop(data, lambda: _wire.embeddings(decoded(data, model), model))

    def _chat_body(self, request: ChatRequest, *, stream: bool) -> dict[str, object]:
        model = request.model.partition("/")[2]
        body = chat_arguments(request, model=model)
        for ours, theirs in self._renamed.items():
            if ours in body:
                body[theirs] = body.pop(ours)
        if self._name == "openai" and "max_tokens" in body and _THINKS.match(model):
            body["max_completion_tokens"] = body.pop("max_tokens")
        if stream:
            body["stream"] = True
            if self._asks_usage:
                body["stream_options"] = {"include_usage": True}
        return body

    def _completion(self, data: bytes, request: ChatRequest) -> Completion:
        return _wire.completion(decoded(data, request.model), request.model)

    def _collector(self, request: ChatRequest) -> Collector:
        return _Collector(request)

    def _access(self, key: str | None) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        return headers


class _Collector:
    """Reads the events, of which the last one is a word of its own."""

    __slots__ = ("_model", "_parts", "is_over")

    def __init__(self, request: ChatRequest) -> None:
        self._model = request.model
        self._parts = StreamCollector(request)
        self.is_over = False

    def take(self, event: bytes) -> str:
        """Take in an event's data and return its text, which may be empty."""
        if self.is_over:
            return ""
        if event == _LAST:
            self.is_over = True
            return ""
        return self._parts.text_of(decoded(event, self._model))

    def completion(self) -> Completion:
        """Return the whole answer."""
        return self._parts.completion()
