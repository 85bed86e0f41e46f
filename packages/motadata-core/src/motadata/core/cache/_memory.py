"""The in-process cache: with expiry, bounded, fair between tenants, safe between threads."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from motadata.core.cache._front import CheckedCache
from motadata.core.cache._key import cache_key, check_jitter, check_ttl
from motadata.core.cache._memory_engine import MemoryEngine
from motadata.core.cache._store import CacheStatistics, Store
from motadata.core.errors import ConfigurationError
from motadata.core.tenancy import resolve_tenant


class MemoryCache(CheckedCache):
    """A `Cache` within this process; built by `create_memory_cache`.

    Values are kept by reference, their lists and dicts copied when they are stored. It can be used
    without entering it; leaving it forgets everything. A computation is shared by those who wait on
    one event loop.
    """

    def __init__(self, engine: MemoryEngine) -> None:
        super().__init__(engine)
        self._engine = engine
        self._read = engine.store.get

    async def __aenter__(self) -> Self:
        """Return itself; it holds nothing open."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Forget everything."""
        await self._engine.close()

    async def get(
        self, key: str, *, namespace: str = "default", tenant_id: str | None = None
    ) -> object | None:
        """Return the live value of `key`, or None."""
        tenant = resolve_tenant(None) if tenant_id is None else tenant_id
        try:
            value = self._read(tenant, namespace, key)
        except TypeError:
            # A part is not even hashable.
            value = None
        if value is None:
            # What is found was checked when it was stored, so only a miss needs the check.
            cache_key(tenant, namespace, key)
        return value

    def statistics(self) -> CacheStatistics:
        """Return what it did since it was made, and what it holds."""
        return self._engine.statistics()


def create_memory_cache(
    default_ttl: float = 3600.0,
    max_size: int = 10_000,
    *,
    jitter: float = 0.0,
    max_bytes: int | None = None,
    tenant_max_bytes: int | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> MemoryCache:
    """Build a cache that lives in this process.

    Args:
        default_ttl: Seconds that an entry lives unless `set` says otherwise.
        max_size: Most entries, of all tenants together; the tenant that holds most makes room.
        jitter: By which share of it a life is shortened at random, so that what was stored
            together does not end together.
        max_bytes: About how much memory all values may take; None sets no limit.
        tenant_max_bytes: About how much memory those of one tenant may take, which then makes room
            itself; None sets no limit.
        clock: Seconds that only grow.

    Raises:
        ConfigurationError: A limit or the TTL is not positive, or the jitter is no share.
    """
    return MemoryCache(
        memory_engine(
            default_ttl,
            max_size=max_size,
            max_bytes=max_bytes,
            jitter=jitter,
            tenant_max_bytes=tenant_max_bytes,
            clock=clock,
        )
    )


def memory_engine(
    default_ttl: float,
    *,
    max_size: int,
    max_bytes: int | None,
    jitter: float = 0.0,
    tenant_max_bytes: int | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> MemoryEngine:
    """Build what `create_memory_cache` hides behind the methods of the protocol.

    Raises:
        ConfigurationError: A limit or the TTL is not positive, or the jitter is no share.
    """
    for name, number in (
        ("max_size", max_size),
        ("max_bytes", max_bytes),
        ("tenant_max_bytes", tenant_max_bytes),
    ):
        if number is not None and number < 1:
            message = f"{name}={number!r} leaves no room in the cache."
            raise ConfigurationError(message, remedy="Give a positive number.")
    check_ttl(default_ttl)
    check_jitter(jitter)
    store = Store(
        max_size=max_size, max_bytes=max_bytes, tenant_max_bytes=tenant_max_bytes, clock=clock
    )
    weighs = max_bytes is not None or tenant_max_bytes is not None
    return MemoryEngine(store, default_ttl=default_ttl, jitter=jitter, weighs=weighs)
