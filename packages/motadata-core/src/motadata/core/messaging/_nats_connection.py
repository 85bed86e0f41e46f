"""One connection to NATS: who we are there, how it comes back, and its errors as ours."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from motadata.core.errors import (
    ConfigurationError,
    MessagingError,
    MissingExtraError,
    OverloadError,
    SDKError,
)
from motadata.core.observability import get_logger


if TYPE_CHECKING:
    from nats.aio.client import Client

_log = get_logger("messaging")

_RECONNECT_WAIT: Final = 0.1
_PING_INTERVAL: Final = 10
_FLUSH_TIMEOUT: Final = 10.0
_CLOSE_TIMEOUT: Final = 5.0
_BUFFER: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class NatsCredentials:
    """Who the SDK is to the server; give what the server asks for and nothing else.

    Attributes:
        token: A token.
        user: A user, with its password.
        password: The user's password.
        nkey_seed: The seed of an nkey, `SU…`.
        credentials_file: A `.creds` file with a JWT and its nkey.
        tls: For a server that is reached by TLS; holds the client's certificate if one is wanted.
    """

    token: SecretStr | None = None
    user: str | None = None
    password: SecretStr | None = None
    nkey_seed: SecretStr | None = None
    credentials_file: Path | None = None
    tls: ssl.SSLContext | None = None

    def options(self) -> dict[str, object]:
        """Return the arguments of the driver.

        Raises:
            ConfigurationError: More than one way is given, or half of one.
            MissingExtraError: Keys are asked for and the package that signs is not installed.
        """
        ways = {
            "token": self.token,
            "user": self.user,
            "nkey_seed": self.nkey_seed,
            "credentials_file": self.credentials_file,
        }
        given = [name for name, value in ways.items() if value is not None]
        if len(given) > 1 or (self.user is None) != (self.password is None):
            message = f"The NATS credentials do not go together: {', '.join(given) or 'password'}."
            raise ConfigurationError(message, remedy="Give one way; a user needs a password.")
        if self.nkey_seed is not None or self.credentials_file is not None:
            _require_nkeys()
        return {
            "token": _reveal(self.token),
            "user": self.user,
            "password": _reveal(self.password),
            "nkeys_seed_str": _reveal(self.nkey_seed),
            "user_credentials": None
            if self.credentials_file is None
            else str(self.credentials_file),
            "tls": self.tls,
        }


class Connection:
    """A connection that comes back by itself, for as long as it is open."""

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
        self._opening = False
        self._is_up = asyncio.Event()
        self._drops: dict[int, Callable[[], None]] = {}

    @property
    def client(self) -> Client:
        """The driver's client.

        Raises:
            MessagingError: The connection is not open.
        """
        if self._client is None or self._client.is_closed:
            message = "The message bus is not open."
            raise MessagingError(
                message, remedy="Use it within `async with create_message_bus(…)`.", retryable=False
            )
        return self._client

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
        self._opening = True
        last: BaseException | None = None
        try:
            async with asyncio.timeout(self._connect_timeout):
                await client.connect(
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
                    pending_size=_BUFFER,
                    **self._credentials.options(),  # type: ignore[arg-type]  # as the driver names them
                )
        except BaseException as error:
            last = client.last_error
            await _close_quietly(client)
            if isinstance(error, TimeoutError):
                raise self._unreachable() from last
            if isinstance(error, SDKError) or not isinstance(error, Exception):
                raise
            raise self._unreachable() from error
        finally:
            self._opening = False
        self._client = client
        self._is_up.set()

    async def close(self) -> None:
        """Send what is buffered, if the server is there, and disconnect."""
        client, self._client = self._client, None
        if client is None:
            return
        try:
            if client.is_connected:
                with translated("Flushing"):
                    await flush(client, timeout=int(_CLOSE_TIMEOUT))
        except (MessagingError, TimeoutError) as error:
            _log.warning("flush_failed", error=error)
        finally:
            await _close_quietly(client)

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

    def on_drop(self, subscription_id: int, report: Callable[[], None] | None) -> None:
        """Say whom to tell when messages of a subscription are thrown away; None says nobody."""
        if report is None:
            self._drops.pop(subscription_id, None)
        else:
            self._drops[subscription_id] = report

    async def _on_error(self, error: Exception) -> None:
        from nats.errors import SlowConsumerError

        if isinstance(error, SlowConsumerError):
            report = self._drops.get(error.sid)
            if report is not None:
                report()
        elif self._opening and "authorization" in str(error).lower():
            # The driver would go on for ever: these credentials will not become right by waiting.
            message = f"The NATS server at {self.address} refuses the credentials."
            raise MessagingError(message, remedy="Check NatsCredentials.", retryable=False)
        else:
            _log.warning("connection_error", error=error)

    async def _on_disconnect(self) -> None:
        if self._client is not None:
            _log.warning("disconnected", address=self.address)
        # Whoever waits looks again: closed for good reads as an error.
        self._is_up.set()

    async def _on_reconnect(self) -> None:
        _log.warning("reconnected", address=self.address)
        self._is_up.set()

    def _unreachable(self) -> MessagingError:
        message = f"No NATS server at {self.address} answered in {self._connect_timeout:g} s."
        return MessagingError(message, remedy="Start it, or correct the address.")


class translated:  # noqa: N801 - reads as the statement that it is: `with translated("Storing"):`
    """Turn the driver's errors into ours.

    Raises:
        TimeoutError: No answer came in time.
        OverloadError: Too much waits to be sent.
        MessagingError: Everything else.
    """

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Raise our error for the driver's, if there was one."""
        if error is None or isinstance(error, SDKError):
            return
        from nats import errors

        ours: Exception
        if isinstance(error, errors.OutboundBufferLimitError):
            message = f"{self._what}: the connection is down and its buffer is full."
            ours = OverloadError(message, remedy="Send less, or wait for the server.")
        elif isinstance(error, errors.MaxPayloadError):
            message = f"{self._what}: the message is larger than the server takes."
            remedy = "Send a reference to the data instead."
            ours = MessagingError(message, remedy=remedy, retryable=False)
        elif isinstance(error, errors.NoRespondersError):
            message = f"{self._what}: nobody listens."
            ours = MessagingError(message, remedy="Start who should, then repeat.")
        elif isinstance(error, errors.TimeoutError):
            ours = TimeoutError(self._what)
        elif isinstance(error, errors.Error | OSError) and not isinstance(error, TimeoutError):
            message = f"{self._what}: {type(error).__name__}."
            ours = MessagingError(message, remedy="Look at the server's log.")
        else:
            return
        raise ours from error


