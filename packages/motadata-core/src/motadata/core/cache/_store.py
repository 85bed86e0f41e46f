"""The bounded store behind the memory cache: one shelf a tenant under one bound for all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Final

from motadata.core.cache._key import CacheKey
from motadata.core.cache._shelf import Entry, Place, Shelf
from motadata.core.models import Record
from motadata.core.observability import watch_lookups


@dataclass(frozen=True, slots=True)
class CacheStatistics(Record):
    """What a cache did since it was made, and what it holds.

    Attributes:
        hits: Reads that found a live value.
        misses: Reads that found none.
        evictions: Entries that went to make room.
        expirations: Entries found to be past their time.
        entries: Entries held, those past their time included until they are found.
        size_bytes: About how much memory they take; 0 when no limit of bytes is set.
        tenants: Tenants that hold entries.
    """

    hits: int
    misses: int
    evictions: int
    expirations: int
    entries: int
    size_bytes: int
    tenants: int


class Store:
    """Entries of all tenants under one bound; every method may be called from any thread.

    Changes take a lock. Reads take none: each of their steps is one operation of a dict, and a read
    that loses a race finds the value as it was before, or nothing.

    When it is full, the tenant that holds most gives up an entry, so a busy tenant cannot push a
    quiet one below its fair share. "Most" is to within a factor of two: tenants are ranked by the
    bit length of what they hold, which makes the choice O(1). A tenant that has reached its own
    quota makes room itself, whoever holds most.
    """

    def __init__(
        self,
        *,
        max_size: int,
        max_bytes: int | None,
        tenant_max_bytes: int | None = None,
        clock: Callable[[], float],
    ) -> None:
        self._max_size: Final = max_size
        self._max_bytes: Final = max_bytes
        bounds = [bound for bound in (max_bytes, tenant_max_bytes) if bound is not None]
        # What one value may take, and what one tenant may hold.
        self._quota: Final = min(bounds, default=None)
        self._clock: Final = clock
        self._lock: Final = Lock()
        self._shelves: dict[str, Shelf] = {}
        self._ranks: list[dict[str, None]] = []
        self._entries = self._bytes = 0
        self._hits = self._misses = self._evictions = self._expirations = 0
        watch_lookups(self, Store.lookups, tier="memory")

    def get(self, tenant: str, namespace: str, key: str) -> object | None:
        """Return the live value, or None."""
        shelf = self._shelves.get(tenant)
        if shelf is not None:
            entry = shelf.entries.get((namespace, key))
            if entry is not None:
                if entry.expires_at > self._clock():
                    entry.was_read = True
                    self._hits += 1
                    return entry.value
                self._expire(tenant, (namespace, key), entry)
        self._misses += 1
        return None

    def put(
        self, key: CacheKey, value: object, *, ttl: float, size: int, tags: tuple[str, ...] = ()
    ) -> None:
        """Store a value and make room for it; one that is larger than all the room is not kept."""
        tenant, place = key.tenant, (key.namespace, key.key)
        with self._lock:
            shelf = self._shelves.get(tenant)
            if self._quota is not None and size > self._quota:
                if shelf is not None and place in shelf.entries:
                    self._remove(tenant, shelf, place)
                return
            if shelf is None:
                shelf = self._shelves[tenant] = Shelf()
            shelf.put(place, Entry(value, self._clock() + ttl, size, tags))
            while self._quota is not None and shelf.size > self._quota:
                shelf.evict(place)
                self._evictions += 1
            self._recount(tenant, shelf)
            while self._is_full():
                self._evict(tenant, place)

    def pop(self, key: CacheKey) -> bool:
        """Forget an entry; return whether a live one was there."""
        place = (key.namespace, key.key)
        with self._lock:
            shelf = self._shelves.get(key.tenant)
            if shelf is None or place not in shelf.entries:
                return False
            return self._remove(key.tenant, shelf, place).expires_at > self._clock()

    def keys(self, tenant: str, namespace: str) -> list[str]:
        """Return the keys that a tenant holds in a namespace, as they are at this moment."""
        with self._lock:
            shelf = self._shelves.get(tenant)
            places = () if shelf is None else tuple(shelf.entries)
        return [key for space, key in places if space == namespace]

    def drop_tag(self, tenant: str, tag: str) -> None:
        """Forget everything of a tenant that carries a tag, in one step."""
        with self._lock:
            shelf = self._shelves.get(tenant)
            for place in shelf.tagged(tag) if shelf is not None else ():
                self._remove(tenant, self._shelves[tenant], place)

    def drop_tenant(self, tenant: str) -> None:
        """Forget everything of a tenant, in one step."""
        with self._lock:
            shelf = self._shelves.pop(tenant, None)
            if shelf is not None:
                self._entries -= len(shelf.entries)
                self._bytes -= shelf.size
                self._ranks[shelf.rank].pop(tenant, None)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._shelves.clear()
            self._ranks.clear()
            self._entries = self._bytes = 0

    def lookups(self) -> tuple[int, int]:
        """Return how many reads found a value, and how many found none."""
        return self._hits, self._misses

    def statistics(self) -> CacheStatistics:
        """Return the counters as they are at this moment."""
        with self._lock:
            return CacheStatistics(
                hits=self._hits,
                misses=self._misses,
                evictions=self._evictions,
                expirations=self._expirations,
                entries=self._entries,
                size_bytes=self._bytes,
                tenants=len(self._shelves),
            )

    def _is_full(self) -> bool:
        over_bytes = self._max_bytes is not None and self._bytes > self._max_bytes
        return over_bytes or self._entries > self._max_size

    def _evict(self, causer: str, spared: Place) -> None:
        victim, rank = self._choose_victim(causer)
        if victim != causer:
            # To the end of its rank: tenants of one rank take turns.
            del rank[victim]
            rank[victim] = None
        shelf = self._shelves[victim]
        shelf.evict(spared if victim == causer else None)
        self._recount(victim, shelf)
        self._evictions += 1

    def _choose_victim(self, causer: str) -> tuple[str, dict[str, None]]:
        """Return whose entry goes, and its rank; the value just stored stays."""
        keeps_its_only_one = len(self._shelves[causer].entries) == 1
        for rank in reversed(self._ranks):
            if causer in rank and not keeps_its_only_one:
                return causer, rank
            for tenant in rank:
                if tenant != causer:
                    return tenant, rank
        message = "a full store holds nothing but a value that fits"
        raise AssertionError(message)

    def _expire(self, tenant: str, place: Place, entry: Entry) -> None:
        with self._lock:
            shelf = self._shelves.get(tenant)
            if shelf is not None and shelf.entries.get(place) is entry:
                self._remove(tenant, shelf, place)
                self._expirations += 1

    def _remove(self, tenant: str, shelf: Shelf, place: Place) -> Entry:
        entry = shelf.remove(place)
        self._recount(tenant, shelf)
        return entry

    def _recount(self, tenant: str, shelf: Shelf) -> None:
        """Count what a change of a shelf added or took away, and rank its tenant anew."""
        held = len(shelf.entries)
        self._entries += held - shelf.counted[0]
        self._bytes += shelf.size - shelf.counted[1]
        shelf.counted = (held, shelf.size)
        if not held:
            del self._shelves[tenant]
        rank = (held if self._max_bytes is None else shelf.size).bit_length()
        if rank != shelf.rank or not held:
            if shelf.rank < len(self._ranks):
                self._ranks[shelf.rank].pop(tenant, None)
            while rank >= len(self._ranks):
                self._ranks.append({})
            if held:
                self._ranks[rank][tenant] = None
            shelf.rank = rank
