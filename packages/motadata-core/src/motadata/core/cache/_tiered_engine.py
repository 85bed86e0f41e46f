"""Memory over a server by checked keys: copies in front, and memory alone when it is away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from motadata.core.cache._engine import Compute, Terms
from motadata.core.cache._key import CacheKey, ChangedKey, RedisNames, digest
from motadata.core.cache._memory_engine import MemoryEngine
from motadata.core.cache._near import NearCache
from motadata.core.cache._outage import EVERYTHING, Change
from motadata.core.cache._outages import Outages
from motadata.core.cache._redis_calls import ServerUnavailableError
from motadata.core.cache._redis_engine import RedisEngine
from motadata.core.cache._redis_values import read_tags
from motadata.core.cache._tracking import Tracker
from motadata.core.models import Health


Answer = TypeVar("Answer")


class TieredEngine:
    """Asks the copies, then the server, and memory while the server is away.

    Args:
        far: The server.
        near: Copies of what it holds.
        standby: Serves while it is away.
    """

    def __init__(self, far: RedisEngine, near: NearCache, standby: MemoryEngine) -> None:
        self.far = far
        self.near = near
        self.standby = standby
        self.outages = Outages(far, standby.invalidate_tenant)
        # Callers whose deadline is sooner than the server's timeout never see it fail.
        far.batches.on_failure = self._note_failure
        self._tracker = Tracker(far.server, near)

    def start(self) -> None:
        """Begin to listen to the server; whether it is there or not."""
        self._tracker.start()

    async def close(self) -> None:
        """Disconnect, and forget what is in memory; what the server holds stays."""
        await self._tracker.stop()
        await self.outages.close()
        await self.far.close()
        await self.standby.close()

    async def get(self, place: CacheKey) -> object | None:
        """Return the live value, or None."""
        value = self._copy(place)
        if value is not None:
            return value
        return await self._through(
            place.tenant, lambda: self._read(place), lambda: self.standby.get(place)
        )

    async def get_many(self, places: Sequence[CacheKey]) -> Mapping[CacheKey, object]:
        """Return the live values of those places that have one."""
        # All are asked for in one turn of the loop, so they travel together.
        values = await asyncio.gather(*map(self.get, places))
        return {
            place: value for place, value in zip(places, values, strict=True) if value is not None
        }

    async def set(self, place: CacheKey, value: object, terms: Terms) -> None:
        """Store a value; None forgets it."""
        await self.set_many({place: value}, terms)

    async def set_many(self, values: Mapping[CacheKey, object], terms: Terms) -> None:
        """Store values of one namespace; when one has no encoding, none is stored."""
        # Of what is written, a batch that fails tells; what is forgotten must be seen to.
        forgets = any(value is None for value in values.values())
        go_through = self._change if forgets else self._through
        try:
            await go_through(
                next(iter(values)).tenant,
                lambda: self.far.set_many(values, terms),
                lambda: self.standby.set_many(values, terms),
                *(_of_key(place) for place in values),
            )
        finally:
            for place in values:
                self._forget(place)

    async def delete(self, place: CacheKey) -> bool:
        """Forget a value; return whether it was there, as far as is known."""
        try:
            return await self._change(
                place.tenant,
                lambda: self.far.delete(place),
                lambda: self.standby.delete(place),
                _of_key(place),
            )
        finally:
            self._forget(place)

    async def get_or_compute(self, place: CacheKey, compute: Compute, terms: Terms) -> object:
        """Return the live value; when absent, compute and store it.

        Once for all instances; without the server, once for this one.
        """
        value = self._copy(place)
        if value is not None:
            return value

        async def remote() -> object:
            found = await self._read(place)
            return found if found is not None else await self.far.compute(place, compute, terms)

        return await self._through(
            place.tenant, remote, lambda: self.standby.get_or_compute(place, compute, terms)
        )

    async def invalidate_pattern(self, pattern: CacheKey) -> int:
        """Forget what matches a glob in the place of a key; return how many went."""
        tenant, space, glob = pattern
        try:
            return await self._change(
                tenant,
                lambda: self.far.invalidate_pattern(pattern),
                lambda: self.standby.invalidate_pattern(pattern),
                ("pattern", space, glob),
            )
        finally:
            self.near.forget(ChangedKey(tenant, space))

    async def invalidate_tag(self, tenant: str, tag: str) -> None:
        """Forget what carries a tag."""
        try:
            await self._change(
                tenant,
                lambda: self.far.invalidate_tag(tenant, tag),
                lambda: self.standby.invalidate_tag(tenant, tag),
                ("tag", "", tag),
            )
        finally:
            self.near.forget(ChangedKey(tenant, tag_digest=digest(tag)))

    async def invalidate_tenant(self, tenant: str) -> None:
        """Forget everything of a tenant."""
        try:
            await self._change(
                tenant,
                lambda: self.far.invalidate_tenant(tenant),
                lambda: self.standby.invalidate_tenant(tenant),
                EVERYTHING,
            )
        finally:
            self.near.forget(ChangedKey(tenant))

    async def health(self) -> Health:
        """Say whether the server is used; without it the cache is degraded, not down."""
        if self.far.is_closed:
            return await self.far.health()
        if not self.outages.any:
            state = await self.far.health()
            if state.status == "ok":
                return state
        return Health("degraded", detail="The cache's server is away; memory serves instead.")

    def _copy(self, place: CacheKey) -> object | None:
        return None if self.outages.concern_somebody else self.near.get(place)

    async def _read(self, place: CacheKey) -> object | None:
        intent = self.near.begin(place)
        try:
            found = await self.far.find(place)
            agrees = self.near.agrees(intent, b"" if found is None else found[1].data)
            if found is None:
                return None
            value, held = found
            if agrees:
                tags = tuple(tag for tag, _ in read_tags(held.data))
                self.near.keep(intent, value, seconds=(held.left or 0) / 1000, tags=tags)
            return value
        finally:
            self.near.end(intent)

    def _forget(self, place: CacheKey) -> None:
        self.near.forget(ChangedKey(place.tenant, place.namespace, digest(place.key)))

    def _note_failure(
        self, names: RedisNames, error: ServerUnavailableError, keys: Sequence[str]
    ) -> None:
        """Begin an outage; whether the server wrote what it was to write is not known."""
        outage = self.outages.begin(names.tenant, error)
        if keys:
            places = (CacheKey(names.tenant, names.namespace, key) for key in keys)
            self.outages.note(outage, names.tenant, tuple(map(_of_key, places)))

    async def _change(
        self,
        tenant: str,
        remote: Callable[[], Awaitable[Answer]],
        local: Callable[[], Awaitable[Answer]],
        *changes: Change,
    ) -> Answer:
        """Invalidate, and note it where the server is found away, whoever waits for it."""
        return await self.far.errands.run(self._through(tenant, remote, local, *changes))

    async def _through(
        self,
        tenant: str,
        remote: Callable[[], Awaitable[Answer]],
        local: Callable[[], Awaitable[Answer]],
        *changes: Change,
    ) -> Answer:
        """Ask the server, or memory when the server is away."""
        outage = self.outages.of(tenant)
        if outage is None:
            try:
                return await remote()
            except ServerUnavailableError as error:
                # Whether it did it before it went is not known: it is told again.
                outage = self.outages.begin(tenant, error)
        elif outage.is_returning and changes:
            return await self._through_both(tenant, remote, local, changes)
        self.outages.note(outage, tenant, changes)
        return await local()

    async def _through_both(
        self,
        tenant: str,
        remote: Callable[[], Awaitable[Answer]],
        local: Callable[[], Awaitable[Answer]],
        changes: tuple[Change, ...],
    ) -> Answer:
        """Change what the server holds and what memory, which still answers reads."""
        try:
            await remote()
        except ServerUnavailableError as error:
            # It went again, and by now this may be another outage.
            self.outages.note(self.outages.begin(tenant, error), tenant, changes)
        return await local()


def _of_key(place: CacheKey) -> Change:
    return ("key", place.namespace, place.key)
