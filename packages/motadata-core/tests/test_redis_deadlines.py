"""Calls of the caches end with their caller's deadline, and what they began is not lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from motadata.core.cache import (
    RedisCache,
    TieredCache,
    create_redis_cache,
    create_tiered_cache,
)
from motadata.core.cache import _errands as errands
from motadata.core.cache._redis_calls import ServerUnavailableError
from motadata.core.embedded import EmbeddedRedis
from motadata.core.errors import CacheError, DeadlineExceededError, OverloadError
from motadata.core.protocols import Cache
from motadata.core.resilience import deadline_scope
from motadata.core.testing.lived_time import LivedTime


LATE = 0.1
"""Seconds above a deadline, as the process lives them; 0.05 are promised, a hang takes more."""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedRedis]:
    """A server of one test's own, which may be halted."""
    async with EmbeddedRedis(tmp_path / "redis") as own:
        yield own


@pytest.fixture
async def cache(server: EmbeddedRedis) -> AsyncIterator[RedisCache]:
    async with create_redis_cache(server.url, timeout=5.0) as made:
        yield made


@pytest.fixture
async def other(server: EmbeddedRedis) -> AsyncIterator[RedisCache]:
    """The cache of another instance."""
    async with create_redis_cache(server.url, timeout=5.0) as made:
        yield made


@contextmanager
def halted(server: EmbeddedRedis) -> Iterator[None]:
    server.pause()
    try:
        yield
    finally:
        server.resume()


@asynccontextmanager
async def ended_by_the_deadline(seconds: float) -> AsyncIterator[None]:
    async with LivedTime() as lived:
        with pytest.raises(DeadlineExceededError), deadline_scope(seconds):
            yield
    assert lived.seconds < seconds + LATE


async def until(holds: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(15):
        while not await holds():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.005)


INVALIDATIONS: dict[str, Callable[[Cache], Awaitable[object]]] = {
    "delete": lambda cache: cache.delete("key", tenant_id="acme"),
    "set": lambda cache: cache.set("key", None, tenant_id="acme"),
    "set_many": lambda cache: cache.set_many({"new": 1, "key": None}, tenant_id="acme"),
    "pattern": lambda cache: cache.invalidate_pattern("k*", tenant_id="acme"),
    "tag": lambda cache: cache.invalidate_tag("doc", tenant_id="acme"),
    "tenant": lambda cache: cache.invalidate_tenant(tenant_id="acme"),
}


CHANGES = INVALIDATIONS | {"overwrite": lambda cache: cache.set("key", "new", tenant_id="acme")}


@pytest.mark.parametrize("how", INVALIDATIONS)
async def test_invalidation_on_a_halted_server_ends_with_the_deadline_and_is_not_lost(
    server: EmbeddedRedis, cache: RedisCache, other: RedisCache, how: str
) -> None:
    await other.set("key", "old", tags=["doc"], tenant_id="acme")
    with halted(server):
        async with ended_by_the_deadline(0.2):
            await INVALIDATIONS[how](cache)

    async def is_gone() -> bool:
        return await other.get("key", tenant_id="acme") is None

    await until(is_gone)


@pytest.mark.parametrize("how", CHANGES)
async def test_invalidation_whose_caller_left_is_told_to_a_server_that_was_away(
    server: EmbeddedRedis, other: RedisCache, how: str
) -> None:
    async with create_tiered_cache(server.url, timeout=0.5) as cache:
        await other.set("key", "old", tags=["doc"], tenant_id="acme")
        with halted(server):
            async with ended_by_the_deadline(0.1):
                await CHANGES[how](cache)

            async def is_away() -> bool:
                return cache.statistics().is_away

            await until(is_away)
        # Of what was sent while it was halted, nothing may have arrived.
        await other.set("key", "old", tags=["doc"], tenant_id="acme")

        async def is_gone() -> bool:
            return await other.get("key", tenant_id="acme") is None

        await until(is_gone)


async def test_invalidation_goes_on_when_its_caller_is_cancelled(
    server: EmbeddedRedis, cache: RedisCache, other: RedisCache
) -> None:
    keys = {f"k{number}": "old" for number in range(600)}
    await other.set_many(keys, tenant_id="acme")
    with halted(server):
        forgetting = asyncio.create_task(cache.invalidate_pattern("k*", tenant_id="acme"))
        await asyncio.sleep(0.05)
        forgetting.cancel()
        await asyncio.wait((forgetting,))
        assert forgetting.cancelled()

    async def all_are_gone() -> bool:
        return await other.get_many(list(keys), tenant_id="acme") == {}

    await until(all_are_gone)


