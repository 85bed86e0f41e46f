"""One connection to NATS: how it is made, and how it comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from motadata.core.errors import ConfigurationError, MessagingError, MissingExtraError, SDKError
from motadata.core.messaging._nats_credentials import NatsCredentials
from motadata.core.messaging._nats_errors import closed_error, translated
from motadata.core.messaging._nats_wire import BUFFER, Wire
from motadata.core.observability import Repeated, get_logger
from motadata.core.resilience import context_without_deadline, remaining


if TYPE_CHECKING:
    from nats.aio.client import Client

_log = get_logger("messaging")

_SCHEMES: Final = ("nats", "tls", "ws", "wss")
_RECONNECT_WAIT: Final = 0.1
_PING_INTERVAL: Final = 10
_FLUSH_TIMEOUT: Final = 10.0
_CLOSE_TIMEOUT: Final = 5.0
_MOST_CANCELLATIONS: Final = 25
_FIRST_AGAIN: Final = 0.01
_LAST_MOMENT: Final = 0.03
"""Seconds for closing the connection when the caller's deadline is over."""


class Connection:
    """A connection that comes back by itself, for as long as it is open.

    Attributes:
        count: How often it has come back; what the server kept for the one before is gone.
    """

    def __init__(
        self, urls: Sequence[str], credentials: NatsCredentials, *, connect_timeout: float
    ) -> None:
        self._urls = [_checked(url) for url in urls]
        if not self._urls:
            message = "The message bus has no address."
            raise ConfigurationError(message, remedy="Pass a URL such as 'nats://localhost:4222'.")
        self._credentials = credentials
        self._connect_timeout = connect_timeout
        self._client: Client | None = None
        self._wire: Wire | None = None
        self._opening = False
        self._errors = Repeated(_log, "connection_error")
        self._is_up = asyncio.Event()
        self.count = 0

    @property
    def client(self) -> Client:
        """The driver's client.

        Raises:
            MessagingError: The connection is not open.
        """
        if self._client is None or self._client.is_closed:
            raise closed_error()
        return self._client

    @property
    def wire(self) -> Wire:
        """What messages are sent and received by.

        Raises:
            MessagingError: The connection is not open.
        """
        if self._wire is None:
            raise closed_error()
        return self._wire

    @property
    def is_up(self) -> bool:
        """Whether the server can be reached now."""
        return self._client is not None and self._client.is_connected

    @property
    def address(self) -> str:
        """The servers' addresses, without secrets."""
        return ", ".join(_without_secrets(url) for url in self._urls)

    async def open(self) -> None:
        """Connect.

        Raises:
            MissingExtraError: nats-py is not installed.
            MessagingError: No server answers in time, or it refuses us.
        """
        client = _make_client()
        wire = Wire(client)
        self._opening = True
        last: BaseException | None = None
        try:
            connecting = client.connect(
                servers=list(self._urls),
                name="motadata",
                error_cb=self._on_error,
                disconnected_cb=self._on_disconnect,
                reconnected_cb=self._on_reconnect,
                closed_cb=self._on_disconnect,
                connect_timeout=5,
                reconnect_time_wait=_RECONNECT_WAIT,  # type: ignore[arg-type]  # a float works
                max_reconnect_attempts=-1,
                ping_interval=_PING_INTERVAL,
                flush_timeout=_FLUSH_TIMEOUT,
                pending_size=BUFFER,
                **self._credentials.options(),  # type: ignore[arg-type]  # as the driver names them
            )
            await ended_in_time(connecting, seconds=self._connect_timeout)
        except BaseException as error:
            last = client.last_error
            await _close_quietly(client, wire)
            if isinstance(error, TimeoutError):
                raise self._unreachable() from last
            if isinstance(error, SDKError) or not isinstance(error, Exception):
                raise
            raise self._unreachable() from error
        finally:
            self._opening = False
        self._client, self._wire = client, wire
        self._is_up.set()

    async def close(self) -> None:
        """Send what is buffered, if the server is there and there is time, and disconnect."""
        client, self._client = self._client, None
        wire, self._wire = self._wire, None
        if client is None or wire is None:
            return
        try:
            if client.is_connected:
                with translated("Flushing"):
                    async with asyncio.timeout(remaining()):
                        await flush(client, timeout=int(_CLOSE_TIMEOUT))
        except (MessagingError, TimeoutError) as error:
            _log.warning("flush_failed", error=error)
        finally:
            await _close_quietly(client, wire)
            self._is_up.set()

    async def wait_until_up(self, timeout: float) -> None:
        """Return when the server can be reached.

        Raises:
            TimeoutError: It could not be for `timeout` seconds.
            MessagingError: The connection was closed for good.
        """
        if self.client.is_connected:
            return
        async with asyncio.timeout(timeout):
            while not self.client.is_connected:
                self._is_up.clear()
                await self._is_up.wait()

    async def _on_error(self, error: Exception) -> None:
        if self._opening and "authorization" in str(error).lower():
            # The driver would go on for ever: these credentials will not become right by waiting.
            message = f"The NATS server at {self.address} refuses the credentials."
            raise MessagingError(message, remedy="Check NatsCredentials.", retryable=False)
        self._errors.warning(error=error)

    async def _on_disconnect(self) -> None:
        if self._client is not None:
            _log.warning("disconnected", address=self.address)
        # Whoever waits looks again: closed for good reads as an error.
        self._is_up.set()

    async def _on_reconnect(self) -> None:
        self.count += 1
        _log.warning("reconnected", address=self.address, errors=self._errors.restart())
        self._is_up.set()

    def _unreachable(self) -> MessagingError:
        message = f"No NATS server at {self.address} answered in {self._connect_timeout:g} s."
        return MessagingError(message, remedy="Start it, or correct the address.")


