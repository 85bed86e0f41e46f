"""Caches: values by tenant, namespace and key that may be forgotten at any time.

    cache = create_memory_cache(default_ttl=600, max_size=50_000)
    await cache.set("greeting", "hello", namespace="demo", tenant_id="acme")
    await cache.get("greeting", namespace="demo", tenant_id="acme")   # "hello"
    await cache.get("greeting", namespace="demo", tenant_id="zeta")   # None

The contract is `motadata.core.protocols.Cache`.
"""

from motadata.core.cache._memory import MemoryCache, create_memory_cache
from motadata.core.cache._redis import RedisCache, RedisCacheStatistics, create_redis_cache
from motadata.core.cache._store import CacheStatistics
from motadata.core.cache._tiered import TieredCache, TieredCacheStatistics, create_tiered_cache


__all__ = [
    "CacheStatistics",
    "MemoryCache",
    "RedisCache",
    "RedisCacheStatistics",
    "TieredCache",
    "TieredCacheStatistics",
    "create_memory_cache",
    "create_redis_cache",
    "create_tiered_cache",
]
