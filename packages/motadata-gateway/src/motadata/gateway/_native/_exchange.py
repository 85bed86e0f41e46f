"""Requests and their answers on connections of aiohttp's, by a shorter way than aiohttp's own.

aiohttp makes, keeps and closes the connections, speaks to proxies and reads what comes. What it
builds around a single request (a task that writes, a timer, cookies, redirects, a history) costs as
much again, and a gateway wants none of it: here a request is written at once. `Target.send` calls
what aiohttp documents of its connectors, and below that what aiohttp's own session calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from io import BytesIO
from types import ModuleType
from typing import TYPE_CHECKING, Final, Protocol

from motadata.core.errors import ConfigurationError


if TYPE_CHECKING:
    from aiohttp import ClientRequest, ClientSession, ClientTimeout, StreamReader
    from aiohttp.connector import Connection
    from yarl import URL

_SENT_AT_ONCE: Final = 2**20
_BUFFER: Final = 2**16
_SWITCHING: Final = 101
_FIRST_FINAL: Final = 200


class Answer(Protocol):
    """What came back: its head, and its body as it comes; aiohttp's responses are some, too."""

    @property
    def status(self) -> int:
        """The code."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, whose names may be asked for in any case."""
        ...

    @property
    def content(self) -> StreamReader:
        """The body."""
        ...

    def release(self) -> object:
        """Give the connection back for the next request."""
        ...

    def close(self) -> None:
        """Close the connection: nobody wants the rest."""
        ...


class Pool:
    """The connections to one provider.

    Args:
        http: aiohttp.
        connections: Most of them; who wants another waits.
        timeout: Times to connect, and of silence.
        proxy: Through which proxy; None means directly.
        proxy_headers: What the proxy alone is told, such as its password.
    """

    def __init__(
        self,
        http: ModuleType,
        *,
        connections: int,
        timeout: ClientTimeout,
        proxy: URL | None,
        proxy_headers: Mapping[str, str],
    ) -> None:
        self._http = http
        self._proxy = proxy
        self._proxy_headers = dict(proxy_headers)
        self._session: ClientSession = http.ClientSession(
            connector=http.TCPConnector(limit=connections),
            timeout=timeout,
            # Tenants share the session, so nothing that a provider says to one may stay in it.
            cookie_jar=http.DummyCookieJar(),
            proxy=proxy,
        )

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        """What `Target.send` and the reading of an answer raise when the network fails."""
        http = self._http
        return http.ClientError, http.http_exceptions.HttpProcessingError, OSError

    def target(self, url: URL) -> Target:
        """Return an address to post to."""
        request = self._http.ClientRequest(
            "POST",
            url,
            loop=asyncio.get_running_loop(),
            session=self._session,
            proxy=self._proxy,
            proxy_headers=self._proxy_headers or None,
        )
        return Target(self._session, request, lost=self._http.ClientConnectionResetError)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._session.close()


class Target:
    """An address, and what every request to it says.

    Args:
        session: Whose connections are used.
        request: An empty request to the address, by which connections are found and opened.
        lost: What is raised when a connection breaks before anything is sent.
    """

    def __init__(
        self, session: ClientSession, request: ClientRequest, *, lost: type[Exception]
    ) -> None:
        assert session.connector is not None
        self._session = session
        self._connector = session.connector
        self._timeout = session.timeout
        self._request = request
        self._lost = lost
        # A proxy that is no tunnel reads the request itself: its address, and the proxy's own.
        is_read = request.proxy is not None and not request.is_ssl()
        self._for_proxy: dict[str, str] = dict(request.proxy_headers or {}) if is_read else {}
        place = str(request.url) if is_read else request.url.raw_path_qs
        own = {name: text for name, text in request.headers.items() if name != "Content-Length"}
        self._head = f"POST {place} HTTP/1.1\r\n".encode() + _lines({**own, **self._for_proxy})

    async def send(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Post a body and return when the head of the answer is there.

        Raises:
            ConfigurationError: A header is none that can be sent.
            Exception: One of the pool's `failures`.
        """
        lines = _lines(headers)
        if len(body) > _SENT_AT_ONCE:
            # In pieces, between which others have their turn, and an early answer is heard.
            return await self._session.post(
                self._request.url,
                data=BytesIO(body),
                headers={**headers, **self._for_proxy},
                proxy_headers=self._request.proxy_headers,
                allow_redirects=False,
            )
        message = b"%b%bContent-Length: %d\r\n\r\n%b" % (self._head, lines, len(body), body)
        connection = await self._connector.connect(self._request, traces=[], timeout=self._timeout)
        try:
            return await self._exchanged(connection, message)
        except BaseException:
            connection.close()
            raise

    async def _exchanged(self, connection: Connection, message: bytes) -> Answer:
        protocol = connection.protocol
        if protocol is None or protocol.transport is None:
            raise self._lost
        protocol.set_response_params(
            read_until_eof=True, read_timeout=self._timeout.sock_read, read_bufsize=_BUFFER
        )
        protocol.transport.write(message)
        protocol.start_timeout()
        head, content = await protocol.read()
        while head.code < _FIRST_FINAL and head.code != _SWITCHING:
            head, content = await protocol.read()
        return _Answer(connection, head.code, head.headers, content)


class _Answer:
    __slots__ = ("_connection", "content", "headers", "status")

    def __init__(
        self,
        connection: Connection,
        status: int,
        headers: Mapping[str, str],
        content: StreamReader,
    ) -> None:
        self._connection = connection
        self.status = status
        self.headers = headers
        self.content = content

    def release(self) -> None:
        self._connection.release()

    def close(self) -> None:
        self._connection.close()


def _lines(headers: Mapping[str, str]) -> bytes:
    """Return headers as they are sent.

    Raises:
        ConfigurationError: One holds what would end it, so that another could be smuggled in.
    """
    lines = "".join([f"{name}: {text}\r\n" for name, text in headers.items()])
    count = len(headers)
    if lines.count("\r") != count or lines.count("\n") != count or "\0" in lines:
        message = "A header of the request to a provider holds a line break or a NUL."
        raise ConfigurationError(message, remedy="Look at the API key and the trace headers.")
    return lines.encode()
