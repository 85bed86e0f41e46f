"""One provider's connections: a bounded pool, limits of time and size, and its failures as ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType, TracebackType
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from motadata.core.errors import ConfigurationError, GatewayError, ProviderError
from motadata.gateway._native._events import EventReader, EventTooLargeError
from motadata.gateway._native._exchange import Answer, Pool, Target
from motadata.gateway._native._failures import failure_of
from motadata.gateway._refusals import unreachable


_CONNECT_TIMEOUT: Final = 10.0
_DRAIN_TIMEOUT: Final = 0.2
_LARGEST_ERROR: Final = 65_536
_OK: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """What a provider's connections are held to.

    Attributes:
        connections: Most of them; further calls wait for one until their own time is over.
        read_timeout: Seconds of silence after which an answer is given up, whatever the call's.
        largest_answer: Most bytes of an answer, or of one event of a stream.
    """

    connections: int = 256
    read_timeout: float = 300.0
    largest_answer: int = 64 * 2**20


class HttpClient:
    """Posts JSON to one provider; nothing is sent twice, redirected, or remembered as a cookie.

    Certificates are verified. A proxy is taken from the environment, once. Used on one event loop.

    Args:
        base_url: What every path is appended to.
        limits: What the connections are held to.
    """

    def __init__(self, base_url: str, limits: HttpLimits) -> None:
        self._base_url = base_url
        self._limits = limits
        self._pool: Pool | None = None
        self._targets: dict[str, Target] = {}
        self._failures: tuple[type[Exception], ...] = ()
        self._closed = False

    async def post(
        self, path: str, body: bytes, headers: Mapping[str, str], *, model: str
    ) -> bytes:
        """Return the body of a good answer.

        Args:
            path: One of the provider's own paths, of which there are a few.
            body: JSON.
            headers: The key and all else that the provider wants.
            model: Whom an error names.

        Raises:
            SDKError: There was none; see `refusal`.
        """
        target = self._targets.get(path) or await self._target(path)
        with _Mapped(self._failures, model):
            response = await target.send(body, headers)
            try:
                await self._check(response, model)
                return await _read(response, self._limits.largest_answer, model)
            finally:
                _let_go(response)

    async def events(
        self,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        model: str,
        ended: Callable[[], bool],
    ) -> AsyncIterator[list[bytes]]:
        """Yield the data of the events of a good answer, those together that arrived together.

        Leaving early closes the connection.

        Args:
            path: As for `post`.
            body: As for `post`.
            headers: As for `post`.
            model: As for `post`.
            ended: Says, after events were taken, whether they were the last that matter. What
                follows is read for a moment only, so that the connection can serve again.

        Raises:
            SDKError: There was no good answer, or it broke off; see `refusal`.
        """
        target = self._targets.get(path) or await self._target(path)
        with _Mapped(self._failures, model):
            response = await target.send(body, headers)
            try:
                await self._check(response, model)
                reader = EventReader(largest=self._limits.largest_answer)
                async for piece in response.content.iter_any():
                    events = reader.feed(piece)
                    if events:
                        yield events
                        if ended():
                            await _drain(response, self._failures)
                            return
                if rest := reader.flush():
                    yield rest
            except EventTooLargeError:
                raise _too_large(model) from None
            finally:
                _let_go(response)

    async def aclose(self) -> None:
        """Close every connection; calls fail from now on."""
        self._closed = True
        pool, self._pool = self._pool, None
        self._targets.clear()
        if pool is not None:
            await pool.aclose()

    async def _target(self, path: str) -> Target:
        """Return what posts to a path; the first call imports aiohttp, in a thread."""
        pool = self._pool or await self._opened()
        url = import_module("yarl").URL(self._base_url + path)
        return self._targets.setdefault(path, pool.target(url))

    async def _opened(self) -> Pool:
        http, proxy = await asyncio.to_thread(_loaded, self._base_url)
        if self._closed:
            message = "The provider was closed."
            raise GatewayError(message, remedy="Call it within the gateway's `async with` block.")
        if self._pool is None:
            self._pool = _pool(http, self._limits, proxy)
            self._failures = self._pool.failures
        return self._pool

    async def _check(self, response: Answer, model: str) -> None:
        if response.status != _OK:
            text = await _read(response, _LARGEST_ERROR, model, cut=True)
            raise failure_of(model, response.status, response.headers, text)


class _Mapped:
    """Raises what aiohttp raises in the block as the error that nobody answered in full."""

    __slots__ = ("_failures", "_model")

    def __init__(self, failures: tuple[type[Exception], ...], model: str) -> None:
        self._failures = failures
        self._model = model

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Raise it; without its cause, whose repr may hold the request's headers."""
        if isinstance(error, self._failures):
            raise unreachable(self._model, type(error).__name__) from None


def checked_address(provider: str, base_url: str) -> str:
    """Return an address without its last slash; one without a path means its `/v1`.

    Raises:
        ConfigurationError: It is no address of a server, or holds a password or a query.
    """
    parts = urlsplit(base_url)
    plain = not (parts.username or parts.password or parts.query or parts.fragment)
    if parts.scheme not in ("http", "https") or not parts.hostname or not plain:
        message = f"The address of the provider {provider!r} is none that can be called."
        raise ConfigurationError(message, remedy="Give it like 'https://host/v1', without a key.")
    return f"{base_url.rstrip('/')}/v1" if parts.path in ("", "/") else base_url.rstrip("/")


def _loaded(base_url: str) -> tuple[ModuleType, str | None]:
    """Import aiohttp, and look up the proxy of an address."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    proxy = None if proxy_bypass(host) else getproxies().get(parts.scheme)
    return import_module("aiohttp"), proxy


def _pool(http: ModuleType, limits: HttpLimits, proxy: str | None) -> Pool:
    address, headers = None, {}
    if proxy is not None:
        address, access = import_module("aiohttp.helpers").strip_auth_from_url(
            import_module("yarl").URL(proxy)
        )
        if access is not None:
            headers["Proxy-Authorization"] = access.encode()
    return Pool(
        http,
        connections=limits.connections,
        timeout=http.ClientTimeout(
            total=None, sock_connect=_CONNECT_TIMEOUT, sock_read=limits.read_timeout
        ),
        proxy=address,
        proxy_headers=headers,
    )


async def _read(response: Answer, most: int, model: str, *, cut: bool = False) -> bytes:
    """Return a body of at most `most` bytes: the start of a larger one, or an error."""
    pieces, size = [], 0
    while piece := await response.content.readany():
        pieces.append(piece)
        size += len(piece)
        if size > most:
            if not cut:
                raise _too_large(model)
            break
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)[:most]


async def _drain(response: Answer, failures: tuple[type[Exception], ...]) -> None:
    """Wait for the end that follows the last event, for a moment."""
    if response.content.at_eof():
        return
    with suppress(TimeoutError, *failures):
        async with asyncio.timeout(_DRAIN_TIMEOUT):
            async for _ in response.content.iter_any():
                pass


def _let_go(response: Answer) -> None:
    """Give the connection back, or close it unless the answer was read to its end."""
    if response.content.at_eof():
        response.release()
    else:
        response.close()


def _too_large(model: str) -> ProviderError:
    message = f"The answer of the model {model!r} is larger than what is taken of one."
    return ProviderError(message, remedy="Ask for less at once.", retryable=False)
