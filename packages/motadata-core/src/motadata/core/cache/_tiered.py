"""Memory over a server: near copies that are never stale for long, and memory alone without it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, TypeVar

from pydantic import SecretStr

from motadata.core.cache._key import (
    CacheKey,
    ChangedKey,
    cache_key,
    check_tags,
    check_text,
    check_ttl,
    digest,
    redis_names,
)
from motadata.core.cache._memory import MemoryCache, create_memory_cache
from motadata.core.cache._near import NearCache
from motadata.core.cache._outage import EVERYTHING, Change, Outage
from motadata.core.cache._redis import RedisCache, RedisCacheStatistics, connect
from motadata.core.cache._redis_server import Command, ServerUnavailableError
from motadata.core.cache._redis_values import read_tags
from motadata.core.cache._store import CacheStatistics
from motadata.core.cache._tracking import Tracker
from motadata.core.models import Health, Record
from motadata.core.observability import get_logger
from motadata.core.tenancy import resolve_tenant


_PROBE_EVERY: Final = 0.2
_SETTLE: Final = 0.1

_log = get_logger("cache")

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class TieredCacheStatistics(Record):
    """What a tiered cache did since it was made.

    Attributes:
        near: The copies in this process.
        far: The server.
        standby: The memory that serves while the server is away.
        outages: How often the server, or one of a cluster, was found away.
        is_away: Whether one is away now.
    """

    near: CacheStatistics
    far: RedisCacheStatistics
    standby: CacheStatistics
    outages: int
    is_away: bool


class TieredCache:
    """A `Cache` of memory over a server; built by `create_tiered_cache`, used within `async with`.

    It belongs to the event loop in which it was entered.
    """

    def __init__(self, far: RedisCache, near: NearCache, standby: MemoryCache) -> None:
        self._far = far
        self._near = near
        self._standby = standby
        self._tracker = Tracker(far.server, near)
        self._outages: dict[str, Outage] = {}
        self._away: dict[str, Outage] = {}
        self._returning: set[asyncio.Task[None]] = set()
        self._count = 0

    async def __aenter__(self) -> Self:
        """Begin to listen to the server; whether it is there or not."""
        self._tracker.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Disconnect, and forget what is in memory; what the server holds stays."""
        await self._tracker.stop()
        for task in self._returning:
            task.cancel()
        if self._returning:
            await asyncio.wait(self._returning)
        await self._far.close()
        await self._standby.__aexit__(None, None, None)

    async def get(
        self, key: str, *, namespace: str = "default", tenant_id: str | None = None
    ) -> object | None:
        """Return the live value of `key`, or None.

        Raises:
            TenantRequiredError: No tenant is given and none is in scope.
            InvalidIdentifierError: The tenant or the namespace breaks the grammar.
            CacheError: The key breaks its rule.
        """
        place = cache_key(resolve_tenant(tenant_id), namespace, key)
        value = self._near.get(place) if not self._away else None
        if value is not None:
            return value
        return await self._through(
            place.tenant,
            lambda: self._read(place),
            lambda: self._standby.get(key, namespace=namespace, tenant_id=place.tenant),
        )

    async def set(
        self,
        key: str,
        value: object,
        *,
        ttl: float | None = None,
        tags: Sequence[str] = (),
        namespace: str = "default",
        tenant_id: str | None = None,
    ) -> None:
        """Store `value` for at most `ttl` seconds; None takes the cache's default.

        Raises:
            CacheError: The key or a tag breaks its rule, the TTL is not positive, or the value has
                no encoding.
        """
        place = cache_key(resolve_tenant(tenant_id), namespace, key)
        tenant = place.tenant
        try:
            await self._through(
                tenant,
                lambda: self._far.set(
                    key, value, ttl=ttl, tags=tags, namespace=namespace, tenant_id=tenant
                ),
                lambda: self._standby.set(
                    key, value, ttl=ttl, tags=tags, namespace=namespace, tenant_id=tenant
                ),
                ("key", namespace, key),
            )
        finally:
            self._forget_key(place)

    async def delete(
        self, key: str, *, namespace: str = "default", tenant_id: str | None = None
    ) -> bool:
        """Forget `key`; return whether it was there, as far as is known.

        Raises:
            CacheError: The key breaks its rule.
        """
        place = cache_key(resolve_tenant(tenant_id), namespace, key)
        try:
            return await self._through(
                place.tenant,
                lambda: self._far.delete(key, namespace=namespace, tenant_id=place.tenant),
                lambda: self._standby.delete(key, namespace=namespace, tenant_id=place.tenant),
                ("key", namespace, key),
            )
        finally:
            self._forget_key(place)

    async def get_many(
        self, keys: Sequence[str], *, namespace: str = "default", tenant_id: str | None = None
    ) -> Mapping[str, object]:
        """Return the live values of those keys that have one.

        Raises:
            CacheError: A key breaks its rule.
        """
        tenant = resolve_tenant(tenant_id)
        places = {key: cache_key(tenant, namespace, key) for key in keys}
        # All are asked for in one turn of the loop, so they travel together.
        values = await asyncio.gather(
            *(self.get(key, namespace=namespace, tenant_id=tenant) for key in places)
        )
        return {key: value for key, value in zip(places, values, strict=True) if value is not None}

    async def set_many(
        self,
        values: Mapping[str, object],
        *,
        ttl: float | None = None,
        namespace: str = "default",
        tenant_id: str | None = None,
    ) -> None:
        """Store all values for `ttl` seconds each; when one has no encoding, none is stored.

        Raises:
            CacheError: As for `set`.
        """
        tenant = str(resolve_tenant(tenant_id))
        places = [cache_key(tenant, namespace, key) for key in values]

        async def remember() -> None:
            await self._standby.set_many(values, ttl=ttl, namespace=namespace, tenant_id=tenant)
            for place in places:
                self._away[tenant].note(tenant, ("key", namespace, place.key))

        try:
            await self._through(
                tenant,
                lambda: self._far.set_many(values, ttl=ttl, namespace=namespace, tenant_id=tenant),
                remember,
            )
        finally:
            for place in places:
                self._forget_key(place)

    async def get_or_compute(
        self,
        key: str,
        compute: Callable[[], Awaitable[object]],
        *,
        ttl: float | None = None,
        tags: Sequence[str] = (),
        namespace: str = "default",
        tenant_id: str | None = None,
    ) -> object:
        """Return the value of `key`; when absent, await `compute` and store what it returns.

        One computation runs for all who wait, on every instance; without the server, for all who
        wait on this one.

        Raises:
            CacheError: As for `set`, the computation asks for its own key, or it was cancelled from
                within.
        """
        tenant = str(resolve_tenant(tenant_id))
        place = cache_key(tenant, namespace, key)
        checked = check_tags(tags)
        if ttl is not None:
            check_ttl(ttl)
        value = self._near.get(place) if not self._away else None
        if value is not None:
            return value

        async def remote() -> object:
            found = await self._read(place)
            if found is not None:
                return found
            return await self._far.compute(place, compute, ttl=ttl, tags=checked)

        return await self._through(
            tenant,
            remote,
            lambda: self._standby.get_or_compute(
                key, compute, ttl=ttl, tags=checked, namespace=namespace, tenant_id=tenant
            ),
        )

    async def invalidate_pattern(
        self, pattern: str, *, namespace: str = "default", tenant_id: str | None = None
    ) -> int:
        """Forget the keys of one namespace that match a glob (`*`, `?`); return how many went.

        Raises:
            CacheError: The pattern breaks the rule of keys.
        """
        tenant, space, _ = cache_key(resolve_tenant(tenant_id), namespace, pattern)
        try:
            return await self._through(
                tenant,
                lambda: self._far.invalidate_pattern(pattern, namespace=space, tenant_id=tenant),
                lambda: self._standby.invalidate_pattern(
                    pattern, namespace=space, tenant_id=tenant
                ),
                ("pattern", space, pattern),
            )
        finally:
            self._near.forget(ChangedKey(tenant, space))

    async def invalidate_tag(self, tag: str, *, tenant_id: str | None = None) -> None:
        """Forget every value of the tenant that carries the tag, in one step.

        Raises:
            CacheError: The tag breaks the rule of keys.
        """
        tenant = str(resolve_tenant(tenant_id))
        check_text(tag, "tag")
        try:
            await self._through(
                tenant,
                lambda: self._far.invalidate_tag(tag, tenant_id=tenant),
                lambda: self._standby.invalidate_tag(tag, tenant_id=tenant),
                ("tag", "", tag),
            )
        finally:
            self._near.forget(ChangedKey(tenant, tag_digest=digest(tag)))

    async def invalidate_tenant(self, *, tenant_id: str | None = None) -> None:
        """Forget everything of the tenant, in one step however much it is."""
        tenant = str(resolve_tenant(tenant_id))
        try:
            await self._through(
                tenant,
                lambda: self._far.invalidate_tenant(tenant_id=tenant),
                lambda: self._standby.invalidate_tenant(tenant_id=tenant),
                EVERYTHING,
            )
        finally:
            self._near.forget(ChangedKey(tenant))

    async def health(self) -> Health:
        """Say whether the server is used; without it the cache is degraded, not down."""
        if not self._outages:
            state = await self._far.health()
            if state.status == "ok":
                return state
        return Health("degraded", detail="The cache's server is away; memory serves instead.")

    def statistics(self) -> TieredCacheStatistics:
        """Return what it did since it was made."""
        return TieredCacheStatistics(
            near=self._near.statistics(),
            far=self._far.statistics(),
            standby=self._standby.statistics(),
            outages=self._count,
            is_away=bool(self._outages),
        )

    async def _read(self, place: CacheKey) -> object | None:
        intent = self._near.begin(place)
        try:
            found = await self._far.find(place)
            if found is None:
                return None
            value, held = found
            tags = tuple(tag for tag, _ in read_tags(held.data))
            self._near.keep(intent, value, seconds=(held.left or 0) / 1000, tags=tags)
            return value
        finally:
            self._near.end(intent)

    def _forget_key(self, place: CacheKey) -> None:
        self._near.forget(ChangedKey(place.tenant, place.namespace, digest(place.key)))

    async def _through(
        self,
        tenant: str,
        remote: Callable[[], Awaitable[Answer]],
        local: Callable[[], Awaitable[Answer]],
        change: Change | None = None,
    ) -> Answer:
        """Ask the server, or memory when the server is away."""
        outage = self._outage_of(tenant) if self._outages else None
        if outage is None:
            try:
                return await remote()
            except ServerUnavailableError as error:
                # Whether it did it before it went is not known: it is told again.
                outage = self._begin_outage(tenant, error)
        self._away[tenant] = outage
        outage.note(tenant, change)
        return await local()

    def _outage_of(self, tenant: str) -> Outage | None:
        away = self._away.get(tenant)
        return away or self._outages.get(self._partition_of(tenant))

    def _partition_of(self, tenant: str) -> str:
        return self._far.server.partition(redis_names(tenant, "default").generation_key)

    def _begin_outage(self, tenant: str, error: ServerUnavailableError) -> Outage:
        partition = self._partition_of(tenant)
        outage = self._away.get(tenant) or self._outages.get(partition)
        if outage is None:
            _log.warning("The cache's server is away; memory serves instead.", reason=str(error))
            self._count += 1
            outage = self._outages[partition] = Outage(partition, tenant)
            task = asyncio.create_task(self._wait_for_return(outage))
            self._returning.add(task)
            task.add_done_callback(self._returning.discard)
        return outage

    async def _wait_for_return(self, outage: Outage) -> None:
        while True:
            await asyncio.sleep(_PROBE_EVERY)
            try:
                await self._probe(outage.probe)
                # What was sent before it went may still be waiting in front of it.
                await asyncio.sleep(_SETTLE)
                await self._probe(outage.probe)
                await self._tell(outage)
            except ServerUnavailableError:
                continue
            break
        for tenant in outage.tenants:
            self._away.pop(tenant, None)
        del self._outages[outage.partition]
        _log.info("The cache's server is back.")
        for tenant in outage.tenants:
            await self._standby.invalidate_tenant(tenant_id=tenant)

    async def _probe(self, tenant: str) -> None:
        """See whether the server takes changes, by one that changes nothing."""
        key = redis_names(tenant, "default").lock_head
        await self._far.server.call(Command(["UNLINK", key]))

    async def _tell(self, outage: Outage) -> None:
        """Tell the server what changed meanwhile; what changes while it is told, too."""
        while outage.changes:
            tenant, changes = next(iter(outage.changes.items()))
            while changes:
                # Taken out first: what is changed once more while it is told is told once more.
                change, _ = changes.popitem()
                try:
                    await self._tell_one(tenant, change)
                except BaseException:
                    outage.note(tenant, change)
                    raise
            del outage.changes[tenant]

    async def _tell_one(self, tenant: str, change: Change) -> None:
        far = self._far
        match change:
            case ("key", space, key):
                await far.delete(key, namespace=space, tenant_id=tenant)
            case ("pattern", space, pattern):
                await far.invalidate_pattern(pattern, namespace=space, tenant_id=tenant)
            case ("tag", _, tag):
                await far.invalidate_tag(tag, tenant_id=tenant)
            case _:
                await far.invalidate_tenant(tenant_id=tenant)


