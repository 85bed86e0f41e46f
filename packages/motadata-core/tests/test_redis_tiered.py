"""Memory over a server: copies that follow the server, and memory alone while it is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from motadata.core._builtin import CACHE
from motadata.core.cache import TieredCache, create_redis_cache, create_tiered_cache
from motadata.core.embedded import EmbeddedRedis
from motadata.core.platform import Platform
from motadata.core.testing.cache import CacheConformance
from motadata.core.testing.lived_time import LivedTime


@pytest.fixture
async def cache(embedded_redis: EmbeddedRedis) -> AsyncIterator[TieredCache]:
    async with create_tiered_cache(embedded_redis.url, timeout=5.0) as made:
        for tenant in ("acme", "globex"):
            await made.invalidate_tenant(tenant_id=tenant)
        await until(lambda: made._engine.near.is_open)
        yield made


async def until(holds: Callable[[], object], *, timeout: float = 10.0) -> None:
    async with asyncio.timeout(timeout):
        while not holds():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.005)


async def until_async(holds: Callable[[], Awaitable[object]], *, timeout: float = 10.0) -> None:
    async with asyncio.timeout(timeout):
        while not await holds():  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.005)


async def reads_from_memory(cache: TieredCache, key: str) -> bool:
    """Read a key, and tell whether that took no server."""
    before = cache.statistics().near.hits
    await cache.get(key, tenant_id="acme")
    return cache.statistics().near.hits > before


class TestTieredCacheKeepsTheContract(CacheConformance):
    @pytest.fixture
    async def cache(self, cache: TieredCache) -> TieredCache:
        return cache


class TestTieredCacheWithoutItsServerKeepsTheContract(CacheConformance):
    @pytest.fixture
    async def cache(self) -> AsyncIterator[TieredCache]:
        async with create_tiered_cache("redis://127.0.0.1:1") as made:
            yield made

    async def test_healthy_cache_says_so(self, cache: TieredCache) -> None:
        assert (await cache.health()).status == "degraded"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedRedis]:
    """A server of one test's own, which may be stopped."""
    async with EmbeddedRedis(tmp_path / "redis") as own:
        yield own


async def test_copy_is_dropped_when_another_instance_changes_the_value(
    cache: TieredCache, embedded_redis: EmbeddedRedis
) -> None:
    async with create_redis_cache(embedded_redis.url) as other:
        for number in range(50):
            key = f"k{number}"
            await other.set(key, "old", tenant_id="acme")
            await until_async(lambda key=key: reads_from_memory(cache, key))
            assert await cache.get(key, tenant_id="acme") == "old"
            await other.set(key, "new", tenant_id="acme")

            async def sees_it(key: str = key) -> bool:
                return await cache.get(key, tenant_id="acme") == "new"

            await until_async(sees_it)

    assert cache.statistics().near.hits >= 50


@pytest.mark.parametrize("how", ["delete", "pattern", "tag", "tenant"])
async def test_copy_is_dropped_when_another_instance_invalidates_it(
    cache: TieredCache, embedded_redis: EmbeddedRedis, how: str
) -> None:
    async with create_redis_cache(embedded_redis.url) as other:
        await other.set("key", 1, tags=["doc"], tenant_id="acme")
        await other.set("key", 1, tags=["doc"], tenant_id="globex")
        for _ in range(2):
            assert await cache.get("key", tenant_id="acme") == 1
            assert await cache.get("key", tenant_id="globex") == 1
        match how:
            case "delete":
                await other.delete("key", tenant_id="acme")
            case "pattern":
                await other.invalidate_pattern("k*", tenant_id="acme")
            case "tag":
                await other.invalidate_tag("doc", tenant_id="acme")
            case _:
                await other.invalidate_tenant(tenant_id="acme")

        async def is_gone() -> bool:
            return await cache.get("key", tenant_id="acme") is None

        await until_async(is_gone)
        assert await cache.get("key", tenant_id="globex") == 1


async def test_copies_live_no_longer_than_the_value_on_the_server(cache: TieredCache) -> None:
    await cache.set("key", 1, ttl=1.5, tenant_id="acme")
    assert await cache.get("key", tenant_id="acme") == 1
    assert cache._engine.near.statistics().entries == 1

    async def is_gone() -> bool:
        return await cache.get("key", tenant_id="acme") is None

    await until_async(is_gone)


async def test_copies_are_flushed_and_not_used_when_the_connection_breaks(
    server: EmbeddedRedis,
) -> None:
    async with create_tiered_cache(server.url) as cache:
        await until(lambda: cache._engine.near.is_open)
        await cache.set("key", 1, tenant_id="acme")
        assert await cache.get("key", tenant_id="acme") == 1
        await server.kill()

        await until(lambda: not cache._engine.near.is_open)
        assert cache._engine.near.statistics().entries == 0
        assert await cache.get("key", tenant_id="acme") is None