async def flush(client: Client, *, timeout: int) -> None:
    """Return when the server has taken everything that was sent before.

    The driver's flush writes its PING ahead of what is still buffered, so that the first PONG may
    come back before a SUB has left. By then the buffer is written, and a second PING stands behind.

    Raises:
        nats.errors.TimeoutError: The server did not answer within `timeout` seconds.
    """
    await client.flush(timeout=timeout)
    await client.flush(timeout=timeout)


async def _close_quietly(client: Client) -> None:
    try:
        async with asyncio.timeout(_CLOSE_TIMEOUT):
            await client.close()
    except (OSError, TimeoutError, asyncio.InvalidStateError) as error:
        _log.warning("close_failed", error=error)


def _make_client() -> Client:
    try:
        from nats.aio.client import Client
    except ImportError:
        raise MissingExtraError("nats-py", extra="nats", distribution="motadata-core") from None
    return Client()


def _require_nkeys() -> None:
    if find_spec("nkeys") is None:
        raise MissingExtraError("nkeys", extra="nats", distribution="motadata-core")


def _reveal(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _checked(url: str) -> str:
    if urlsplit(url).scheme not in ("nats", "tls", "ws", "wss"):
        message = f"{_without_secrets(url)!r} is no NATS address."
        raise ConfigurationError(message, remedy="Write nats://host:4222 or tls://host:4222.")
    return url


def _without_secrets(url: str) -> str:
    return url.rpartition("@")[2] if "@" in url else url
