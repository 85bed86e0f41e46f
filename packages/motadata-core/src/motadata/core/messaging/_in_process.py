"""The bus within one process: nothing leaves it, nothing outlives it, everything else is alike."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from motadata.core.errors import MessagingError
from motadata.core.messaging._bus import DRAIN_TIMEOUT, Bus
from motadata.core.messaging._envelope import STORED_ID
from motadata.core.messaging._frames import header_lines, message_size, read_headers, too_large
from motadata.core.messaging._memory_consumer import MemoryFeed, matches
from motadata.core.messaging._memory_stream import MemoryStream
from motadata.core.messaging._nats_streams import StreamLimits
from motadata.core.messaging._seconds import check_seconds
from motadata.core.messaging._subject import DEAD_LETTERS, EVENTS, WORK
from motadata.core.messaging._transport import (
    INBOX,
    Feed,
    FeedRequest,
    Incoming,
    Listener,
    Stored,
    Take,
)
from motadata.core.models import Health
from motadata.core.protocols import Codec, Durability


_MAX_PAYLOAD: Final = 1024 * 1024
"""Bytes of a message: what a NATS server takes unless it is told otherwise."""


class InProcessBroker:
    """What several in-process buses share, as several processes would share a server.

    Args:
        limits: What the streams keep, in memory.
    """

    def __init__(self, *, limits: StreamLimits | None = None) -> None:
        used = limits or StreamLimits(max_bytes=64 * 1024 * 1024, max_messages_per_subject=10_000)
        self._streams = {
            EVENTS: MemoryStream(used, keep=used.event_age),
            WORK: MemoryStream(used, is_queue=True),
            DEAD_LETTERS: MemoryStream(used, keep=used.dead_letter_age, drops_oldest=True),
        }
        self._listeners: list[_MemoryListener] = []
        self._waiting: dict[str, asyncio.Future[Incoming]] = {}
        self._turn = 0

    def stream(self, name: str) -> MemoryStream:
        """Return a stream."""
        return self._streams[name]

    def send(self, incoming: Incoming) -> bool:
        """Pass a message on to who listens; return whether anybody does."""
        waiting = self._waiting.get(incoming.subject)
        if waiting is not None:
            if not waiting.done():
                waiting.set_result(incoming)
            return True
        self._turn += 1
        groups: dict[str, list[_MemoryListener]] = {}
        for listener in self._listeners:
            if matches(listener.pattern, incoming.subject):
                # Without a group each gets its own copy.
                groups.setdefault(listener.group or f"={id(listener)}", []).append(listener)
        for members in groups.values():
            members[self._turn % len(members)].offer(incoming)
        return bool(groups)

    async def request(self, incoming: Incoming, *, timeout: float) -> Incoming:
        """Pass a message on and return the first reply.

        Raises:
            TimeoutError: None came.
            MessagingError: Nobody listens.
        """
        self._turn += 1
        incoming.reply = f"{INBOX}{self._turn}"
        answer: asyncio.Future[Incoming] = asyncio.get_running_loop().create_future()
        self._waiting[incoming.reply] = answer
        try:
            if not self.send(incoming):
                message = "A request: nobody listens."
                raise MessagingError(message, remedy="Start who should, then repeat.")
            async with asyncio.timeout(timeout):
                return await answer
        finally:
            del self._waiting[incoming.reply]

    def add(self, listener: _MemoryListener) -> None:
        """Begin to pass messages to a listener."""
        self._listeners.append(listener)

    def remove(self, listener: _MemoryListener) -> None:
        """Pass nothing more to a listener."""
        if listener in self._listeners:
            self._listeners.remove(listener)


class _MemoryListener:
    """A pattern that is listened to."""

    def __init__(
        self,
        broker: InProcessBroker,
        pattern: str,
        receive: Callable[[Incoming], None],
        group: str,
    ) -> None:
        self.pattern = pattern
        self.group = group
        self._broker = broker
        self._receive = receive

    def offer(self, incoming: Incoming) -> None:
        """Pass a message on in a later turn of the loop, as a network would."""
        asyncio.get_running_loop().call_soon(self._receive, incoming)

    async def stop(self) -> None:
        """Return when what has arrived was passed on."""
        self._broker.remove(self)
        await asyncio.sleep(0)


class InProcessTransport:
    """Carries bytes between the tasks of one event loop."""

    def __init__(self, broker: InProcessBroker) -> None:
        self.system = "in_process"
        self._broker = broker
        self._is_open = False

    @property
    def durability(self) -> Durability:
        """Nothing outlives the process."""
        return "memory"

    @property
    def is_congested(self) -> bool:
        """Nothing waits to be sent."""
        return False

    async def open(self) -> None:
        """Begin."""
        self._is_open = True

    async def close(self) -> None:
        """End; the broker keeps what is stored for its other buses."""
        self._is_open = False

    def post(self, subject: str, data: bytes, headers: bytes) -> None:
        """Send to whoever listens."""
        self._check_open()
        _check_size(data, headers)
        self._broker.send(_incoming(subject, data, headers))

    async def send(self, subject: str, data: bytes, headers: bytes) -> None:
        """Send to whoever listens, who gets a turn of the loop."""
        self.post(subject, data, headers)
        await asyncio.sleep(0)

    async def request(
        self, subject: str, data: bytes, headers: bytes, *, timeout: float
    ) -> Incoming:
        """Send and return the first reply."""
        self._check_open()
        _check_size(data, headers)
        return await self._broker.request(_incoming(subject, data, headers), timeout=timeout)

    async def listen(
        self, pattern: str, receive: Callable[[Incoming], None], *, group: str
    ) -> Listener:
        """Call `receive` for each message."""
        self._check_open()
        listener = _MemoryListener(self._broker, pattern, receive, group)
        self._broker.add(listener)
        return listener

    async def store(
        self, stream: str, subject: str, data: bytes, headers: bytes, *, stored_id: str
    ) -> Stored:
        """Store once."""
        self._check_open()
        headers += header_lines({STORED_ID: stored_id})
        if stream != DEAD_LETTERS:
            # What is kept apart has more headers than it had when it was taken.
            _check_size(data, headers)
        stored = self._broker.stream(stream).store(_incoming(subject, data, headers), stored_id)
        await asyncio.sleep(0)
        return stored

    async def feed(self, request: FeedRequest, take: Take) -> Feed:
        """Open the places, or continue from them."""
        self._check_open()
        stream = self._broker.stream(request.stream)
        consumers = [stream.consumer(place, request.options) for place in request.places]
        return MemoryFeed(consumers, take)

    async def read(self, stream: str, subject: str, limit: int) -> Sequence[tuple[int, Incoming]]:
        """Return the first stored messages of a subject."""
        self._check_open()
        return self._broker.stream(stream).read(subject, limit)

    async def health(self) -> Health:
        """Say whether the bus is open."""
        if not self._is_open:
            return Health("down", detail="The message bus is not open.")
        return Health("ok", detail="Acknowledgements mean: memory.")

    def _check_open(self) -> None:
        if not self._is_open:
            message = "The message bus is not open."
            raise MessagingError(
                message,
                remedy="Use it within `async with create_in_process_bus():`.",
                retryable=False,
            )


def _incoming(subject: str, data: bytes, headers: bytes) -> Incoming:
    return Incoming(subject, data, read_headers(b"\r\n" + headers))


def _check_size(data: bytes, headers: bytes) -> None:
    if len(data) > _MAX_PAYLOAD // 2 and message_size(headers, data) > _MAX_PAYLOAD:
        raise too_large(len(data))


class InProcessBus(Bus):
    """The message bus within one process; made by `create_in_process_bus`."""


def create_in_process_bus(
    broker: InProcessBroker | None = None,
    *,
    codec: Codec | None = None,
    drain_timeout: float = DRAIN_TIMEOUT,
) -> InProcessBus:
    """Return a message bus within this process, for one event loop; use it as a context manager.

    Args:
        broker: What to share with other buses of the process; None shares nothing.
        codec: How payloads are written; None means MessagePack.
        drain_timeout: Seconds that handlers get to finish when the bus closes.

    Raises:
        ConfigurationError: The drain timeout is no number.
    """
    check_seconds(drain_timeout=drain_timeout)
    transport = InProcessTransport(broker or InProcessBroker())
    return InProcessBus(transport, codec=codec, drain_timeout=drain_timeout)
