"""A consumer's place in a stream in memory: handed out until acknowledged, in turn, in order."""

from __future__ import annotations

import asyncio
import heapq
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from motadata.core.clock import Clock
from motadata.core.messaging._transport import Delivery, FeedPlace, Incoming, Take
from motadata.core.protocols import ConsumerOptions


@dataclass(slots=True)
class Kept:
    """A message of a stream."""

    sequence: int
    incoming: Incoming
    since: float

    @property
    def size(self) -> int:
        """Return its bytes, headers included."""
        headers = self.incoming.headers
        return len(self.incoming.data) + sum(len(key) + len(headers[key]) for key in headers)


class Messages(Protocol):
    """What a consumer needs of its stream."""

    clock: Clock
    is_queue: bool
    messages: OrderedDict[int, Kept]
    last: int

    def remove(self, sequence: int) -> None:
        """Remove a message, if it is there."""
        ...

    def forget_consumer(self, name: str) -> None:
        """Forget a consumer and its place."""
        ...


@dataclass(slots=True)
class _Out:
    """A message that was handed out and has no verdict yet."""

    deliveries: int
    due: float


class MemoryConsumer:
    """A consumer's place in a stream, and what it was handed without a verdict."""

    def __init__(
        self, stream: Messages, place: FeedPlace, options: ConsumerOptions, last_seen: int
    ) -> None:
        self.patterns = place.patterns
        self._name = place.consumer
        self._is_one_by_one = place.one_by_one
        self._options = options
        self._stream = stream
        self._place = last_seen
        self._out: dict[int, _Out] = {}
        self._due: list[tuple[float, int]] = []
        self._feeds: deque[MemoryTap] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._end: asyncio.TimerHandle | None = None

    def change(self, place: FeedPlace, options: ConsumerOptions) -> None:
        """Take over the options of whoever opened it last."""
        self.patterns = place.patterns
        self._options = options

    def attach(self, feed: MemoryTap) -> None:
        """Hand out to one more process."""
        if self._end is not None:
            self._end.cancel()
            self._end = None
        self._feeds.append(feed)

    def detach(self, feed: MemoryTap) -> None:
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

    def needs(self, kept: Kept) -> bool:
        """Tell whether it has still to see or to acknowledge a message."""
        if not any(matches(pattern, kept.incoming.subject) for pattern in self.patterns):
            return False
        return kept.sequence > self._place or kept.sequence in self._out

    def ack(self, sequence: int) -> None:
        """Take a message as done."""
        if self._out.pop(sequence, None) is not None and self._stream.is_queue:
            self._stream.remove(sequence)
        if self._is_one_by_one:
            self.pump()

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

    def _next(self) -> Kept | None:
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
        if self._is_one_by_one and self._out:
            return None
        while self._place < self._stream.last:
            self._place += 1
            kept = self._stream.messages.get(self._place)
            if kept is not None and any(matches(p, kept.incoming.subject) for p in self.patterns):
                return kept
        return None

    def _hand_out(self, kept: Kept) -> None:
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

    def __init__(self, consumer: MemoryConsumer, kept: Kept, deliveries: int) -> None:
        self._consumer = consumer
        self.incoming = kept.incoming
        self.sequence = kept.sequence
        self.deliveries = deliveries

    def ack(self) -> None:
        """Say that it is done."""
        self._consumer.ack(self.sequence)

    def nak(self, delay: float) -> None:
        """Ask for it again after `delay` seconds."""
        self._consumer.postpone(self.sequence, delay)

    def progress(self) -> None:
        """Say that it is still being worked on."""
        self._consumer.progress(self.sequence)


class MemoryTap:
    """One process at one consumer."""

    def __init__(self, take: Take, place: int) -> None:
        self.free = 0
        self._take = take
        self._place = place

    def hand_out(self, delivery: Delivery) -> None:
        """Pass a message on in a later turn of the loop."""
        asyncio.get_running_loop().call_soon(self._take, delivery, self._place)


class MemoryFeed:
    """One process at the consumers of its places."""

    def __init__(self, consumers: Sequence[MemoryConsumer], take: Take) -> None:
        self._consumers = consumers
        self._taps = [MemoryTap(take, place) for place in range(len(consumers))]
        for consumer, tap in zip(consumers, self._taps, strict=True):
            consumer.attach(tap)

    def want(self, place: int, count: int) -> None:
        """Take `count` more messages of a place."""
        self._taps[place].free += count
        self._consumers[place].pump()

    async def stop(self) -> None:
        """Hand out nothing more."""
        for consumer, tap in zip(self._consumers, self._taps, strict=True):
            tap.free = 0
            consumer.detach(tap)


def matches(pattern: str, subject: str) -> bool:
    """Tell whether a subject fits a pattern of as many tokens, `*` standing for any one."""
    wanted, there = pattern.split("."), subject.split(".")
    return len(wanted) == len(there) and all(
        one in ("*", other) for one, other in zip(wanted, there, strict=True)
    )


def overlap(one: str, other: str) -> bool:
    """Tell whether some subject fits both patterns."""
    mine, his = one.split("."), other.split(".")
    return len(mine) == len(his) and all(
        "*" in (a, b) or a == b for a, b in zip(mine, his, strict=True)
    )
