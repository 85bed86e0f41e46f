"""The cache on a server: the contract, and what it does not say, on a real server."""

from __future__ import annotations

import asyncio
import gc
import re
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from motadata.core._redis_connection import connect
from motadata.core.cache import RedisCache, create_redis_cache
from motadata.core.cache._key import ChangedKey, digest, read_changed_key, redis_names, tag_key
from motadata.core.embedded import EmbeddedRedis, EmbeddedRedisCluster
from motadata.core.errors import CacheError, ConfigurationError
from motadata.core.resilience import deadline_scope
from motadata.core.testing.cache import CacheConformance
from motadata.core.testing.storm import storm


@pytest.fixture
async def cache(embedded_redis: EmbeddedRedis) -> AsyncIterator[RedisCache]:
    async with create_redis_cache(embedded_redis.url, timeout=5.0) as made:
        for tenant in ("acme", "globex"):
            await made.invalidate_tenant(tenant_id=tenant)
        yield made


@pytest.fixture
async def raw(embedded_redis: EmbeddedRedis) -> AsyncIterator[Redis]:
    """What an operator sees on the server."""
    async with Redis.from_url(embedded_redis.url.get_secret_value()) as client:
        yield client


class TestRedisCacheKeepsTheContract(CacheConformance):
    @pytest.fixture
    async def cache(self, cache: RedisCache) -> RedisCache:
        return cache


class TestRedisCacheWithAQuotaKeepsTheContract(CacheConformance):
    @pytest.fixture
    async def cache(self, embedded_redis: EmbeddedRedis) -> AsyncIterator[RedisCache]:
        async with create_redis_cache(embedded_redis.url, tenant_max_bytes=100_000) as made:
            for tenant in ("acme", "globex"):
                await made.invalidate_tenant(tenant_id=tenant)
            yield made


