"""The in-process cache: with expiry, bounded, fair between tenants, safe between threads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Final, Self

from motadata.core.cache._flights import Flights
from motadata.core.cache._key import (
    CacheKey,
    cache_key,
    check_tags,
    check_text,
    check_ttl,
    compile_glob,
)
from motadata.core.cache._store import CacheStatistics, Store
from motadata.core.cache._values import snapshot, weigh
from motadata.core.errors import ConfigurationError
from motadata.core.models import Health
from motadata.core.tenancy import resolve_tenant


_SLICE: Final = 1000


class MemoryCache:
    """A `Cache` within this process; built by `create_memory_cache`.

    Values are kept by reference, their lists and dicts copied when they are stored. It can be used
    without entering it; leaving it forgets everything.
    """

    def __init__(
        self,
        *,
        default_ttl: float,
        max_size: int,
        max_bytes: int | None,
        clock: Callable[[], float],
    ) -> None:
        self._default_ttl = default_ttl
        self._weighs = max_bytes is not None
        self._store = Store(max_size=max_size, max_bytes=max_bytes, clock=clock)
        self._read = self._store.get
        self._flights = Flights()

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
        self._flights.invalidate(lambda _: True)
        self._store.clear()

    async def get(
        self, key: str, *, namespace: str = "default", tenant_id: str | None = None
    ) -> object | None:
        """Return the live value of `key`, or None.

        Raises:
            TenantRequiredError: No tenant is given and none is in scope.
            InvalidIdentifierError: The tenant or the namespace breaks the grammar.
            CacheError: The key breaks its rule.
        """
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

    async def set(
        self,
        key: str,
        value: object,
        *,
        ttl: float | None = None,
        tags: Sequence[str] = (),
        namespace: str = "default",
        tenant_id: str | None = None,
    ) -> None:
        """Store `value` for `ttl` seconds; None takes the cache's default.

        Raises:
            CacheError: The key or a tag breaks its rule, the TTL is not positive, or the value is
                not plain.
        """
        place = cache_key(resolve_tenant(tenant_id), namespace, key)
        self._put(place, value, ttl, check_tags(tags) if tags else ())

    async def delete(
        self, key: str, *, namespace: str = "default", tenant_id: str | None = None
    ) -> bool:
        """Forget `key`; return whether it was there."""
        place = cache_key(resolve_tenant(tenant_id), namespace, key)
        self._flights.invalidate_key(place)
        return self._store.pop(place)

    async def get_many(
        self, keys: Sequence[str], *, namespace: str = "default", tenant_id: str | None = None
    ) -> Mapping[str, object]:
        """Return the live values of those keys that have one."""
        tenant = resolve_tenant(tenant_id)
        found = {key: await self.get(key, namespace=namespace, tenant_id=tenant) for key in keys}
        return {key: value for key, value in found.items() if value is not None}

    async def set_many(
        self,
        values: Mapping[str, object],
        *,
        ttl: float | None = None,
        namespace: str = "default",
        tenant_id: str | None = None,
    ) -> None:
        """Store all values for `ttl` seconds each; when one cannot be stored, none is."""
        tenant = resolve_tenant(tenant_id)
        checked = [(cache_key(tenant, namespace, key), snapshot(values[key])) for key in values]
        for place, value in checked:
            self._put(place, value, ttl)

    async def get_or_compute(
        self,
        key: str,
        compute: Callable[[], Awaitable[object]],
        *,
        ttl: float | None = None,
        tags: Sequence[str] = (),
        namespace: str = "default",
        tenant_id: str | None = None,
    ) -> object:
        """Return the value of `key`; when absent, await `compute` and store what it returns.

        One computation runs for all who wait on one event loop. It is cancelled when nobody waits
        any more. What it returns is not stored if the key was set or invalidated meanwhile.

        Raises:
            CacheError: The computation asks for its own key, or was cancelled from within.
        """
        tenant = resolve_tenant(tenant_id)
        value = await self.get(key, namespace=namespace, tenant_id=tenant)
        if value is not None:
            return value
        if ttl is not None:
            check_ttl(ttl)
        place = cache_key(tenant, namespace, key)
        checked = check_tags(tags)
        keep = partial(self._keep, place, ttl=ttl, tags=checked)
        return await self._flights.join(place, compute, keep, tags=checked)

    async def invalidate_pattern(
        self, pattern: str, *, namespace: str = "default", tenant_id: str | None = None
    ) -> int:
        """Forget the keys of one namespace that match a glob (`*`, `?`); return how many went."""
        tenant, space, _ = cache_key(resolve_tenant(tenant_id), namespace, "*")
        matches = compile_glob(pattern).match
        self._flights.invalidate(
            lambda place: place[:2] == (tenant, space) and matches(place.key) is not None
        )
        gone = 0
        for number, key in enumerate(self._store.keys(tenant, space), start=1):
            if matches(key) is not None:
                gone += self._store.pop(CacheKey(tenant, space, key))
            if number % _SLICE == 0:
                await asyncio.sleep(0)
        return gone

    async def invalidate_tag(self, tag: str, *, tenant_id: str | None = None) -> None:
        """Forget every value of the tenant that carries the tag, in one step.

        Raises:
            CacheError: The tag breaks its rule.
        """
        tenant = str(resolve_tenant(tenant_id))
        check_text(tag, "tag")
        self._flights.invalidate_tag(tenant, tag)
        self._store.drop_tag(tenant, tag)

    async def invalidate_tenant(self, *, tenant_id: str | None = None) -> None:
        """Forget everything of the tenant, in one step."""
        tenant = str(resolve_tenant(tenant_id))
        self._flights.invalidate(lambda place: place.tenant == tenant)
        self._store.drop_tenant(tenant)

    async def health(self) -> Health:
        """Say that it serves, which memory always does."""
        return Health("ok")

    def statistics(self) -> CacheStatistics:
        """Return what it did since it was made, and what it holds."""
        return self._store.statistics()

    def _put(
        self, place: CacheKey, value: object, ttl: float | None, tags: tuple[str, ...] = ()
    ) -> None:
        if ttl is not None:
            check_ttl(ttl)
        kept = snapshot(value)
        self._flights.invalidate_key(place)
        self._keep(place, kept, ttl=ttl, tags=tags)

    def _keep(
        self, place: CacheKey, value: object, *, ttl: float | None, tags: tuple[str, ...]
    ) -> None:
        if value is None:
            self._store.pop(place)
            return
        seconds = self._default_ttl if ttl is None else ttl
        size = weigh(value) if self._weighs else 0
        self._store.put(place, value, ttl=seconds, size=size, tags=tags)


def create_memory_cache(
    default_ttl: float = 3600.0,
    max_size: int = 10_000,
    *,
    max_bytes: int | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> MemoryCache:
    """Build a cache that lives in this process.

    Args:
        default_ttl: Seconds that an entry lives unless `set` says otherwise.
        max_size: Most entries, of all tenants together; the tenant that holds most makes room.
        max_bytes: About how much memory all values may take; None sets no limit.
        clock: Seconds that only grow.

    Raises:
        ConfigurationError: A limit or the TTL is not positive.
    """
    for name, number in (("max_size", max_size), ("max_bytes", max_bytes)):
        if number is not None and number < 1:
            message = f"{name}={number!r} leaves no room in the cache."
            raise ConfigurationError(message, remedy="Give a positive number.")
    check_ttl(default_ttl)
    return MemoryCache(default_ttl=default_ttl, max_size=max_size, max_bytes=max_bytes, clock=clock)
