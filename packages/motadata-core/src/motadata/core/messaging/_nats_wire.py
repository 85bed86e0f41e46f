"""Messages over the driver's connection by a shorter way than the driver's own.

The driver makes the connection, signs in, pings, reconnects and subscribes again. Per message it
wakes two tasks and fills two queues, which costs as much as a codec. Here the messages of one turn
of the event loop are written together, and one that comes in is delivered where the loop reads it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

from motadata.core.errors import MessagingError, OverloadError
from motadata.core.messaging._frame_reader import Deliver, FrameReader
from motadata.core.messaging._frames import too_large, write_frame
from motadata.core.messaging._nats_errors import closed_error, translated
from motadata.core.messaging._transport import Incoming
from motadata.core.observability import get_logger
from motadata.core.resilience import time_limit


if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

_log = get_logger("messaging")

BUFFER: Final = 8 * 1024 * 1024
"""Bytes that wait while the connection is down or slow; more are refused."""

_CONGESTED: Final = 256 * 1024
_SOCKET_FULL: Final = 64 * 1024
_DRAIN_TIMEOUT: Final = 10.0
_STOP_TIMEOUT: Final = 5.0


class Wire:
    """Writes frames to a client's connection and delivers those that come."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._is_scheduled = False
        # The attributes with underscores are the driver's; `nats-py<3` in pyproject.toml goes with
        # them, and every test of the bus notices when they change.
        self._reader = FrameReader(client._ps, broken=_broken, began=self._listen_early)  # noqa: SLF001
        client._ps = self._reader  # type: ignore[assignment]  # noqa: SLF001
        self._take_pong = client._process_pong  # noqa: SLF001
        client._process_pong = self._pong  # type: ignore[method-assign]  # noqa: SLF001
        self._listening: set[asyncio.Task[object]] = set()

    @property
    def is_congested(self) -> bool:
        """Whether whoever sends should `drain` first."""
        return self._client._pending_data_size > _CONGESTED  # noqa: SLF001

    def post(self, subject: str, data: bytes, headers: bytes, reply: str = "") -> None:
        """Send a message at the end of the loop's turn at latest, or when the connection is back.

        Raises:
            OverloadError: Too much waits to be sent.
            MessagingError: The message is too large, or the connection is closed.
        """
        client = self._client
        if client.is_closed:
            raise closed_error()
        frame = write_frame(subject, reply, headers, data)
        size = len(frame)
        limit = client.max_payload
        if size > BUFFER or (size > limit and _size(frame) > limit):
            raise too_large(len(data))
        if client._pending_data_size + size > BUFFER:  # noqa: SLF001
            message = "Sending: the connection is down or slow, and its buffer is full."
            raise OverloadError(message, remedy="Send less, or wait for the server.")
        client._pending.append(frame)  # noqa: SLF001
        client._pending_data_size += size  # noqa: SLF001
        if not self._is_scheduled:
            loop = asyncio.get_running_loop()
            # Where nobody else is about to run, nobody will add to what is written. An event loop
            # that does not show that gets the turn that the others are spared.
            if getattr(loop, "_ready", True):
                self._is_scheduled = True
                loop.call_soon(self._write)
            else:
                self._write()

    async def drain(self) -> None:
        """Return when less waits to be sent, or the connection is down and everything waits.

        Raises:
            OverloadError: The server took nothing for ten seconds.
            DeadlineExceededError: The caller's deadline ended first.
        """
        try:
            async with time_limit(None, what="room to send"), asyncio.timeout(_DRAIN_TIMEOUT):
                while self.is_congested and self._client.is_connected:
                    self._write()
                    if (transport := self._client._transport) is not None:  # noqa: SLF001
                        await transport.drain()  # type: ignore[no-untyped-call]  # the driver's
                    await asyncio.sleep(0)
        except TimeoutError:
            message = "Sending: the server takes nothing more."
            raise OverloadError(message, remedy="Send less, or wait.") from None
        except OSError:
            # It broke: the driver connects again, and what waits is sent then.
            return

    async def subscribe(
        self, pattern: str, deliver: Deliver, *, group: str = ""
    ) -> WireSubscription:
        """Deliver the messages that match a pattern; a `group` shares them.

        The driver subscribes again whenever it connects again.
        """

        async def deliver_early(message: Msg) -> None:
            # What came before the reader knew the subscription's number.
            deliver(Incoming(message.subject, message.data, message.headers or {}, message.reply))

        client = self._client
        # The driver takes the number before it waits for anything.
        number = client._sid + 1  # noqa: SLF001
        try:
            subscription = await client.subscribe(pattern, queue=group, cb=deliver_early)
        except BaseException:
            if (given_up := client._subs.get(number)) is not None:  # noqa: SLF001
                self._abandon(given_up)
            raise
        self._reader.receivers[str(number).encode()] = deliver
        self._watch(subscription)
        return WireSubscription(subscription, self._forget, self._abandon)

    def tasks(self) -> set[asyncio.Task[object]]:
        """Return what the driver runs for this connection and its subscriptions."""
        client = self._client
        for subscription in client._subs.values():  # noqa: SLF001
            self._watch(subscription)
        own: tuple[asyncio.Task[object] | None, ...] = (
            client._reading_task,  # noqa: SLF001
            client._flusher_task,  # noqa: SLF001
            client._ping_interval_task,  # noqa: SLF001
            client._reconnection_task,  # noqa: SLF001
        )
        return {task for task in own if task is not None and not task.done()} | self._listening

    def hang_up(self) -> None:
        """Drop the connection after a closing that failed halfway."""
        if transport := self._client._transport:  # noqa: SLF001
            transport.close()  # type: ignore[no-untyped-call]  # the driver's

    def _listen_early(self) -> None:
        """Deliver messages where the loop reads them: the driver's task would do it a turn later.

        What is no message goes on to that task, and what comes while it still has some to read.
        """
        stream = getattr(self._client._transport, "_io_reader", None)  # noqa: SLF001
        if not isinstance(stream, asyncio.StreamReader) or not hasattr(stream, "_buffer"):
            return
        reader, connection, feed = self._reader, self._reader.connections, stream.feed_data

        def feed_data(data: bytes) -> None:
            if connection == reader.connections and not stream._buffer:  # noqa: SLF001
                data = reader.take(data)
            if data:
                feed(data)

        stream.feed_data = feed_data  # type: ignore[assignment,method-assign]  # of this one

    def _watch(self, subscription: Subscription) -> None:
        # The driver's annotations know only what it begins with.
        task = cast("asyncio.Task[object] | None", subscription._wait_for_msgs_task)  # noqa: SLF001
        if task is not None and not task.done():
            self._listening.add(task)
            task.add_done_callback(self._listening.discard)

    def _forget(self, subscription: Subscription) -> None:
        self._reader.receivers.pop(str(subscription._id).encode(), None)  # noqa: SLF001

    def _abandon(self, subscription: Subscription) -> None:
        """End a subscription at once; the server hears of it as soon as it takes something."""
        client, number = self._client, subscription._id  # noqa: SLF001
        self._forget(subscription)
        subscription._closed = True  # noqa: SLF001
        subscription._stop_processing()  # noqa: SLF001
        client._remove_sub(number)  # noqa: SLF001
        if client.is_connected:
            frame = b"UNSUB %d\r\n" % number
            client._pending.append(frame)  # noqa: SLF001
            client._pending_data_size += len(frame)  # noqa: SLF001
            self._write()

    async def _pong(self) -> None:
        # The driver sets the answer of a ping that was given up too, which ends its reading.
        pongs = self._client._pongs  # noqa: SLF001
        if pongs and pongs[0].done():
            pongs[0] = asyncio.get_running_loop().create_future()
        await self._take_pong()

    def _write(self) -> None:
        self._is_scheduled = False
        client = self._client
        if not client._pending or not client.is_connected:  # noqa: SLF001
            return
        transport, wishes = client._transport, client._flush_queue  # noqa: SLF001
        if transport is None or wishes is None:
            return
        writer = getattr(transport, "_io_writer", None)
        if writer is None or writer.transport.get_write_buffer_size() > _SOCKET_FULL:
            # The driver's own task writes all that waits when the socket takes it: one wish does.
            # A full queue would keep whoever subscribes or pings, and lose their cancellation.
            if wishes.empty():
                wishes.put_nowait(asyncio.get_running_loop().create_future())
            return
        pending, client._pending = client._pending, []  # noqa: SLF001
        client._pending_data_size = 0  # noqa: SLF001
        transport.writelines(pending)