async def test_clusters_client_is_not_left_open_when_its_opening_is_given_up(
    embedded_redis_cluster: EmbeddedRedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    closing, close = asyncio.Event(), Redis.aclose

    async def slowly(client: Redis) -> None:
        closing.set()
        try:
            await asyncio.sleep(60)
        finally:
            await close(client)

    monkeypatch.setattr(Redis, "aclose", slowly)
    url = embedded_redis_cluster.url.get_secret_value().partition(",")[0]
    gc.collect()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        opening = asyncio.create_task(connect(url, timeout=10, max_connections=2))
        await asyncio.wait_for(closing.wait(), 30)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        gc.collect()

    assert [str(one.message) for one in seen if issubclass(one.category, ResourceWarning)] == []


async def test_keys_that_read_alike_when_joined_are_different_keys(cache: RedisCache) -> None:
    await cache.set("b:c", 1, namespace="a", tenant_id="acme")
    await cache.set("c", 2, namespace="a-b", tenant_id="acme")
    await cache.set("}:x", 3, tenant_id="acme")

    assert await cache.get("c", namespace="a", tenant_id="acme") is None
    assert await cache.invalidate_pattern("*", namespace="a", tenant_id="acme") == 1
    assert await cache.get("c", namespace="a-b", tenant_id="acme") == 2
    assert await cache.get("}:x", tenant_id="acme") == 3


async def test_every_key_on_the_server_is_of_one_tenant_and_one_slot(
    cache: RedisCache, raw: Redis
) -> None:
    tenant = f"acme-{uuid4().hex}"  # the server is shared with tests of other things
    await cache.set("*", 1, tags=["doc"], tenant_id=tenant)

    names = [name.decode() for name in await raw.keys(f"*{tenant}*")]

    kinds = re.compile(rf"cache(-index|-lock|-ledger|-total)?:\{{{tenant}\}}")
    assert len(names) >= 5
    assert all(kinds.match(name) for name in names)


async def test_pattern_finds_every_key_that_was_there_among_many(cache: RedisCache) -> None:
    await cache.set_many({f"doc:{number}": number for number in range(3_000)}, tenant_id="acme")
    await cache.set_many({f"tag:{number}": number for number in range(50)}, tenant_id="acme")
    await cache.set("doc:1", 1, tenant_id="globex")

    assert await cache.invalidate_pattern("doc:*", tenant_id="acme") == 3_000
    assert await cache.invalidate_pattern("doc:*", tenant_id="acme") == 0
    assert await cache.invalidate_pattern("*", tenant_id="acme") == 50
    assert await cache.get("doc:1", tenant_id="globex") == 1


async def test_values_whose_index_the_server_lost_are_not_left_behind_by_a_pattern(
    cache: RedisCache, raw: Redis
) -> None:
    await cache.set("doc:1", 1, tenant_id="acme")
    await raw.delete(redis_names("acme", "default").index_key)

    await cache.invalidate_pattern("doc:*", tenant_id="acme")

    assert await cache.get("doc:1", tenant_id="acme") is None


@pytest.mark.parametrize("lost", ["generation", "namespace", "tag"])
async def test_a_word_that_the_server_lost_never_brings_an_old_value_back(
    cache: RedisCache, raw: Redis, lost: str
) -> None:
    names = redis_names("acme", "default")
    key = {
        "generation": names.generation_key,
        "namespace": names.namespace_key,
        "tag": tag_key("acme", digest("doc")),
    }[lost]
    await cache.set("key", "old", tags=["doc"], tenant_id="acme")
    await raw.delete(key)
    assert await cache.get("key", tenant_id="acme") is None

    await cache.set("other", 1, tags=["doc"], tenant_id="acme")

    assert await cache.get("key", tenant_id="acme") is None
    assert await cache.get("other", tenant_id="acme") == 1


async def test_another_instance_sees_at_once_what_one_forgot(
    cache: RedisCache, embedded_redis: EmbeddedRedis
) -> None:
    async with create_redis_cache(embedded_redis.url) as other:
        await cache.set("key", 1, tenant_id="acme")
        assert await other.get("key", tenant_id="acme") == 1

        await cache.invalidate_tenant(tenant_id="acme")

        assert await other.get("key", tenant_id="acme") is None
        await other.set("key", 2, tenant_id="acme")
        assert await cache.get("key", tenant_id="acme") == 2


async def test_one_computation_serves_two_instances(
    cache: RedisCache, embedded_redis: EmbeddedRedis
) -> None:
    runs = 0

    async def compute() -> object:
        nonlocal runs
        runs += 1
        await asyncio.sleep(0.05)
        return runs

    async with create_redis_cache(embedded_redis.url, timeout=5.0) as other:
        values = await asyncio.gather(
            *(
                one.get_or_compute("cold", compute, tenant_id="acme")
                for _ in range(500)
                for one in (cache, other)
            )
        )

    assert values == [1] * 1_000


async def test_another_instance_takes_over_when_the_one_that_computes_dies(
    embedded_redis: EmbeddedRedis, cache: RedisCache, raw: Redis
) -> None:
    async with create_redis_cache(embedded_redis.url, lease=0.3) as dead:
        # A lease that nobody renews is what a dead instance leaves.
        await dead._engine.leases.acquire(redis_names("acme", "default"), "key", 60_000, ())

        assert await cache.get_or_compute("key", _one, tenant_id="acme") == 1


async def test_lease_is_renewed_while_the_computation_runs(
    embedded_redis: EmbeddedRedis, cache: RedisCache
) -> None:
    runs = 0

    async def compute() -> object:
        nonlocal runs
        runs += 1
        await asyncio.sleep(0.6)
        return runs

    async with create_redis_cache(embedded_redis.url, lease=0.2) as slow:
        first = asyncio.create_task(slow.get_or_compute("key", compute, tenant_id="acme"))
        await asyncio.sleep(0.05)

        assert await cache.get_or_compute("key", compute, tenant_id="acme") == 1
        assert await first == 1


async def test_value_is_not_stored_when_another_instance_overtook_its_computation(
    cache: RedisCache, embedded_redis: EmbeddedRedis
) -> None:
    started, gate = asyncio.Event(), asyncio.Event()

    async def compute() -> object:
        started.set()
        await gate.wait()
        return "stale"

    async with create_redis_cache(embedded_redis.url) as other:
        for change in (
            lambda: other.delete("key", tenant_id="acme"),
            lambda: other.invalidate_pattern("k?y", tenant_id="acme"),
            lambda: other.invalidate_tag("doc", tenant_id="acme"),
            lambda: other.invalidate_tenant(tenant_id="acme"),
        ):
            started.clear()
            gate.clear()
            waiting = asyncio.create_task(
                cache.get_or_compute("key", compute, tags=["doc"], tenant_id="acme")
            )
            await started.wait()
            await change()
            gate.set()

            assert await waiting == "stale"
            assert await cache.get("key", tenant_id="acme") is None


async def test_tenant_holds_no_more_than_its_quota_and_others_are_not_touched(
    embedded_redis: EmbeddedRedis, raw: Redis
) -> None:
    async with create_redis_cache(embedded_redis.url, tenant_max_bytes=50_000) as cache:
        await cache.set("theirs", "x" * 1_000, tenant_id="quiet")
        for number in range(200):
            await cache.set(f"k{number}", "x" * 1_000, tenant_id="greedy")
        await cache.set("huge", "x" * 60_000, tenant_id="greedy")
        held = await cache.get_many([f"k{number}" for number in range(200)], tenant_id="greedy")

        assert 30 <= len(held) <= 50
        assert await cache.get("huge", tenant_id="greedy") is None
        assert await cache.get("theirs", tenant_id="quiet") is not None
        sizes = [await raw.strlen(name) for name in await raw.keys("cache:{greedy}:*.*:*")]
        assert sum(sizes) <= 50_000


async def test_storm_of_cancellations_gives_nobody_the_value_of_another(
    cache: RedisCache,
) -> None:
    for tenant in range(5):
        values = {f"k{number}": f"t{tenant}/k{number}" for number in range(20)}
        await cache.set_many(values, tenant_id=f"t{tenant}")

    async def ask(number: int) -> None:
        tenant, key = f"t{number % 5}", f"k{number % 20}"
        match number % 3:
            case 0:
                got = await cache.get(key, tenant_id=tenant)
            case 1:
                got = (await cache.get_many([key], tenant_id=tenant))[key]
            case _:
                await cache.set(key, f"{tenant}/{key}", tenant_id=tenant)
                got = await cache.get_or_compute(key, _one, tenant_id=tenant)
        assert got == f"{tenant}/{key}"

    report = await storm(ask, calls=4_000)

    assert report.share_cancelled == pytest.approx(0.5, abs=0.1)
    assert report.failures == []
    assert await cache.get("k1", tenant_id="t1") == "t1/k1"


async def test_server_that_does_not_answer_is_a_typed_error_in_time(tmp_path: Path) -> None:
    async with (
        EmbeddedRedis(tmp_path) as server,
        create_redis_cache(server.url, timeout=0.3) as cache,
    ):
        await cache.set("key", 1, tenant_id="acme")
        server.pause()
        loop = asyncio.get_running_loop()
        started = loop.time()
        with pytest.raises(CacheError) as caught:
            await cache.get("key", tenant_id="acme")
        took = loop.time() - started
        with deadline_scope(0.05), pytest.raises(Exception, match="took longer"):
            await cache.get("key", tenant_id="acme")
        server.resume()

        assert caught.value.retryable
        assert took < 0.5
        assert server.url.get_secret_value() not in str(caught.value)


async def test_absent_server_is_an_error_when_the_cache_is_entered() -> None:
    with pytest.raises(CacheError, match=r"127\.0\.0\.1:1"):
        async with create_redis_cache("redis://:secret@127.0.0.1:1"):
            pass


@pytest.mark.parametrize("url", ["", "localhost:6379", "http://localhost", "redis://h:port"])
def test_address_that_is_none_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigurationError, match="not valid"):
        create_redis_cache(url)


@given(
    tenant=st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
    namespace=st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
    key=st.text(min_size=1, max_size=50).filter(lambda text: text.isprintable()),
)
def test_what_a_key_concerns_can_be_read_from_it(tenant: str, namespace: str, key: str) -> None:
    names = redis_names(tenant, namespace)

    assert read_changed_key(names.value_key("0a.1b", digest(key))) == ChangedKey(
        tenant, namespace, digest(key)
    )
    assert read_changed_key(names.generation_key) == ChangedKey(tenant)
    assert read_changed_key(names.namespace_key) == ChangedKey(tenant, namespace)
    assert read_changed_key(tag_key(tenant, digest(key))) == ChangedKey(
        tenant, tag_digest=digest(key)
    )
    assert read_changed_key(names.index_key) is None


async def _one() -> object:
    return 1


async def test_computed_value_without_encoding_keeps_nobody_waiting(
    embedded_redis: EmbeddedRedis,
) -> None:
    async def unfit() -> object:
        return object()

    async with create_redis_cache(embedded_redis.url, lease=60.0) as cache:
        key = uuid4().hex
        with pytest.raises(CacheError, match="cannot be cached"):
            await cache.get_or_compute(key, unfit, tenant_id="acme")

        async with asyncio.timeout(10):
            assert await cache.get_or_compute(key, _one, tenant_id="acme") == 1


async def test_closed_cache_is_down_and_connects_no_more(embedded_redis: EmbeddedRedis) -> None:
    async with create_redis_cache(embedded_redis.url) as cache:
        assert (await cache.health()).status == "ok"

    health = await cache.health()

    assert health.status == "down"
    assert health.detail == "The cache is closed."
    assert cache._engine.server._client is None