async def ended_in_time(
    work: Coroutine[object, object, None], *, seconds: float, again: float = 0.2
) -> None:
    """Await work, and end it when it takes longer.

    The driver tries again for ever, and waits by `asyncio.wait_for`, which before Python 3.12 loses
    a cancellation that comes together with a failure. So it is cancelled until it ends.

    Raises:
        TimeoutError: It took longer.
    """
    task = asyncio.create_task(
        work, name="motadata-nats-connect", context=context_without_deadline()
    )
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        # Soon at first: a caller whose deadline is over waits for it.
        pause = min(again, _FIRST_AGAIN)
        for _ in range(_MOST_CANCELLATIONS):
            if task.done():
                break
            task.cancel()
            await asyncio.wait({task}, timeout=pause)
            pause = min(again, 2 * pause)
    if not task.done() or task.cancelled():
        raise TimeoutError
    task.result()


async def flush(client: Client, *, timeout: int) -> None:
    """Return when the server has taken everything that was sent before.

    The driver's flush writes its PING ahead of what is still buffered, so that the first PONG may
    come back before a SUB has left. By then the buffer is written, and a second PING stands behind.

    Raises:
        nats.errors.TimeoutError: The server did not answer within `timeout` seconds.
    """
    await client.flush(timeout=timeout)
    await client.flush(timeout=timeout)


async def _close_quietly(client: Client, wire: Wire) -> None:
    """Close a client, and end what it leaves running when its server is away."""
    tasks = wire.tasks()
    try:
        async with asyncio.timeout(max(_LAST_MOMENT, remaining(_CLOSE_TIMEOUT) or 0.0)):
            await client.close()
    except (OSError, TimeoutError, asyncio.InvalidStateError) as error:
        _log.warning("close_failed", error=error)
        wire.hang_up()
    except AssertionError:
        # It was never connected: it has nothing to close, and says so in this way.
        wire.hang_up()
    finally:
        await _ended(tasks | wire.tasks())


async def _ended(tasks: set[asyncio.Task[object]]) -> None:
    """Cancel tasks until they have ended; a cancellation may get lost, see `ended_in_time`."""
    pending = tasks - {asyncio.current_task()}
    for _ in range(_MOST_CANCELLATIONS):
        for task in pending:
            task.cancel()
        if not pending:
            return
        _, pending = await asyncio.wait(pending, timeout=_FIRST_AGAIN)
    _log.warning("tasks_not_ended", number=len(pending))


def _make_client() -> Client:
    try:
        from nats.aio.client import Client
    except ImportError:
        raise MissingExtraError("nats-py", extra="nats", distribution="motadata-core") from None
    return Client()


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        # Reading a port checks it.
        fits = parts.scheme in _SCHEMES and parts.hostname and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        message = f"{_without_secrets(url)!r} is no NATS address."
        raise ConfigurationError(message, remedy="Write nats://host:4222 or tls://host:4222.")
    return url


def _without_secrets(url: str) -> str:
    return url.rpartition("@")[2] if "@" in url else url