async def test_every_read_is_answered_while_the_server_is_killed_and_it_is_used_again_at_once(
    server: EmbeddedRedis,
) -> None:
    async with create_tiered_cache(server.url) as cache:
        await cache.set("key", 1, tenant_id="acme")
        failures: list[BaseException] = []
        answered = 0
        stop = asyncio.Event()

        async def read(worker: int) -> None:
            nonlocal answered
            while not stop.is_set():
                try:
                    await cache.get(f"k{worker}", tenant_id=f"t{worker}")
                    answered += 1
                except Exception as error:  # noqa: BLE001 - counted
                    failures.append(error)
                await asyncio.sleep(0.001)

        readers = [asyncio.create_task(read(worker)) for worker in range(16)]
        await asyncio.sleep(0.1)
        await server.kill()
        await until(lambda: cache.statistics().is_away)
        assert await cache.get_or_compute("cold", _seven, tenant_id="acme") == 7
        await server.start()
        async with LivedTime() as lived:
            await until(lambda: not cache.statistics().is_away)
        stop.set()
        await asyncio.gather(*readers)

        assert failures == []
        assert answered > 100
        assert lived.seconds < 1.0
        assert (await cache.health()).status == "ok"


async def test_what_changed_while_the_server_was_halted_is_told_when_it_is_back(
    server: EmbeddedRedis,
) -> None:
    async with (
        create_redis_cache(server.url, timeout=5.0) as other,
        create_tiered_cache(server.url, timeout=0.2) as cache,
    ):
        for key in ("deleted", "set", "a1", "kept"):
            await other.set(key, "old", tenant_id="acme")
        await other.set("tagged", "old", tags=["doc"], tenant_id="acme")
        await other.set("all", "old", tenant_id="globex")
        server.pause()
        await cache.delete("deleted", tenant_id="acme")
        await cache.set("set", "new", tenant_id="acme")
        await cache.invalidate_pattern("a*", tenant_id="acme")
        await cache.invalidate_tag("doc", tenant_id="acme")
        await cache.invalidate_tenant(tenant_id="globex")
        assert await cache.get("set", tenant_id="acme") == "new"
        server.resume()
        await until(lambda: not cache.statistics().is_away)

        for reader in (cache, other):
            left = await reader.get_many(
                ["deleted", "set", "a1", "tagged", "kept"], tenant_id="acme"
            )
            assert left == {"kept": "old"}
            assert await reader.get("all", tenant_id="globex") is None


async def test_a_thousand_callers_of_one_cold_key_compute_once_without_a_server() -> None:
    async with create_tiered_cache("redis://127.0.0.1:1") as cache:
        runs = 0

        async def compute() -> object:
            nonlocal runs
            runs += 1
            await asyncio.sleep(0.05)
            return runs

        values = await asyncio.gather(
            *(cache.get_or_compute("cold", compute, tenant_id="acme") for _ in range(1_000))
        )

        assert values == [1] * 1_000


async def test_value_computed_while_the_server_dies_is_returned(server: EmbeddedRedis) -> None:
    async with create_tiered_cache(server.url) as cache:
        started, gate = asyncio.Event(), asyncio.Event()

        async def compute() -> object:
            started.set()
            await gate.wait()
            return "value"

        waiting = asyncio.create_task(cache.get_or_compute("key", compute, tenant_id="acme"))
        await started.wait()
        await server.kill()
        gate.set()

        assert await waiting == "value"


async def test_memory_is_bounded_while_the_server_is_away() -> None:
    async with create_tiered_cache("redis://127.0.0.1:1", max_size=50) as cache:
        for number in range(700):
            await cache.set(f"k{number}", number, tenant_id="acme")

        assert cache.statistics().standby.entries == 50
        assert [
            len(outage.changes["acme"]) for outage in cache._engine.outages._by_server.values()
        ] == [1]


async def test_platform_that_names_a_server_shares_its_cache_and_starts_without_it(
    embedded_redis: EmbeddedRedis,
) -> None:
    url = embedded_redis.url.get_secret_value()
    for address, status in ((url, "ok"), ("redis://127.0.0.1:1", "degraded")):
        platform = Platform([CACHE], {"MOTADATA_CACHE_REDIS_URL": address})
        async with platform:
            await platform.cache.set("key", status, tenant_id="acme")

            assert await platform.cache.get("key", tenant_id="acme") == status
            assert (await platform.health()).components["cache"].status == status


async def _seven() -> object:
    return 7


@pytest.mark.parametrize("is_there", [True, False])
async def test_closed_cache_is_down_whether_its_server_is_there_or_not(
    server: EmbeddedRedis, *, is_there: bool
) -> None:
    async with create_tiered_cache(server.url) as cache:
        await cache.set("key", 1, tenant_id="acme")
    if not is_there:
        await server.stop()

    health = await cache.health()

    assert health.status == "down"
    assert health.detail == "The cache is closed."
