"""The cache on a server by checked keys."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final, cast

from motadata.core.cache._engine import Compute, Terms
from motadata.core.cache._errands import Errands
from motadata.core.cache._flights import Flights
from motadata.core.cache._key import CacheKey, RedisNames, compile_glob, digest, redis_names
from motadata.core.cache._redis_batches import Batches
from motadata.core.cache._redis_calls import ServerUnavailableError
from motadata.core.cache._redis_delivery import Answer, Found, Place
from motadata.core.cache._redis_forgetting import Forgetting
from motadata.core.cache._redis_lease import Leases
from motadata.core.cache._redis_options import RedisOptions
from motadata.core.cache._redis_server import RedisServer
from motadata.core.cache._redis_values import decode_value, encode_value, place_mark
from motadata.core.cache._redis_writing import Entry
from motadata.core.errors import CodecError
from motadata.core.models import Health
from motadata.core.observability import watch_lookups
from motadata.core.resilience import remaining, time_limit


_LONGEST_LIFE: Final = 10 * 365 * 24 * 3600 * 1000
_MOST_SPELLED: Final = 8_192


class RedisEngine:
    """Values on a server; methods raise `ServerUnavailableError` when it does not answer.

    Args:
        server: Where the values are.
        options: Checked.
        with_left: Whether reads ask for the time that values have left.
    """

    def __init__(self, server: RedisServer, options: RedisOptions, *, with_left: bool) -> None:
        self.server = server
        self.leases = Leases(server, lease=options.lease)
        self._options = options
        self.batches = Batches(server, quota=options.quota, with_left=with_left)
        self.counters = self.batches.counters
        watch_lookups(self, lambda one: (one.counters.hits, one.counters.misses), tier="redis")
        self.errands = Errands()
        self.is_closed = False
        self._forgetting = Forgetting(server, quota=options.quota)
        self._flights = Flights()
        # Spelling a key is a third of what a read costs, and the same ones are read again.
        self.spelled: dict[tuple[str, str, str], Place] = {}

    @property
    def failures(self) -> int:
        """How many calls the server did not answer."""
        return self.counters.failures + self.leases.failures

    async def close(self) -> None:
        """Wait for what is on its way, and disconnect."""
        self.is_closed = True
        self._flights.invalidate(lambda _: True)
        await self._flights.close()
        await self.errands.close()
        await self.leases.close()
        await self.batches.close()
        await self.server.close()

    async def get(self, place: CacheKey) -> object | None:
        """Return the live value, or None."""
        return await self._wait(self.batches.read(self.spell(place)))

    async def find(self, place: CacheKey) -> tuple[object, Found] | None:
        """Return a live value, and as what it was found; for an engine `with_left`."""
        return cast("tuple[object, Found] | None", await self.get(place))

    async def get_many(self, places: Sequence[CacheKey]) -> Mapping[CacheKey, object]:
        """Return the live values of those places that have one."""
        futures = {place: self.batches.read(self.spell(place)) for place in places}
        await self._wait_for_all(futures.values())
        found = {place: future.result() for place, future in futures.items()}
        return {place: value for place, value in found.items() if value is not None}

    async def set(self, place: CacheKey, value: object, terms: Terms) -> None:
        """Store a value; None forgets it."""
        await self._store({place: self._entry(place, value, terms)})

    async def set_many(self, values: Mapping[CacheKey, object], terms: Terms) -> None:
        """Store values of one namespace; when one has no encoding, none is stored."""
        await self._store(
            {place: self._entry(place, value, terms) for place, value in values.items()}
        )

    async def delete(self, place: CacheKey) -> bool:
        """Forget a value; return whether it was there."""
        self._flights.invalidate_key(place)
        names = redis_names(place.tenant, place.namespace)
        return await self.errands.run(self._forgetting.keys(names, [place.key])) == 1

    async def delete_many(self, tenant: str, namespace: str, keys: Sequence[str]) -> None:
        """Forget values of one namespace, for who does not leave."""
        for key in keys:
            self._flights.invalidate_key(CacheKey(tenant, namespace, key))
        await self._forgetting.keys(redis_names(tenant, namespace), keys)

    async def get_or_compute(self, place: CacheKey, compute: Compute, terms: Terms) -> object:
        """Return the live value; when absent, compute and store it, once for all instances.

        When the instance that computes dies, another takes over after the lease. When the server
        dies meanwhile, the value is returned and not stored.
        """
        found = await self.get(place)
        return found if found is not None else await self.compute(place, compute, terms)

    async def compute(self, place: CacheKey, compute: Compute, terms: Terms) -> object:
        """Do what `get_or_compute` does for a value that was just found absent."""
        work = partial(self._compute, place, compute, terms)
        return await self._flights.join(place, work, lambda _: None, tags=terms.tags)

    async def invalidate_pattern(self, pattern: CacheKey) -> int:
        """Forget what matches a glob in the place of a key; return how many went."""
        tenant, space, glob = pattern
        matches = compile_glob(glob).match
        self._flights.invalidate(
            lambda place: place[:2] == (tenant, space) and matches(place.key) is not None
        )
        names = redis_names(tenant, space)
        return await self.errands.run(self._forgetting.matching(names, matches))

    async def invalidate_tag(self, tenant: str, tag: str) -> None:
        """Forget what carries a tag."""
        self._flights.invalidate_tag(tenant, tag)
        await self.errands.run(self._forgetting.tag(tenant, tag))

    async def invalidate_tenant(self, tenant: str) -> None:
        """Forget everything of a tenant."""
        self._flights.invalidate(lambda place: place.tenant == tenant)
        await self.errands.run(self._forgetting.tenant(tenant))

    async def health(self) -> Health:
        """Say whether the server answers."""
        if self.is_closed:
            return Health("down", detail="The cache is closed.")
        try:
            await self.server.ping()
        except ServerUnavailableError as error:
            return Health("down", detail=str(error))
        return Health("ok")

    def spell(self, place: CacheKey) -> Place:
        """Return how a key is spelled on the server, and remember it."""
        spelled = self.spelled.get(place)
        if spelled is None:
            if len(self.spelled) >= _MOST_SPELLED:
                self.spelled.clear()
            names, key_digest = redis_names(place.tenant, place.namespace), digest(place.key)
            mark = place_mark(names, key_digest)
            spelled = self.spelled[place] = Place(names, key_digest, mark)
        return spelled

    def _life(self, terms: Terms) -> int:
        """Return milliseconds, up to the jitter shorter so that values do not all end at once."""
        seconds = self._options.default_ttl if terms.ttl is None else terms.ttl
        shortened = seconds * (1.0 - random.random() * self._options.jitter)  # noqa: S311 - no secret
        return max(1, min(math.floor(shortened * 1000), _LONGEST_LIFE))

    def _entry(self, place: CacheKey, value: object, terms: Terms) -> Entry | None:
        if value is None:
            return None
        marks = tuple((digest(tag), "") for tag in terms.tags)
        spelled = self.spell(place)
        data = encode_value(value, spelled.mark)
        return Entry(spelled.digest, place.key, self._life(terms), data, marks)

    async def _store(self, entries: Mapping[CacheKey, Entry | None]) -> None:
        """Store what has an entry, and forget what has none; all of one namespace."""
        for place in entries:
            self._flights.invalidate_key(place)
        first = next(iter(entries))
        names = redis_names(first.tenant, first.namespace)
        present = [entry for entry in entries.values() if entry is not None]
        absent = [place.key for place, entry in entries.items() if entry is None]
        if absent:
            await self.errands.run(self._store_and_forget(names, present, absent))
        else:
            await self._store_all(names, present)

    async def _store_and_forget(
        self, names: RedisNames, present: Sequence[Entry], absent: Sequence[str]
    ) -> None:
        if present:
            await self._store_all(names, present)
        await self._forgetting.keys(names, absent)

    async def _store_all(self, names: RedisNames, present: Sequence[Entry]) -> None:
        await self._wait_for_all(self.batches.write(names, entry) for entry in present)
        self.counters.stored += len(present)

    async def _compute(self, place: CacheKey, compute: Compute, terms: Terms) -> object:
        spelled = self.spell(place)
        names, mark = spelled.names, spelled.mark
        lease = await self.leases.acquire(names, place.key, self._life(terms), terms.tags)
        if isinstance(lease, bytes):
            try:
                return decode_value(lease, mark)
            except CodecError:
                return await compute()
        value = await self.leases.hold(lease, compute)
        if value is None:
            return None
        try:
            entry = lease.entry(encode_value(value, mark))
            stored = await self._wait(self.batches.write(names, entry))
        except ServerUnavailableError:
            # The caller asked for the value and gets it; the next one computes it again.
            return value
        except Exception:
            # It has no encoding, say. The next one need not wait for the lease to end.
            self.leases.give_back(lease)
            raise
        self.counters.stored += stored
        self.counters.overtaken += not stored
        return value

    def _wait(self, future: asyncio.Future[Answer]) -> Awaitable[Answer]:
        # A batch ends within the server's timeout; only a caller's own deadline can be sooner.
        return future if remaining() is None else within_deadline(future)

    async def _wait_for_all(self, futures: Iterable[asyncio.Future[Answer]]) -> None:
        """Wait for futures of one batch, and raise the first error when all are done."""
        waiting = list(futures)
        try:
            async with time_limit(None, what="the cache"):
                done, _ = await asyncio.wait(waiting)
        finally:
            for future in waiting:
                future.cancel()
        errors = [error for future in done if (error := future.exception()) is not None]
        if errors:
            raise errors[0]


async def within_deadline(future: asyncio.Future[Answer]) -> Answer:
    """Wait for a future until the caller's deadline.

    Raises:
        DeadlineExceededError: It was sooner.
    """
    async with time_limit(None, what="the cache"):
        return await future
