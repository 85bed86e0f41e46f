from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from motadata.core.cache import RedisCache, create_redis_cache
from motadata.core.embedded import EmbeddedRedis, EmbeddedRedisCluster
from motadata.core.testing.cache import CacheConformance


@pytest.fixture
async def cache(embedded_redis: EmbeddedRedis) -> AsyncIterator[RedisCache]:
    async with create_redis_cache(embedded_redis.url, timeout=5.0) as made:
        for tenant in ("acme", "globex"):
            await made.invalidate_tenant(tenant_id=tenant)
        yield made


class TestRedisCacheKeepsTheContract(CacheConformance):
    @pytest.fixture
    async def cache(self, cache: RedisCache) -> RedisCache:
        return cache
