"""Memory over a server: near copies that are never stale for long, and memory alone without it."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Self

from pydantic import SecretStr

from motadata.core.cache._front import CheckedCache
from motadata.core.cache._key import check_ttl
from motadata.core.cache._memory import memory_engine
from motadata.core.cache._near import NearCache
from motadata.core.cache._redis import RedisCacheStatistics, redis_statistics
from motadata.core.cache._redis_engine import RedisEngine
from motadata.core.cache._redis_options import RedisOptions
from motadata.core.cache._store import CacheStatistics
from motadata.core.cache._tiered_engine import TieredEngine
from motadata.core.models import Record


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


class TieredCache(CheckedCache):
    """A `Cache` of memory over a server; built by `create_tiered_cache`, used within `async with`.

    It belongs to the event loop in which it was entered. One computation runs for all who wait, on
    every instance; without the server, for all who wait on this one.
    """

    def __init__(self, engine: TieredEngine) -> None:
        super().__init__(engine)
        self._engine = engine

    async def __aenter__(self) -> Self:
        """Begin to listen to the server; whether it is there or not."""
        self._engine.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Disconnect, and forget what is in memory; what the server holds stays."""
        await self._engine.close()

    def statistics(self) -> TieredCacheStatistics:
        """Return what it did since it was made."""
        engine = self._engine
        return TieredCacheStatistics(
            near=engine.near.statistics(),
            far=redis_statistics(engine.far),
            standby=engine.standby.statistics(),
            outages=engine.outages.count,
            is_away=engine.outages.any,
        )


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
        jitter: By which share of it a life is shortened at random.
        tenant_max_bytes: As for `create_redis_cache`.
        timeout: Seconds that the server may take for one call before it is held to be away.
        lease: As for `create_redis_cache`.
        max_connections: Most connections to each server.

    Raises:
        MissingExtraError: `redis` is not installed.
        ConfigurationError: The address is malformed, or a number is out of its range.
    """
    options = RedisOptions(
        default_ttl=default_ttl,
        jitter=jitter,
        tenant_max_bytes=tenant_max_bytes,
        timeout=timeout,
        lease=lease,
        max_connections=max_connections,
    )
    check_ttl(near_ttl)
    standby = memory_engine(
        default_ttl,
        max_size=max_size,
        max_bytes=max_bytes,
        jitter=jitter,
        tenant_max_bytes=tenant_max_bytes,
    )
    far = RedisEngine(options.server(redis_url), options, with_left=True)
    near = NearCache(max_size=max_size, max_bytes=max_bytes, longest=near_ttl)
    return TieredCache(TieredEngine(far, near, standby))
