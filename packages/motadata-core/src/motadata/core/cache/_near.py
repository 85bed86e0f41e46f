"""Copies of the server's values in this process, each dropped when the server says it changed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from motadata.core.cache._key import CacheKey, ChangedKey, digest
from motadata.core.cache._store import CacheStatistics, Store
from motadata.core.cache._values import weigh


@dataclass(slots=True, eq=False)
class Intent:
    """Reads that are under way and whose value is to be kept, unless the key changes meanwhile.

    Attributes:
        held: What the server held, as the first of them to return found it; empty for nothing.
    """

    place: CacheKey
    epoch: int
    readers: int = 1
    overtaken: bool = False
    held: bytes | None = None


class NearCache:
    """Bounded copies by the digest of their key; used from one event loop.

    Args:
        max_size: Most copies.
        max_bytes: About how much memory they may take.
        longest: Seconds that a copy lives at most.
    """

    def __init__(self, *, max_size: int, max_bytes: int | None, longest: float) -> None:
        self._store: Final = Store(max_size=max_size, max_bytes=max_bytes, clock=time.monotonic)
        self._longest = longest
        self._intents: dict[CacheKey, Intent] = {}
        self._epoch = 0
        self._is_open = False

    @property
    def is_open(self) -> bool:
        """Whether changes are heard of, so that copies may be kept and used."""
        return self._is_open

    def open(self) -> None:
        """Begin anew: from now on changes are heard of."""
        self.flush()
        self._is_open = True

    def close(self) -> None:
        """Forget everything and keep nothing: changes are no longer heard of."""
        self._is_open = False
        self.flush()

    def flush(self) -> None:
        """Forget everything, and keep nothing that is being read."""
        self._epoch += 1
        self._store.clear()

    def get(self, place: CacheKey) -> object | None:
        """Return the copy of a live value, or None."""
        if not self._is_open:
            return None
        return self._store.get(place.tenant, place.namespace, digest(place.key))

    def begin(self, place: CacheKey) -> Intent:
        """Say that a value is about to be read from the server."""
        near = CacheKey(place.tenant, place.namespace, digest(place.key))
        intent = self._intents.get(near)
        if intent is not None and intent.epoch == self._epoch and not intent.overtaken:
            intent.readers += 1
            return intent
        intent = self._intents[near] = Intent(near, self._epoch)
        return intent

    def agrees(self, intent: Intent, held: bytes) -> bool:
        """Tell whether reads that were under way together found the same.

        Two that did not travelled apart, and which of them the server answered last is not known
        before it announces the change: none is kept.
        """
        if intent.held is None:
            intent.held = held
        elif intent.held != held:
            intent.overtaken = True
            self._store.pop(intent.place)
        return not intent.overtaken

    def end(self, intent: Intent) -> None:
        """Say that the read is over."""
        intent.readers -= 1
        if intent.readers == 0 and self._intents.get(intent.place) is intent:
            del self._intents[intent.place]

    def keep(self, intent: Intent, value: object, *, seconds: float, tags: tuple[str, ...]) -> None:
        """Keep what was read, unless it changed since `begin`.

        Args:
            intent: What `begin` returned.
            value: What the server held.
            seconds: How long the server will still hold it.
            tags: The digests of its tags.
        """
        current = self._is_open and intent.epoch == self._epoch and not intent.overtaken
        if current and seconds > 0:
            ttl = min(seconds, self._longest)
            self._store.put(intent.place, value, ttl=ttl, size=weigh(value), tags=tags)

    def forget(self, changed: ChangedKey) -> None:
        """Drop the copies that a change concerns."""
        if changed.digest is not None and changed.namespace is not None:
            place = CacheKey(changed.tenant, changed.namespace, changed.digest)
            intent = self._intents.get(place)
            if intent is not None:
                intent.overtaken = True
            self._store.pop(place)
            return
        # Whatever is being read may be concerned.
        self._epoch += 1
        if changed.tag_digest is not None:
            self._store.drop_tag(changed.tenant, changed.tag_digest)
        elif changed.namespace is not None:
            for key in self._store.keys(changed.tenant, changed.namespace):
                self._store.pop(CacheKey(changed.tenant, changed.namespace, key))
        else:
            self._store.drop_tenant(changed.tenant)

    def statistics(self) -> CacheStatistics:
        """Return what it did since it was made, and what it holds."""
        return self._store.statistics()
