"""A stream in memory: stored once, handed out until acknowledged, bounded."""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from motadata.core.clock import SYSTEM_CLOCK, Clock
from motadata.core.errors import MessagingError, OverloadError
from motadata.core.messaging._nats_streams import StreamLimits
from motadata.core.messaging._transport import Delivery, FeedRequest, Incoming, Stored


_FOR_EVER: Final = float("inf")


@dataclass(slots=True)
class _Kept:
    sequence: int
    incoming: Incoming
    since: float

    @property
    def size(self) -> int:
        headers = self.incoming.headers
        return len(self.incoming.data) + sum(len(key) + len(headers[key]) for key in headers)


class MemoryStream:
    """Messages in the order in which they were stored, and the consumers' places among them.

    Args:
        limits: Bounds; a message that would exceed them is refused.
        keep: Seconds after which a message goes, read or not.
        is_queue: Whether a message goes when it is acknowledged.
        drops_oldest: Whether the oldest message goes instead of the new one being refused.
    """

    def __init__(
        self,
        limits: StreamLimits,
        *,
        keep: float = _FOR_EVER,
        is_queue: bool = False,
        drops_oldest: bool = False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.clock = clock
        self.is_queue = is_queue
        self.messages: OrderedDict[int, _Kept] = OrderedDict()
        self._limits = limits
        self._keep = keep
        self._drops_oldest = drops_oldest
        self.last = 0
        self._bytes = 0
        self._per_subject: Counter[str] = Counter()
        self._ids: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._consumers: dict[str, MemoryConsumer] = {}

    def store(self, incoming: Incoming, stored_id: str) -> Stored:
        """Store a message, unless its id was stored before.

        Raises:
            OverloadError: A bound is reached and consumers have not seen the oldest messages yet.
        """
        now = self.clock.now()
        self._forget(now)
        known = self._ids.get(stored_id)
        if known is not None:
            return Stored(known[0], duplicate=True)
        kept = _Kept(self.last + 1, incoming, now)
        while self._is_full(kept):
            if not self._make_room(kept):
                message = f"The stream is full: {incoming.subject!r} has as many as it may."
                raise OverloadError(
                    message, remedy="Let its consumers catch up, or raise the limits."
                )
        self.last = kept.sequence
        self.messages[kept.sequence] = kept
        self._bytes += kept.size
        self._per_subject[incoming.subject] += 1
        self._ids[stored_id] = (kept.sequence, now)
        for consumer in self._consumers.values():
            consumer.pump()
        return Stored(kept.sequence, duplicate=False)

    def consumer(self, request: FeedRequest) -> MemoryConsumer:
        """Return the consumer of that name, made when it is new.

        Raises:
            MessagingError: Another consumer takes the same work.
        """
        there = self._consumers.get(request.consumer)
        if there is not None:
            there.change(request)
            return there
        if self.is_queue:
            for other in self._consumers.values():
                if any(_overlap(mine, his) for mine in request.patterns for his in other.patterns):
                    message = f"The consumer {request.consumer!r} takes another consumer's work."
                    raise MessagingError(
                        message,
                        remedy="Work for one tenant or for all, not both.",
                        retryable=False,
                    )
        place = self.last if request.options.start == "new" else 0
        made = MemoryConsumer(self, request, place)
        self._consumers[request.consumer] = made
        return made

    def forget_consumer(self, name: str) -> None:
        """Forget a consumer and its place."""
        self._consumers.pop(name, None)

    def remove(self, sequence: int) -> None:
        """Remove a message, if it is there."""
        kept = self.messages.pop(sequence, None)
        if kept is None:
            return
        self._bytes -= kept.size
        subject = kept.incoming.subject
        self._per_subject[subject] -= 1
        if not self._per_subject[subject]:
            del self._per_subject[subject]

    def read(self, subject: str, limit: int) -> list[tuple[int, Incoming]]:
        """Return the first messages of a subject."""
        self._forget(self.clock.now())
        found = [
            (kept.sequence, kept.incoming)
            for kept in self.messages.values()
            if kept.incoming.subject == subject
        ]
        return found[:limit]

    def _is_full(self, new: _Kept) -> bool:
        count = self._per_subject[new.incoming.subject] if self._per_subject else 0
        return (
            count >= self._limits.max_messages_per_subject
            or self._bytes + new.size > self._limits.max_bytes
        )

    def _make_room(self, new: _Kept) -> bool:
        """Drop the oldest message that may go; return whether there was one."""
        if self.is_queue:
            return False
        same = self._per_subject[new.incoming.subject] >= self._limits.max_messages_per_subject
        for kept in self.messages.values():
            if same and kept.incoming.subject != new.incoming.subject:
                continue
            if self._drops_oldest or not any(
                consumer.needs(kept) for consumer in self._consumers.values()
            ):
                self.remove(kept.sequence)
                return True
            # A younger one cannot be less needed.
            return False
        return False

    def _forget(self, now: float) -> None:
        while self._ids:
            name, (_, since) = next(iter(self._ids.items()))
            if now - since < self._limits.duplicate_window:
                break
            del self._ids[name]
        while self.messages:
            kept = next(iter(self.messages.values()))
            if now - kept.since < self._keep:
                break
            self.remove(kept.sequence)


@dataclass(slots=True)
class _Out:
    """A message that was handed out and has no verdict yet."""

    deliveries: int
    due: float


class MemoryConsumer:
    """A consumer's place in a stream, and what it was handed without a verdict."""

    def __init__(self, stream: MemoryStream, request: FeedRequest, place: int) -> None:
        self.patterns = request.patterns
        self._name = request.consumer
        self._options = request.options
        self._stream = stream
        self._place = place
        self._out: dict[int, _Out] = {}
        self._due: list[tuple[float, int]] = []
        self._feeds: deque[MemoryFeed] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._end: asyncio.TimerHandle | None = None

    def change(self, request: FeedRequest) -> None:
        """Take over the options of whoever opened it last."""
        self.patterns = request.patterns
        self._options = request.options

    def attach(self, feed: MemoryFeed) -> None:
        """Hand out to one more process."""
        if self._end is not None:
            self._end.cancel()
            self._end = None
        self._feeds.append(feed)

    def detach(self, feed: MemoryFeed) -> None:
        """Hand out to one process fewer."""
        if feed in self._feeds:
            self._feeds.remove(feed)
        if not self._feeds:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._options.forget_after is not None:
                self._end = asyncio.get_running_loop().call_later(
                    self._options.forget_after, self._stream.forget_consumer, self._name
                )

    def needs(self, kept: _Kept) -> bool:
        """Tell whether it has still to see or to acknowledge a message."""
        if not any(matches(pattern, kept.incoming.subject) for pattern in self.patterns):
            return False
        return kept.sequence > self._place or kept.sequence in self._out

    def ack(self, sequence: int) -> None:
        """Take a message as done."""
        if self._out.pop(sequence, None) is not None and self._stream.is_queue:
            self._stream.remove(sequence)

    def postpone(self, sequence: int, seconds: float) -> None:
        """Hand a message out again after `seconds`, unless a verdict comes before."""
        out = self._out.get(sequence)
        if out is not None:
            out.due = self._stream.clock.now() + seconds
            heapq.heappush(self._due, (out.due, sequence))
            self.pump()

    def progress(self, sequence: int) -> None:
        """Give a message its full time again."""
        self.postpone(sequence, self._options.ack_wait)

    def pump(self) -> None:
        """Hand out what is due, to each process in turn, as far as they want it."""
        for _ in range(len(self._feeds)):
            while self._feeds and self._feeds[0].free > 0:
                found = self._next()
                if found is None:
                    self._set_timer()
                    return
                self._hand_out(found)
            self._feeds.rotate(-1)
        self._set_timer()

    def _next(self) -> _Kept | None:
        now = self._stream.clock.now()
        while self._due and self._due[0][0] <= now:
            due, sequence = heapq.heappop(self._due)
            out = self._out.get(sequence)
            if out is None or out.due != due:
                continue
            kept = self._stream.messages.get(sequence)
            if kept is not None:
                return kept
            del self._out[sequence]
        while self._place < self._stream.last:
            self._place += 1
            kept = self._stream.messages.get(self._place)
            if kept is not None and any(matches(p, kept.incoming.subject) for p in self.patterns):
                return kept
        return None

    def _hand_out(self, kept: _Kept) -> None:
        due = self._stream.clock.now() + self._options.ack_wait
        out = self._out.setdefault(kept.sequence, _Out(0, due))
        out.deliveries += 1
        out.due = due
        heapq.heappush(self._due, (due, kept.sequence))
        feed = self._feeds[0]
        feed.free -= 1
        feed.hand_out(MemoryDelivery(self, kept, out.deliveries))
        self._feeds.rotate(-1)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._due and self._feeds:
            delay = max(0.0, self._due[0][0] - self._stream.clock.now())
            self._timer = asyncio.get_running_loop().call_later(delay, self.pump)


class MemoryDelivery:
    """A message of a memory stream that waits for its verdict."""

    __slots__ = ("_consumer", "deliveries", "incoming", "sequence")

    def __init__(self, consumer: MemoryConsumer, kept: _Kept, deliveries: int) -> None:
        self._consumer = consumer
        self.incoming = kept.incoming
        self.sequence = kept.sequence
        self.deliveries = deliveries

    async def ack(self) -> None:
        """Say that it is done."""
        self._consumer.ack(self.sequence)

    async def nak(self, delay: float) -> None:
        """Ask for it again after `delay` seconds."""
        self._consumer.postpone(self.sequence, delay)

    async def progress(self) -> None:
        """Say that it is still being worked on."""
        self._consumer.progress(self.sequence)


@dataclass(slots=True)
class MemoryFeed:
    """One process at a consumer."""

    consumer: MemoryConsumer
    on_delivery: Callable[[Delivery], None]
    free: int = 0
    _attached: bool = field(default=False, init=False)

    async def want(self, count: int) -> None:
        """Take `count` more messages."""
        if not self._attached:
            self.consumer.attach(self)
            self._attached = True
        self.free += count
        self.consumer.pump()

    async def stop(self) -> None:
        """Hand out nothing more."""
        self.free = 0
        self.consumer.detach(self)

    def hand_out(self, delivery: Delivery) -> None:
        """Pass a message on in a later turn of the loop."""
        asyncio.get_running_loop().call_soon(self.on_delivery, delivery)


def matches(pattern: str, subject: str) -> bool:
    """Tell whether a subject fits a pattern of as many tokens, `*` standing for any one."""
    wanted, there = pattern.split("."), subject.split(".")
    return len(wanted) == len(there) and all(
        one in ("*", other) for one, other in zip(wanted, there, strict=True)
    )


def _overlap(one: str, other: str) -> bool:
    """Tell whether some subject fits both patterns."""
    mine, his = one.split("."), other.split(".")
    return len(mine) == len(his) and all(
        "*" in (a, b) or a == b for a, b in zip(mine, his, strict=True)
    )
