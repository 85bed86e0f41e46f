"""The shared caches on a cluster of three and three: the contract, and the loss of a master."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Self

import pytest

from motadata.core.cache import RedisCache, TieredCache, create_redis_cache, create_tiered_cache
from motadata.core.embedded import EmbeddedRedisCluster
from motadata.core.protocols import Cache
from motadata.core.testing.cache import CacheConformance
from motadata.core.testing.redis_cluster import all_hosts, primary_ports, until_whole


TENANTS = [f"tenant-{number}" for number in range(24)]
"""So many that each of the three masters holds the keys of some."""


async def until(holds: Callable[[], object], *, timeout: float = 30.0) -> None:
    async with asyncio.timeout(timeout):
        while not holds():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.005)


async def empty(cache: Cache) -> None:
    for tenant in ("acme", "globex"):
        await cache.invalidate_tenant(tenant_id=tenant)


@pytest.fixture
async def shared(embedded_redis_cluster: EmbeddedRedisCluster) -> AsyncIterator[RedisCache]:
    async with create_redis_cache(embedded_redis_cluster.url, timeout=10.0) as made:
        await empty(made)
        yield made


@pytest.fixture
async def tiered(embedded_redis_cluster: EmbeddedRedisCluster) -> AsyncIterator[TieredCache]:
    """One that hears every master, so that its copies are used."""
    async with create_tiered_cache(embedded_redis_cluster.url, timeout=10.0) as made:
        await empty(made)
        await until(lambda: made._engine.near.is_open)
        yield made


class TestRedisCacheOnAClusterKeepsTheContract(CacheConformance):
    @pytest.fixture
    async def cache(self, shared: RedisCache) -> RedisCache:
        return shared


class TestTieredCacheOnAClusterKeepsTheContract(CacheConformance):
    @pytest.fixture
    async def cache(self, tiered: TieredCache) -> TieredCache:
        return tiered


async def test_tenants_on_different_servers_stay_apart_and_forget_what_they_are_told(
    shared: RedisCache,
) -> None:
    for tenant in TENANTS:
        await shared.set_many({"doc:1": tenant, "doc:2": tenant}, tenant_id=tenant)
        await shared.set("tagged", tenant, tags=["doc"], tenant_id=tenant)

    assert await shared.invalidate_pattern("doc:?", tenant_id="tenant-0") == 2
    await shared.invalidate_tag("doc", tenant_id="tenant-1")
    await shared.invalidate_tenant(tenant_id="tenant-2")

    held = await asyncio.gather(
        *(shared.get_many(["doc:1", "doc:2", "tagged"], tenant_id=one) for one in TENANTS)
    )
    assert dict(held[0]) == {"tagged": "tenant-0"}
    assert dict(held[1]) == {"doc:1": "tenant-1", "doc:2": "tenant-1"}
    assert dict(held[2]) == {}
    for tenant, values in zip(TENANTS[3:], held[3:], strict=True):
        assert values == {"doc:1": tenant, "doc:2": tenant, "tagged": tenant}


async def test_copy_of_each_masters_values_is_dropped_when_another_instance_changes_them(
    tiered: TieredCache, shared: RedisCache
) -> None:
    for tenant in TENANTS:
        await shared.set("key", "old", tenant_id=tenant)
        await tiered.get("key", tenant_id=tenant)
    before = tiered.statistics().near.hits
    for tenant in TENANTS:
        assert await tiered.get("key", tenant_id=tenant) == "old"
    assert tiered.statistics().near.hits > before

    for tenant in TENANTS:
        await shared.set("key", "new", tenant_id=tenant)
        async with asyncio.timeout(10):
            while await tiered.get("key", tenant_id=tenant) != "new":  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.005)


class Readers:
    """Callers who read a value of every tenant over and over, and what they were answered."""

    def __init__(self, cache: Cache) -> None:
        self.asked = 0
        self.answered = 0
        self.wrong: list[tuple[str, object]] = []
        self._cache = cache
        self._stop = asyncio.Event()

    async def __aenter__(self) -> Self:
        for tenant in TENANTS:
            await self._cache.set("key", tenant, tenant_id=tenant)
        self._tasks = [asyncio.create_task(self._read(tenant)) for tenant in TENANTS]
        await self.go_on()
        return self

    async def __aexit__(self, *details: object) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def go_on(self) -> None:
        """Wait until many more calls were answered, or a caller failed."""
        enough = self.answered + 10 * len(TENANTS)
        await until(lambda: self.answered >= enough or any(reader.done() for reader in self._tasks))

    async def _read(self, tenant: str) -> None:
        while not self._stop.is_set():
            self.asked += 1
            found = await self._cache.get("key", tenant_id=tenant)
            if found not in (None, tenant):
                self.wrong.append((tenant, found))
            self.answered += 1
            await asyncio.sleep(0.005)


async def lose_a_master(
    cluster: EmbeddedRedisCluster, cache: TieredCache, readers: Readers
) -> None:
    """Kill the first server that holds keys, see a replica take its place, and start it again."""
    await until_whole(cluster)
    port, *_ = await primary_ports(cluster)
    try:
        await cluster.kill(port)
        await until(lambda: cache.statistics().is_away)
        await readers.go_on()
        # Its replica takes over within seconds, and is used at once.
        await until(lambda: not cache.statistics().is_away)
        await readers.go_on()
    finally:
        await cluster.start(port)
        await until_whole(cluster)


async def lose_masters(cluster: EmbeddedRedisCluster, *, rounds: int) -> None:
    async with (
        create_redis_cache(all_hosts(cluster), timeout=10.0) as other,
        create_tiered_cache(all_hosts(cluster), timeout=0.3) as cache,
    ):
        async with Readers(cache) as readers:
            for _ in range(rounds):
                await lose_a_master(cluster, cache, readers)
        await until(lambda: not cache.statistics().is_away)

        assert readers.wrong == []
        assert readers.answered >= 0.99 * readers.asked
        assert cache.statistics().outages >= rounds
        for tenant in TENANTS:
            await cache.set("key", "again", tenant_id=tenant)
            assert await other.get("key", tenant_id=tenant) == "again"


@pytest.mark.usefixtures("drivers_drop_sockets")
async def test_reads_are_answered_while_a_master_is_killed_and_its_replica_is_used(
    embedded_redis_cluster: EmbeddedRedisCluster,
) -> None:
    await lose_masters(embedded_redis_cluster, rounds=1)


@pytest.mark.usefixtures("drivers_drop_sockets")
async def test_copies_are_kept_again_after_a_master_was_lost(
    embedded_redis_cluster: EmbeddedRedisCluster, tiered: TieredCache
) -> None:
    async with Readers(tiered) as readers:
        await lose_a_master(embedded_redis_cluster, tiered, readers)

        await until(lambda: tiered._engine.near.is_open, timeout=5.0)


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("drivers_drop_sockets")
async def test_reads_are_answered_however_often_a_cluster_loses_a_master(
    embedded_redis_cluster: EmbeddedRedisCluster,
) -> None:
    await lose_masters(embedded_redis_cluster, rounds=6)
