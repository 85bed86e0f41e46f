"""The in-process cache by checked keys: a store, and the computations under way."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from motadata.core.cache._engine import Compute, Terms
from motadata.core.cache._flights import Flights
from motadata.core.cache._key import CacheKey, compile_glob
from motadata.core.cache._store import CacheStatistics, Store
from motadata.core.cache._values import snapshot, weigh
from motadata.core.models import Health


_SLICE: Final = 1000


class MemoryEngine:
    """Values by reference, their lists and dicts copied when they are stored.

    Args:
        store: Where they are.
        default_ttl: Seconds that a value lives unless its terms say otherwise.
        jitter: By which share of it a life is shortened at random.
        weighs: Whether the store wants to know how many bytes a value takes.
    """

    def __init__(self, store: Store, *, default_ttl: float, jitter: float, weighs: bool) -> None:
        self.store = store
        self.flights = Flights()
        self._default_ttl = default_ttl
        self._jitter = jitter
        self._weighs = weighs

    async def get(self, place: CacheKey) -> object | None:
        """Return the live value, or None."""
        return self.store.get(*place)

    async def get_many(self, places: Sequence[CacheKey]) -> Mapping[CacheKey, object]:
        """Return the live values of those places that have one."""
        found = {place: self.store.get(*place) for place in places}
        return {place: value for place, value in found.items() if value is not None}

    async def set(self, place: CacheKey, value: object, terms: Terms) -> None:
        """Store a value; None forgets it."""
        kept = snapshot(value)
        self.flights.invalidate_key(place)
        self._keep(place, terms, kept)

    async def set_many(self, values: Mapping[CacheKey, object], terms: Terms) -> None:
        """Store values; when one is not plain, none is stored."""
        kept = {place: snapshot(value) for place, value in values.items()}
        for place, value in kept.items():
            self.flights.invalidate_key(place)
            self._keep(place, terms, value)

    async def delete(self, place: CacheKey) -> bool:
        """Forget a value; return whether it was there."""
        self.flights.invalidate_key(place)
        return self.store.pop(place)

    async def get_or_compute(self, place: CacheKey, compute: Compute, terms: Terms) -> object:
        """Return the live value; when absent, compute and store it, once for each event loop."""
        value = self.store.get(*place)
        if value is not None:
            return value
        keep = partial(self._keep, place, terms)
        return await self.flights.join(place, compute, keep, tags=terms.tags)

    async def invalidate_pattern(self, pattern: CacheKey) -> int:
        """Forget what matches a glob in the place of a key; return how many went."""
        tenant, space, glob = pattern
        matches = compile_glob(glob).match
        self.flights.invalidate(
            lambda place: place[:2] == (tenant, space) and matches(place.key) is not None
        )
        gone = 0
        for number, key in enumerate(self.store.keys(tenant, space), start=1):
            if matches(key) is not None:
                gone += self.store.pop(CacheKey(tenant, space, key))
            if number % _SLICE == 0:
                await asyncio.sleep(0)
        return gone

    async def invalidate_tag(self, tenant: str, tag: str) -> None:
        """Forget what carries a tag."""
        self.flights.invalidate_tag(tenant, tag)
        self.store.drop_tag(tenant, tag)

    async def invalidate_tenant(self, tenant: str) -> None:
        """Forget everything of a tenant."""
        self.flights.invalidate(lambda place: place.tenant == tenant)
        self.store.drop_tenant(tenant)

    async def health(self) -> Health:
        """Say that it serves, which memory always does."""
        return Health("ok")

    async def close(self) -> None:
        """Forget everything, and wait for cancelled computations to clean up."""
        self.flights.invalidate(lambda _: True)
        self.store.clear()
        await self.flights.close()

    def statistics(self) -> CacheStatistics:
        """Return what it did since it was made, and what it holds."""
        return self.store.statistics()

    def _keep(self, place: CacheKey, terms: Terms, value: object) -> None:
        if value is None:
            self.store.pop(place)
            return
        seconds = self._default_ttl if terms.ttl is None else terms.ttl
        if self._jitter:
            seconds *= 1.0 - random.random() * self._jitter  # noqa: S311 - no secret
        size = weigh(value) if self._weighs else 0
        self.store.put(place, value, ttl=seconds, size=size, tags=terms.tags)
