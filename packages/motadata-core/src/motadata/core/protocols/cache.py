"""The contract of a cache: tenant-scoped, bounded, allowed to forget, never allowed to mix up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from motadata.core.models import Health


class Cache(Protocol):
    """Values by tenant, namespace and key.

    A value is anything that the codec encodes; what `get` returns equals what was set and must not
    be changed by the caller. A cache may forget anything at any time and never returns a value
    under another tenant, namespace or key than the one it was set under. Keys are 1 to 512
    characters without control characters; namespaces are identifiers.

    A tag names what a value was made from, such as a document, in the form of a key. Tags belong to
    the tenant, not to a namespace: `invalidate_tag` forgets every value that carries one, wherever
    it is.

    Every method takes `tenant_id`; None means the tenant of the scope.

    Raises:
        TenantRequiredError: No tenant is given and none is in scope.
        InvalidIdentifierError: The tenant or the namespace breaks the grammar.
        CacheError: The key or a tag breaks its rule, the TTL is not positive, or the cache's server
            cannot be reached and nothing stands in for it.
    """

    async def get(
        self, key: str, *, namespace: str = "default", tenant_id: str | None = None
    ) -> object | None:
        """Return the live value of `key`, or None. A stored None reads as absent."""
        ...

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

        The tags replace those that a value under the key had before.
        """
        ...

    async def delete(
        self, key: str, *, namespace: str = "default", tenant_id: str | None = None
    ) -> bool:
        """Forget `key`; return whether it was there."""
        ...

    async def get_many(
        self, keys: Sequence[str], *, namespace: str = "default", tenant_id: str | None = None
    ) -> Mapping[str, object]:
        """Return the live values of those keys that have one."""
        ...

    async def set_many(
        self,
        values: Mapping[str, object],
        *,
        ttl: float | None = None,
        tags: Sequence[str] = (),
        namespace: str = "default",
        tenant_id: str | None = None,
    ) -> None:
        """Store all values for `ttl` seconds each, each with all the tags."""
        ...

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

        However many callers wait for one key, one computation runs. A caller that is cancelled does
        not cancel the others; the computation is cancelled when nobody waits any more. An exception
        reaches all who wait and is not stored, nor is a value whose key was set, deleted or
        invalidated while it was computed.

        The computation has the deadline of who waits longest, which moves as callers come and go,
        and none while one of them has none. Where it fails after the deadline of who began it, a
        caller who has more time computes anew.
        """
        ...

    async def invalidate_pattern(
        self, pattern: str, *, namespace: str = "default", tenant_id: str | None = None
    ) -> int:
        """Forget the keys of one namespace that match a glob (`*`, `?`); return how many went."""
        ...

    async def invalidate_tag(self, tag: str, *, tenant_id: str | None = None) -> None:
        """Forget every value of the tenant that carries the tag, in one step."""
        ...

    async def invalidate_tenant(self, *, tenant_id: str | None = None) -> None:
        """Forget everything of the tenant."""
        ...

    async def health(self) -> Health:
        """Say whether the cache serves."""
        ...
