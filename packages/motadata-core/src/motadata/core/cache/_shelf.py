"""What one tenant holds in memory, and which of it goes first: S3-FIFO with one bit.

Two queues in the order of arrival. A value enters the first, a tenth of the shelf; one that was
read there moves on to the second, one that was not goes. Who goes leaves the hash of its place
behind, and who comes back while that is remembered enters the second queue at once. In the second
queue a value that was read since its last turn gets another. So a scan of keys that nobody asks for
again passes through the tenth and pushes nothing else out, and a read only sets a bit.

After Yang, Zhang, Qiu, Yue, Rashmi: "FIFO queues are all you need for cache eviction" (SOSP 2023).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final


_NEW_SHARE: Final = 10
# A value that everybody reads may keep its place for long; who makes room does not wait for that.
_MOST_TURNS: Final = 64

Place = tuple[str, str]
"""A namespace and a key of it."""


@dataclass(slots=True, eq=False)
class Entry:
    """A value that is held.

    Attributes:
        value: The value.
        expires_at: On the store's clock.
        size: About how many bytes it takes.
        tags: What it was tagged with.
        was_read: Whether it was read since its last turn.
    """

    value: object
    expires_at: float
    size: int
    tags: tuple[str, ...]
    was_read: bool = False


class Shelf:
    """The entries of one tenant; its store sees to it that one thread at a time changes it."""

    __slots__ = ("_fresh", "_gone", "_settled", "_tagged", "counted", "entries", "rank", "size")

    def __init__(self) -> None:
        self.entries: dict[Place, Entry] = {}
        self.size = 0
        # What its store counted last time, entries and bytes; and the bit length of one of them.
        self.counted = (0, 0)
        self.rank = 0
        self._fresh: OrderedDict[Place, Entry] = OrderedDict()
        self._settled: OrderedDict[Place, Entry] = OrderedDict()
        self._gone: OrderedDict[int, None] = OrderedDict()
        self._tagged: dict[str, set[Place]] = {}

    def put(self, place: Place, entry: Entry) -> None:
        """Hold an entry; one that takes the place of another takes its turn, too."""
        if (before := self.entries.get(place)) is not None:
            entry.was_read = before.was_read
            self._untag(place, before.tags)
            self.size -= before.size
            queue = self._fresh if place in self._fresh else self._settled
        elif hash(place) in self._gone:
            del self._gone[hash(place)]
            queue = self._settled
        else:
            queue = self._fresh
        queue[place] = self.entries[place] = entry
        self.size += entry.size
        for tag in entry.tags:
            self._tagged.setdefault(tag, set()).add(place)

    def remove(self, place: Place) -> Entry:
        """Forget the entry at a place where there is one."""
        entry = self.entries.pop(place)
        if self._fresh.pop(place, None) is None:
            del self._settled[place]
        self._untag(place, entry.tags)
        self.size -= entry.size
        return entry

    def tagged(self, tag: str) -> tuple[Place, ...]:
        """Return where the entries are that carry a tag."""
        return tuple(self._tagged.get(tag, ()))

    def evict(self, spared: Place | None) -> None:
        """Forget the entry whose turn it is to go, never the spared one."""
        for turn in range(_MOST_TURNS + 1):
            queue = self._queue_to_shorten(spared)
            place, entry = next(iter(queue.items()))
            if place == spared:
                queue.move_to_end(place)
            elif not entry.was_read or turn == _MOST_TURNS:
                self._let_go(place, is_remembered=queue is self._fresh)
                return
            elif queue is self._fresh:
                entry.was_read = False
                del self._fresh[place]
                self._settled[place] = entry
            else:
                entry.was_read = False
                queue.move_to_end(place)
        # Only the spared one was met in every turn but the first.
        self._let_go(next(place for place in self.entries if place != spared), is_remembered=False)

    def _queue_to_shorten(self, spared: Place | None) -> OrderedDict[Place, Entry]:
        fresh, settled = self._fresh, self._settled
        if len(fresh) > len(self.entries) // _NEW_SHARE or not settled:
            is_alone = len(fresh) == 1 and spared in fresh
            return settled if is_alone else fresh
        is_alone = len(settled) == 1 and spared in settled
        return fresh if is_alone else settled

    def _let_go(self, place: Place, *, is_remembered: bool) -> None:
        self.remove(place)
        if is_remembered:
            self._gone[hash(place)] = None
        while len(self._gone) > len(self.entries):
            self._gone.popitem(last=False)

    def _untag(self, place: Place, tags: tuple[str, ...]) -> None:
        for tag in tags:
            places = self._tagged[tag]
            places.discard(place)
            if not places:
                del self._tagged[tag]
