"""The bus on NATS: agent messages on core NATS, events and work on JetStream."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

from motadata.core.errors import ConfigurationError, MessagingError, OverloadError
from motadata.core.messaging._bus import DRAIN_TIMEOUT, Bus
from motadata.core.messaging._nats_connection import Connection, NatsCredentials, flush, translated
from motadata.core.messaging._nats_feed import NatsFeed
from motadata.core.messaging._nats_requests import Requests
from motadata.core.messaging._nats_streams import JetStream, StreamLimits, check_disk_writes
from motadata.core.messaging._transport import (
    Delivery,
    Feed,
    FeedRequest,
    Incoming,
    Listener,
    Stored,
)
from motadata.core.models import Health
from motadata.core.observability import get_logger
from motadata.core.protocols import Codec, Durability
from motadata.core.resilience import remaining


if TYPE_CHECKING:
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

_log = get_logger("messaging")

_WAITING_MESSAGES: Final = 1024
_WAITING_BYTES: Final = 8 * 1024 * 1024
_FLUSH: Final = 5
_ATTEMPT: Final = 2.0
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 0.5
_HEALTH: Final = 1
_UNAVAILABLE: Final = 503


class NatsTransport:
    """Carries bytes over one connection to NATS."""

    def __init__(
        self,
        connection: Connection,
        *,
        durability: Durability,
        limits: StreamLimits,
        publish_timeout: float,
        monitoring_urls: Sequence[str],
    ) -> None:
        self._connection = connection
        self._durability = durability
        self._limits = limits
        self._publish_timeout = publish_timeout
        self._monitoring_urls = monitoring_urls
        self._jetstream = JetStream(connection, timeout=publish_timeout)
        self._requests = Requests(connection)

    @property
    def durability(self) -> Durability:
        """What the acknowledgement of a stored message means."""
        return self._durability

    async def open(self) -> None:
        """Connect and make sure that the streams are there."""
        if self._durability == "fsync":
            await check_disk_writes(self._monitoring_urls)
        await self._connection.open()
        try:
            with translated("Opening"):
                await self._requests.open()
            await self._jetstream.ensure_streams(self._durability, self._limits)
        except BaseException:
            await self._connection.close()
            raise

    async def close(self) -> None:
        """Send what is still buffered and disconnect."""
        await self._connection.close()

    async def send(self, subject: str, data: bytes, headers: dict[str, str]) -> None:
        """Send to whoever listens."""
        try:
            with translated("Sending"):
                await self._connection.client.publish(subject, data, headers=headers)
        except TimeoutError as error:
            message = "Sending: the server takes nothing more."
            raise OverloadError(message, remedy="Send less, or wait.") from error

    async def request(
        self, subject: str, data: bytes, headers: dict[str, str], *, timeout: float
    ) -> Incoming:
        """Send and return the first reply."""
        with translated("A request"):
            reply = await self._requests.request(subject, data, headers, timeout=timeout)
        return Incoming(reply.subject, reply.data, reply.headers or {})

    async def listen(
        self,
        pattern: str,
        callback: Callable[[Incoming], Awaitable[None]],
        *,
        group: str,
        on_drop: Callable[[], None],
    ) -> Listener:
        """Await `callback` for each message."""

        async def receive(message: Msg) -> None:
            await callback(
                Incoming(message.subject, message.data, message.headers or {}, message.reply)
            )

        client = self._connection.client
        with translated("Subscribing"):
            subscription = await client.subscribe(
                pattern,
                queue=group,
                cb=receive,
                pending_msgs_limit=_WAITING_MESSAGES,
                pending_bytes_limit=_WAITING_BYTES,
            )
            self._connection.on_drop(subscription._id, on_drop)  # noqa: SLF001 - the error names it
            if self._connection.is_up:
                # From here on the server passes messages on.
                await flush(client, timeout=_FLUSH)
        return _NatsListener(self._connection, subscription)

    async def store(
        self, stream: str, subject: str, data: bytes, headers: dict[str, str], *, stored_id: str
    ) -> Stored:
        """Store once, and again with the same id until that is acknowledged.

        A stream has no leader for some seconds after one was lost.
        """
        headers["Nats-Msg-Id"] = stored_id
        limit = remaining(self._publish_timeout)
        assert limit is not None
        loop = asyncio.get_running_loop()
        end = loop.time() + limit
        pause = _FIRST_PAUSE
        last: BaseException | None = None
        while (left := end - loop.time()) > 0:
            try:
                await self._connection.wait_until_up(left)
                return await self._store_once(
                    subject, data, headers, min(_ATTEMPT, max(0.001, end - loop.time()))
                )
            except (MessagingError, TimeoutError) as error:
                if isinstance(error, MessagingError) and not error.retryable:
                    raise
                last = error
            await asyncio.sleep(min(pause * random.random(), max(0.0, end - loop.time())))  # noqa: S311 - jitter
            pause = min(2 * pause, _LONGEST_PAUSE)
        message = f"The stream {stream!r} did not acknowledge a message within {limit:.3g} s."
        raise MessagingError(
            message, remedy="It may be stored: repeat with the same message_id."
        ) from last

    async def _store_once(
        self, subject: str, data: bytes, headers: dict[str, str], timeout: float
    ) -> Stored:
        with translated("Storing"):
            reply = await self._requests.request(subject, data, headers, timeout=timeout)
        answer = json.loads(reply.data)
        problem = answer.get("error")
        if problem is None:
            return Stored(int(answer["seq"]), bool(answer.get("duplicate", False)))
        description = str(problem.get("description", ""))[:200]
        if "maximum" in description:
            message = f"The stream is full: {description}."
            raise OverloadError(message, remedy="Let its consumers catch up, or raise the limits.")
        message = f"The stream refuses a message: {description}."
        raise MessagingError(
            message,
            remedy="Look at the server's log.",
            retryable=problem.get("code") == _UNAVAILABLE,
        )

    async def feed(self, request: FeedRequest, on_delivery: Callable[[Delivery], None]) -> Feed:
        """Open, or continue, a consumer."""
        await self._jetstream.ensure_consumer(request)
        feed = NatsFeed(self._connection, request, on_delivery)
        await feed.start()
        return feed

    async def read(self, stream: str, subject: str, limit: int) -> Sequence[tuple[int, Incoming]]:
        """Return the first stored messages of a subject."""
        return await self._jetstream.read(stream, subject, limit)

    async def health(self) -> Health:
        """Say whether the server answers."""
        if not self._connection.is_up:
            return Health(
                "down", detail=f"Not connected to {self._connection.address}; trying again."
            )
        try:
            with translated("A ping"):
                await self._connection.client.flush(timeout=_HEALTH)
        except (MessagingError, TimeoutError):
            return Health("down", detail=f"No answer from {self._connection.address}.")
        return Health("ok", detail=f"Acknowledgements mean: {self._durability}.")


class _NatsListener:
    def __init__(self, connection: Connection, subscription: Subscription) -> None:
        self._connection = connection
        self._subscription = subscription

    async def stop(self) -> None:
        """Return when what has arrived was passed on."""
        try:
            async with asyncio.timeout(_FLUSH):
                with translated("Unsubscribing"):
                    await self._subscription.drain()  # type: ignore[no-untyped-call]  # the driver's
        except (MessagingError, TimeoutError) as error:
            _log.warning("subscription_not_drained", error=error)
        finally:
            self._connection.on_drop(self._subscription._id, None)  # noqa: SLF001 - as above


class NatsMessageBus(Bus):
    """The message bus on NATS; made by `create_message_bus`."""


def create_message_bus(
    url: str | Sequence[str],
    *,
    credentials: NatsCredentials | None = None,
    durability: Durability = "file",
    monitoring_urls: Sequence[str] = (),
    limits: StreamLimits | None = None,
    codec: Codec | None = None,
    publish_timeout: float = 30.0,
    connect_timeout: float = 10.0,
    drain_timeout: float = DRAIN_TIMEOUT,
) -> NatsMessageBus:
    """Return a message bus over NATS; use it as an async context manager.

    Args:
        url: Address of a server, or addresses of several of one cluster.
        credentials: Who we are there.
        durability: What the acknowledgement of an event or of work must mean. Checked when the bus
            opens: a server that gives less is refused.
        monitoring_urls: The servers' HTTP status addresses; `fsync` cannot be checked without them.
        limits: What the streams keep; used when they are made.
        codec: How payloads are written; None means MessagePack. All registered codecs are read.
        publish_timeout: Seconds for which storing is tried again; an election takes up to ten.
        connect_timeout: Seconds for the first connection. Later ones are tried for ever.
        drain_timeout: Seconds that handlers get to finish when the bus closes.

    Raises:
        ConfigurationError: An argument does not fit.
    """
    used = limits or StreamLimits()
    if publish_timeout <= 0 or publish_timeout * 2 > used.duplicate_window:
        message = f"publish_timeout={publish_timeout!r} does not fit the duplicate window."
        raise ConfigurationError(
            message, remedy=f"Give at most half of its {used.duplicate_window:g} s."
        )
    urls = [url] if isinstance(url, str) else list(url)
    connection = Connection(urls, credentials or NatsCredentials(), connect_timeout=connect_timeout)
    transport = NatsTransport(
        connection,
        durability=durability,
        limits=used,
        publish_timeout=publish_timeout,
        monitoring_urls=monitoring_urls,
    )
    return NatsMessageBus(transport, codec=codec, drain_timeout=drain_timeout)
