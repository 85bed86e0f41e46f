"""What every cache shows its callers: the methods of the protocol, which check what they are given.

A method finds out the tenant, checks each part of what it was given once, and hands on to the
cache's engine, which is never given anything unchecked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

from motadata.core.cache._engine import Engine, Terms
from motadata.core.cache._flights import timed
from motadata.core.cache._key import cache_key, check_tags, check_text, check_ttl
from motadata.core.models import Health
from motadata.core.tenancy import resolve_tenant


class CheckedCache:
    """The methods of `motadata.core.protocols.Cache` before an engine.

    Every method raises `TenantRequiredError` when no tenant is given and none is in scope,
    `InvalidIdentifierError` when the tenant or the namespace breaks the grammar, and `CacheError`
    when a key, a tag, a pattern or a TTL breaks its rule or the cache's server does not answer and
    nothing stands in for it. No method takes longer than the surrounding deadline, which ends it
    with `DeadlineExceededError`; an invalidation goes on without its caller.
    """

    def __init__(self, engine: Engine) -> None:
        self._inner = engine

    async def get(
        self, key: str, *, namespace: str = "default", tenant_id: str | None = None
    ) -> object | None:
        """Return the live value of `key`, or None."""
        return await self._inner.get(cache_key(resolve_tenant(tenant_id), namespace, key))

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
        """Store `value` for at most `ttl` seconds; None takes the cache's default.

        Raises:
            CacheError: As for every method, or the value is not plain or has no encoding.
        """
        place = cache_key(resolve_tenant(tenant_id), namespace, key)
        await self._inner.set(place, value, _terms(ttl, tags))

    async def delete(
        self, key: str, *, namespace: str = "default", tenant_id: str | None = None
    ) -> bool:
        """Forget `key`; return whether it was there, as far as is known."""
        return await self._inner.delete(cache_key(resolve_tenant(tenant_id), namespace, key))

    async def get_many(
        self, keys: Sequence[str], *, namespace: str = "default", tenant_id: str | None = None
    ) -> Mapping[str, object]:
        """Return the live values of those keys that have one."""
        tenant = resolve_tenant(tenant_id)
        places = [cache_key(tenant, namespace, key) for key in dict.fromkeys(keys)]
        found = await self._inner.get_many(places) if places else {}
        return {place.key: value for place, value in found.items()}

    async def set_many(
        self,
        values: Mapping[str, object],
        *,
        ttl: float | None = None,
        tags: Sequence[str] = (),
        namespace: str = "default",
        tenant_id: str | None = None,
    ) -> None:
        """Store all values for at most `ttl` seconds each.

        Raises:
            CacheError: As for `set`; when one value cannot be stored, none is, unless the server
                went away meanwhile.
        """
        tenant = resolve_tenant(tenant_id)
        terms = _terms(ttl, tags)
        placed = {cache_key(tenant, namespace, key): value for key, value in values.items()}
        if placed:
            await self._inner.set_many(placed, terms)

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

        One computation runs for all who wait, each for as long as their own deadline allows. Its
        deadline (`remaining`) is that of who waits longest, and moves as they come and go; it is
        cancelled when nobody waits any more. What it returns is not stored if the key was set or
        invalidated meanwhile. If it fails when the deadline of who began it is over, those with
        more time compute anew.

        Raises:
            CacheError: As for `set`, the computation asks for its own key, or was cancelled from
                within.
        """
        place = cache_key(resolve_tenant(tenant_id), namespace, key)
        return await self._inner.get_or_compute(place, partial(timed, compute), _terms(ttl, tags))

    async def invalidate_pattern(
        self, pattern: str, *, namespace: str = "default", tenant_id: str | None = None
    ) -> int:
        """Forget the keys of one namespace that match a glob (`*`, `?`); return how many went.

        Every matching key that was there before the call is forgotten. Others are served in
        between, however many there are.
        """
        check_text(pattern, "pattern")
        place = cache_key(resolve_tenant(tenant_id), namespace, pattern)
        return await self._inner.invalidate_pattern(place)

    async def invalidate_tag(self, tag: str, *, tenant_id: str | None = None) -> None:
        """Forget every value of the tenant that carries the tag, in one step."""
        tenant = str(resolve_tenant(tenant_id))
        check_text(tag, "tag")
        await self._inner.invalidate_tag(tenant, tag)

    async def invalidate_tenant(self, *, tenant_id: str | None = None) -> None:
        """Forget everything of the tenant, in one step however much it is."""
        await self._inner.invalidate_tenant(str(resolve_tenant(tenant_id)))

    async def health(self) -> Health:
        """Say whether it serves."""
        return await self._inner.health()


def _terms(ttl: float | None, tags: Sequence[str]) -> Terms:
    if ttl is not None:
        check_ttl(ttl)
    return Terms(ttl, check_tags(tags) if tags else ())
