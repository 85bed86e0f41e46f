"""The cache on a Redis-protocol server or cluster, shared by every instance."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Self

from pydantic import SecretStr

from motadata.core.cache._front import CheckedCache
from motadata.core.cache._key import cache_key
from motadata.core.cache._redis_engine import RedisEngine, within_deadline
from motadata.core.cache._redis_options import RedisOptions
from motadata.core.models import Record
from motadata.core.resilience import remaining
from motadata.core.tenancy import resolve_tenant


@dataclass(frozen=True, slots=True)
class RedisCacheStatistics(Record):
    """What this instance asked of the server since it was made.

    Attributes:
        hits: Reads that found a live value.
        misses: Reads that found none.
        unreadable: Misses because of a value that this version cannot read, or a damaged one.
        stored: Values that were stored.
        overtaken: Computed values that were not stored, because their key had changed meanwhile.
        failures: Calls that the server did not answer.
    """

    hits: int
    misses: int
    unreadable: int
    stored: int
    overtaken: int
    failures: int


class RedisCache(CheckedCache):
    """A `Cache` on a server; built by `create_redis_cache`, used within `async with`.

    It belongs to the event loop in which it was entered. When the server does not answer, methods
    raise a `CacheError` that is retryable; `create_tiered_cache` carries on instead. One
    computation runs for all who wait, on every instance; when the instance that computes dies,
    another takes over after the lease.
    """

    def __init__(self, engine: RedisEngine) -> None:
        super().__init__(engine)
        self._engine = engine
        self._places = engine.spelled
        self._read = engine.batches.read

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            CacheError: The server does not answer.
            DeadlineExceededError: The caller's deadline ended first.
        """
        try:
            await self._engine.server.ping()
        except BaseException:
            await self._engine.server.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for what is on its way, and disconnect; what is stored stays."""
        await self._engine.close()

    async def get(
        self, key: str, *, namespace: str = "default", tenant_id: str | None = None
    ) -> object | None:
        """Return the live value of `key`, or None."""
        tenant = resolve_tenant(None) if tenant_id is None else tenant_id
        try:
            # What is remembered was checked.
            place = self._places.get((tenant, namespace, key))
        except TypeError:
            # A part is not even hashable: the check says so in our words.
            place = None
        if place is None:
            place = self._engine.spell(cache_key(tenant, namespace, key))
        answer = self._read(place)
        return await (answer if remaining() is None else within_deadline(answer))

    def statistics(self) -> RedisCacheStatistics:
        """Return what this instance asked of the server since it was made."""
        return redis_statistics(self._engine)


def redis_statistics(engine: RedisEngine) -> RedisCacheStatistics:
    """Return what an engine asked of its server."""
    counters = engine.counters
    return RedisCacheStatistics(
        hits=counters.hits,
        misses=counters.misses,
        unreadable=counters.unreadable,
        stored=counters.stored,
        overtaken=counters.overtaken,
        failures=engine.failures,
    )


def create_redis_cache(
    redis_url: str | SecretStr,
    *,
    default_ttl: float = 3600.0,
    jitter: float = 0.1,
    tenant_max_bytes: int | None = None,
    timeout: float = 1.0,
    lease: float = 5.0,
    max_connections: int = 16,
) -> RedisCache:
    """Build a cache on a Redis-protocol server, single or Cluster, shared by every instance.

    Args:
        redis_url: `redis://:password@host:6379/0`, or `rediss://` for TLS. Several hosts, separated
            by commas, name several servers of one cluster.
        default_ttl: Seconds that an entry lives unless `set` says otherwise.
        jitter: By which share of it a life is shortened at random, so that not all end at once.
        tenant_max_bytes: About how many bytes one tenant may hold on the server; what would end
            first goes first. Every instance must be given the same. None sets no limit.
        timeout: Seconds that the server may take for one call.
        lease: Seconds after which another instance computes what one that died was computing.
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
    return RedisCache(RedisEngine(options.server(redis_url), options, with_left=False))