def create_tiered_cache(
    redis_url: str | SecretStr,
    *,
    default_ttl: float = 3600.0,
    max_size: int = 10_000,
    max_bytes: int | None = 64 * 1024 * 1024,
    near_ttl: float = 60.0,
    jitter: float = 0.1,
    tenant_max_bytes: int | None = None,
    timeout: float = 0.5,
    lease: float = 5.0,
    max_connections: int = 16,
) -> TieredCache:
    """Build a cache of memory over a Redis-protocol server, single or Cluster.

    Copies in memory are dropped as soon as the server says that they changed, and all of them when
    the connection that says so breaks. While the server is away, at the start too, memory serves
    alone; what was changed meanwhile is told to the server when it is back.

    Args:
        redis_url: As for `create_redis_cache`.
        default_ttl: Seconds that an entry lives unless `set` says otherwise.
        max_size: Most copies in memory, and most entries while the server is away.
        max_bytes: About how much memory each of the two may take; None sets no limit.
        near_ttl: Seconds that a copy lives at most.
        jitter: By which share of it a life on the server is shortened at random.
        tenant_max_bytes: As for `create_redis_cache`.
        timeout: Seconds that the server may take for one call before it is held to be away.
        lease: As for `create_redis_cache`.
        max_connections: Most connections to each server.

    Raises:
        MissingExtraError: `redis` is not installed.
        ConfigurationError: The address is malformed, or a number is out of its range.
    """
    standby = create_memory_cache(default_ttl, max_size, max_bytes=max_bytes)
    check_ttl(near_ttl)
    server, quota = connect(
        redis_url,
        tenant_max_bytes=tenant_max_bytes,
        jitter=jitter,
        timeout=timeout,
        lease=lease,
        max_connections=max_connections,
    )
    far = RedisCache(
        server, default_ttl=default_ttl, jitter=jitter, quota=quota, lease=lease, with_left=True
    )
    near = NearCache(max_size=max_size, max_bytes=max_bytes, longest=near_ttl)
    return TieredCache(far, near, standby)
