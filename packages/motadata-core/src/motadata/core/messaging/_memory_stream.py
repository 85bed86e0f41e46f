"""A stream in memory: stored once, kept as long as it may, bounded."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Final

from motadata.core.clock import SYSTEM_CLOCK, Clock
from motadata.core.errors import MessagingError, OverloadError
from motadata.core.messaging._memory_consumer import Kept, MemoryConsumer, overlap
from motadata.core.messaging._nats_streams import StreamLimits
from motadata.core.messaging._transport import FeedPlace, Incoming, Stored
from motadata.core.protocols import ConsumerOptions


_FOR_EVER: Final = float("inf")


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
        self.messages: OrderedDict[int, Kept] = OrderedDict()
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
        kept = Kept(self.last + 1, incoming, now)
        while self._is_full(kept):
            if not self._make_room(kept):
                message = self._what_is_full(kept)
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

    def consumer(self, place: FeedPlace, options: ConsumerOptions) -> MemoryConsumer:
        """Return the consumer of that name, made when it is new.

        Raises:
            MessagingError: Another consumer takes the same work.
        """
        there = self._consumers.get(place.consumer)
        if there is not None:
            there.change(place, options)
            return there
        if self.is_queue:
            for other in self._consumers.values():
                if any(overlap(mine, his) for mine in place.patterns for his in other.patterns):
                    message = f"The consumer {place.consumer!r} takes another consumer's work."
                    raise MessagingError(
                        message,
                        remedy="Work for one tenant or for all, not both.",
                        retryable=False,
                    )
        made = MemoryConsumer(self, place, options, self.last if options.start == "new" else 0)
        self._consumers[place.consumer] = made
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

    def _is_full(self, new: Kept) -> bool:
        count = self._per_subject[new.incoming.subject] if self._per_subject else 0
        return (
            count >= self._limits.max_messages_per_subject
            or self._bytes + new.size > self._limits.max_bytes
        )

    def _what_is_full(self, new: Kept) -> str:
        if self._bytes + new.size > self._limits.max_bytes:
            return "The stream is full: all tenants together store as many bytes as they may."
        return f"The stream is full: {new.incoming.subject!r} has as many messages as it may."

    def _make_room(self, new: Kept) -> bool:
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
