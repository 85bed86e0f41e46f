"""What the native providers have in common: key, headers, one pool, reading off the loop."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Final, Protocol, TypeVar

import orjson
from pydantic import SecretStr

from motadata.core.errors import ConfigurationError, ProviderError, ValidationError
from motadata.core.models import Completion, CompletionChunk, Health
from motadata.core.observability import inject_trace
from motadata.gateway._keys import KeySource, checked_key, key_for
from motadata.gateway._native._failures import failure_within
from motadata.gateway._native._http import HttpClient, HttpLimits, checked_address
from motadata.gateway._provider import ALIVE
from motadata.gateway._requests import ChatRequest


Result = TypeVar("Result")

_READ_HERE: Final = 256 * 1024
"""Answers up to so many bytes are read on the event loop: in a thread it would take longer."""


class Collector(Protocol):
    """Adds up a streamed answer."""

    @property
    def is_over(self) -> bool:
        """Whether the provider said that nothing more comes."""
        ...

    def take(self, event: bytes) -> str:
        """Take in an event's data and return its text, which may be empty."""
        ...

    def completion(self) -> Completion:
        """Return the whole answer, or raise the error that it is not whole."""
        ...


class NativeProvider(ABC):
    """A provider whose wire format is spoken here; it retries nothing, the gateway does.

    Args:
        name: The prefix of its models.
        api_key: The platform's own key.
        base_url: Where it is; without a path its `/v1` is meant.
        keys: Knows the keys that tenants brought along.
        needs_key: Whether it answers nobody without a key.
        limits: What its connections are held to.

    Raises:
        ConfigurationError: Key or address cannot be sent to.
    """

    chat_path: str

    def __init__(
        self,
        name: str,
        *,
        api_key: SecretStr | None,
        base_url: str,
        keys: KeySource | None,
        needs_key: bool,
        limits: HttpLimits,
    ) -> None:
        self._name = name
        self._api_key = None if api_key is None else checked_key(name, api_key)
        self._base_url = checked_address(name, base_url)
        self._keys = keys
        self._needs_key = needs_key
        self._http = HttpClient(self._base_url, limits)

    @property
    def name(self) -> str:
        """The prefix of its models."""
        return self._name

    @property
    def revision(self) -> str:
        """Its address: equal names may be other models elsewhere."""
        return self._base_url

    async def complete(self, request: ChatRequest) -> Completion:
        """Return the whole answer.

        Raises:
            ConfigurationError: The model is unknown, or the key is missing or wrong.
            ValidationError: The provider refused the request.
            ProviderError: The provider failed.
            RateLimitError: The provider asks to wait.
        """
        body = encoded(self._chat_body(request, stream=False), request.model)
        headers = await self._headers()
        data = await self._http.post(self.chat_path, body, headers, model=request.model)
        return await read_off_loop(data, lambda: self._completion(data, request))

    async def stream(self, request: ChatRequest) -> AsyncIterator[CompletionChunk]:
        """Yield the answer as it comes; closing the iterator closes the connection.

        Raises:
            ConfigurationError: The model is unknown, or the key is missing or wrong.
            ValidationError: The provider refused the request.
            ProviderError: The provider failed, or ended before the answer did.
            RateLimitError: The provider asks to wait.
        """
        body = encoded(self._chat_body(request, stream=True), request.model)
        collector = self._collector(request)
        events = self._http.events(
            self.chat_path,
            body,
            await self._headers(),
            model=request.model,
            ended=lambda: collector.is_over,
        )
        async with aclosing(events) as batches:  # type: ignore[type-var]  # an async generator
            async for batch in batches:
                said = False
                for event in batch:
                    text = collector.take(event)
                    if text:
                        said = True
                        yield CompletionChunk(text)
                if not said:
                    yield ALIVE
        answer = collector.completion()
        yield CompletionChunk("", answer.finish_reason, answer.tool_calls, answer.usage)

    async def health(self) -> Health:
        """Say whether there is a key; nothing is called."""
        if self._api_key is not None:
            return Health("ok", detail="Has a key.")
        if self._keys is not None:
            return Health("ok", detail="Has the keys that tenants bring along.")
        if self._needs_key:
            return Health("down", detail=f"The provider {self._name!r} has no key.")
        return Health("ok", detail="Needs no key.")

    async def aclose(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    @abstractmethod
    def _chat_body(self, request: ChatRequest, *, stream: bool) -> dict[str, object]:
        """Return the request in the provider's words."""

    @abstractmethod
    def _completion(self, data: bytes, request: ChatRequest) -> Completion:
        """Read a whole answer."""

    @abstractmethod
    def _collector(self, request: ChatRequest) -> Collector:
        """Return what adds up a streamed answer."""

    @abstractmethod
    def _access(self, key: str | None) -> dict[str, str]:
        """Return the headers that the provider wants, a key among them."""

    async def _headers(self) -> dict[str, str]:
        key = await key_for(self._name, self._api_key, self._keys)
        if key is None and self._needs_key:
            message = f"The provider {self._name!r} has no key."
            raise ConfigurationError(message, remedy="Give one in `api_keys`.")
        headers = self._access(None if key is None else key.get_secret_value())
        inject_trace(headers)
        return headers


def encoded(body: dict[str, object], model: str) -> bytes:
    """Return a request as JSON.

    Raises:
        ValidationError: It holds what JSON cannot, such as half of a surrogate pair.
    """
    try:
        return orjson.dumps(body, default=_plain)
    except TypeError:
        # Not the cause of the error: its text may quote the request.
        message = f"The request to the model {model!r} holds what cannot be written as JSON."
        remedy = "Look for lone surrogates in its texts and for odd values in schemas of tools."
        raise ValidationError(message, remedy=remedy) from None


def decoded(data: bytes, model: str) -> object:
    """Read an answer's JSON.

    Raises:
        SDKError: It is none, or it carries an error in place of an answer.
    """
    try:
        value: object = orjson.loads(data)
    except orjson.JSONDecodeError:
        message = f"The answer of the model {model!r} is no JSON."
        remedy = "Try again; if it stays so, check the provider's address."
        raise ProviderError(message, remedy=remedy, retryable=True) from None
    failure = failure_within(model, value)
    if failure is not None:
        raise failure
    return value


async def read_off_loop(data: bytes, reading: Callable[[], Result]) -> Result:
    """Read an answer here if it is short, in a thread if it is long."""
    return reading() if len(data) <= _READ_HERE else await asyncio.to_thread(reading)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError
