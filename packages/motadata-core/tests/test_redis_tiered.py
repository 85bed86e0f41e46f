"""Memory over a server: copies that follow the server, and memory alone while it is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from motadata.core.cache import TieredCache, create_redis_cache, create_tiered_cache
from motadata.core.embedded import EmbeddedRedis
from motadata.core.testing.cache import CacheConformance


@pytest.fixture
async def cache(embedded_redis: EmbeddedRedis) -> AsyncIterator[TieredCache]:
    async with create_tiered_cache(embedded_redis.url, timeout=5.0) as made:
        for tenant in ("acme", "globex"):
            await made.invalidate_tenant(tenant_id=tenant)
        await until(lambda: made._near.is_open)
        yield made


async def until(holds: Callable[[], object], *, timeout: float = 10.0) -> None:
    async with asyncio.timeout(timeout):
        while not holds():
            await asyncio.sleep(0.005)


async def until_async(holds: Callable[[], Awaitable[object]], *, timeout: float = 10.0) -> None:
    async with asyncio.timeout(timeout):
        while not await holds():
            await asyncio.sleep(0.005)


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