class WireSubscription:
    """A pattern whose messages are delivered."""

    def __init__(
        self,
        subscription: Subscription,
        forget: Callable[[Subscription], None],
        abandon: Callable[[Subscription], None],
    ) -> None:
        self._subscription = subscription
        self._forget = forget
        self._abandon = abandon

    def abandon(self) -> None:
        """End without waiting for the server: what it still sends is dropped."""
        self._abandon(self._subscription)

    async def stop(self) -> None:
        """Return when what the server had sent is delivered, and nothing more comes.

        Whoever is cancelled does not wait for the server: what it still sends is dropped.
        """
        try:
            async with asyncio.timeout(_STOP_TIMEOUT):
                with translated("Unsubscribing"):
                    await self._subscription.drain()  # type: ignore[no-untyped-call]  # the driver's
        except (MessagingError, TimeoutError) as error:
            _log.warning("subscription_not_drained", error=error)
            # Otherwise the driver would subscribe again when it connects again.
            self.abandon()
        except BaseException:
            self.abandon()
            raise
        self._forget(self._subscription)


def _size(frame: bytes) -> int:
    """Return the bytes of headers and payload, which is what the server limits."""
    return len(frame) - frame.index(b"\r\n") - 4


def _broken(what: str) -> Exception:
    from nats.errors import ProtocolError

    _log.warning("connection_broken", reason=what[:200])
    return ProtocolError(what)
