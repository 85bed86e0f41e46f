"""One provider's connections: a bounded pool, limits of time and size, and its failures as ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from motadata.core.errors import ConfigurationError, GatewayError, ProviderError
from motadata.gateway._native._events import EventReader, EventTooLargeError
from motadata.gateway._native._failures import failure_of
from motadata.gateway._refusals import unreachable


if TYPE_CHECKING:
    import aiohttp
    from yarl import URL

_CONNECT_TIMEOUT: Final = 10.0
_DRAIN_TIMEOUT: Final = 0.2
_LARGEST_ERROR: Final = 65_536
_OK: Final = 200
_SENT_AT_ONCE: Final = 2**20


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
        self._session: aiohttp.ClientSession | None = None
        self._urls: dict[str, URL] = {}
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
        session = self._session or await self._opened()
        with _Mapped(self._failures, model):
            response = await session.post(
                self._url(path), data=_payload(body), headers=headers, allow_redirects=False
            )
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
        session = self._session or await self._opened()
        with _Mapped(self._failures, model):
            response = await session.post(
                self._url(path), data=_payload(body), headers=headers, allow_redirects=False
            )
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
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _opened(self) -> aiohttp.ClientSession:
        """Return the session; the first call imports aiohttp, in a thread."""
        http, proxy = await asyncio.to_thread(_loaded, self._base_url)
        if self._closed:
            message = "The provider was closed."
            raise GatewayError(message, remedy="Call it within the gateway's `async with` block.")
        if self._session is None:
            self._failures = (http.ClientError, http.http_exceptions.HttpProcessingError, OSError)
            self._session = _session(http, self._limits, proxy)
        return self._session

    def _url(self, path: str) -> URL:
        """Return an address, parsed once."""
        url = self._urls.get(path)
        if url is None:
            url = self._urls[path] = import_module("yarl").URL(self._base_url + path)
        return url

    async def _check(self, response: aiohttp.ClientResponse, model: str) -> None:
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


def _session(http: ModuleType, limits: HttpLimits, proxy: str | None) -> aiohttp.ClientSession:
    address, access = None, None
    if proxy is not None:
        address, access = import_module("aiohttp.helpers").strip_auth_from_url(
            import_module("yarl").URL(proxy)
        )
    session: aiohttp.ClientSession = http.ClientSession(
        connector=http.TCPConnector(limit=limits.connections),
        timeout=http.ClientTimeout(
            total=None, sock_connect=_CONNECT_TIMEOUT, sock_read=limits.read_timeout
        ),
        # Tenants share the session, so nothing that a provider says to one may stay in it.
        cookie_jar=http.DummyCookieJar(),
        proxy=address,
        proxy_auth=access,
    )
    return session


def _payload(body: bytes) -> bytes | BytesIO:
    """Return a body as it is sent: a large one in pieces, between which others have their turn."""
    return body if len(body) <= _SENT_AT_ONCE else BytesIO(body)


async def _read(
    response: aiohttp.ClientResponse, most: int, model: str, *, cut: bool = False
) -> bytes:
    """Return a body of at most `most` bytes: the start of a larger one, or an error."""
    pieces, size = [], 0
    async for piece in response.content.iter_any():
        pieces.append(piece)
        size += len(piece)
        if size > most:
            if not cut:
                raise _too_large(model)
            break
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)[:most]


async def _drain(response: aiohttp.ClientResponse, failures: tuple[type[Exception], ...]) -> None:
    """Wait for the end that follows the last event, for a moment."""
    if response.content.at_eof():
        return
    with suppress(TimeoutError, *failures):
        async with asyncio.timeout(_DRAIN_TIMEOUT):
            async for _ in response.content.iter_any():
                pass


def _let_go(response: aiohttp.ClientResponse) -> None:
    """Give the connection back, or close it unless the answer was read to its end."""
    if response.content.at_eof():
        response.release()
    else:
        response.close()


def _too_large(model: str) -> ProviderError:
    message = f"The answer of the model {model!r} is larger than what is taken of one."
    return ProviderError(message, remedy="Ask for less at once.", retryable=False)