async def test_closing_waits_for_invalidations_whose_callers_have_left(
    server: EmbeddedRedis, other: RedisCache
) -> None:
    await other.set("key", "old", tenant_id="acme")
    before = asyncio.all_tasks()
    async with create_redis_cache(server.url, timeout=5.0) as cache:
        with halted(server):
            async with ended_by_the_deadline(0.1):
                await cache.delete("key", tenant_id="acme")

    assert await other.get("key", tenant_id="acme") is None
    assert asyncio.all_tasks() - before == set()
    with pytest.raises(CacheError, match="closed"):
        await cache.delete("key", tenant_id="acme")


async def test_invalidations_under_way_are_bounded(
    server: EmbeddedRedis, cache: RedisCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errands, "_MOST_UNDER_WAY", 1)
    with halted(server):
        async with ended_by_the_deadline(0.1):
            await cache.delete("one", tenant_id="acme")
        with pytest.raises(OverloadError):
            await cache.delete("another", tenant_id="acme")


async def test_entering_and_health_on_a_halted_server_end_with_the_deadline(
    server: EmbeddedRedis, cache: RedisCache
) -> None:
    with halted(server):
        async with ended_by_the_deadline(0.2), create_redis_cache(server.url, timeout=5.0):
            pass
        async with ended_by_the_deadline(0.2):
            await cache.health()


@pytest.fixture(params=["redis", "tiered", "tiered without its server"])
async def any_cache(
    server: EmbeddedRedis, request: pytest.FixtureRequest
) -> AsyncIterator[RedisCache | TieredCache]:
    if request.param == "redis":
        async with create_redis_cache(server.url, timeout=5.0) as made:
            yield made
    else:
        url = server.url if request.param == "tiered" else "redis://127.0.0.1:1"
        async with create_tiered_cache(url, timeout=5.0) as tiered:
            yield tiered


async def test_caller_leaves_a_slow_computation_at_the_deadline_and_it_is_cancelled(
    any_cache: Cache,
) -> None:
    ended = asyncio.Event()

    async def slow() -> object:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()
        return None

    async with ended_by_the_deadline(0.2):
        await any_cache.get_or_compute("key", slow, tenant_id="acme")

    async with asyncio.timeout(5):
        await ended.wait()
    assert await any_cache.get_or_compute("key", _seven, tenant_id="acme") == 7


async def test_caller_leaves_the_computation_of_another_instance_at_the_deadline(
    cache: RedisCache, other: RedisCache
) -> None:
    started, gate = asyncio.Event(), asyncio.Event()

    async def compute() -> object:
        started.set()
        await gate.wait()
        return "value"

    computing = asyncio.create_task(other.get_or_compute("key", compute, tenant_id="acme"))
    await started.wait()
    async with ended_by_the_deadline(0.2):
        await cache.get_or_compute("key", _seven, tenant_id="acme")
    gate.set()

    assert await computing == "value"


async def test_return_of_a_server_is_noticed_after_the_deadline_in_which_it_was_found_away(
    server: EmbeddedRedis, other: RedisCache
) -> None:
    async with create_tiered_cache(server.url, timeout=0.2) as cache:
        await other.set("kept", "old", tenant_id="acme")
        with halted(server):
            with deadline_scope(1.0):
                await cache.invalidate_pattern("k*", tenant_id="acme")
            assert cache.statistics().is_away
            await asyncio.sleep(1.0)

        async def is_back() -> bool:
            return not cache.statistics().is_away

        await until(is_back)
        assert await other.get("kept", tenant_id="acme") is None


async def test_tasks_of_the_background_have_no_deadline(
    server: EmbeddedRedis, begun_tasks: list[tuple[str, float | None]]
) -> None:
    with deadline_scope(30):
        async with (
            create_redis_cache(server.url) as cache,
            create_tiered_cache(server.url, timeout=0.2) as tiered,
        ):
            for one in (cache, tiered):
                await one.set("key", 1, tenant_id="acme")
                await one.get_or_compute("computed", _seven, tenant_id="acme")
            with halted(server):
                await tiered.delete("key", tenant_id="acme")
            await cache.delete("key", tenant_id="acme")

            async def is_back() -> bool:
                return not tiered.statistics().is_away

            await until(is_back)
            tiered._engine.outages.begin("acme", ServerUnavailableError("Away."))
            assert tiered.statistics().outages == 2

    assert len(begun_tasks) > 10
    assert {name for name, left in begun_tasks if left is not None} == set()


async def _seven() -> object:
    return 7
