"""What a cache does once a caller's words are checked: the inner half of every cache."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from motadata.core.cache._key import CacheKey
from motadata.core.models import Health


Compute = Callable[[], Awaitable[object]]
"""What makes a value that is absent."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How long a value lives in seconds, None for the default, and what it is tagged with."""

    ttl: float | None = None
    tags: tuple[str, ...] = ()


class Engine(Protocol):
    """`motadata.core.protocols.Cache` by checked keys; the contract is there."""

    async def get(self, place: CacheKey) -> object | None:
        """Return the live value, or None."""
        ...

    async def get_many(self, places: Sequence[CacheKey]) -> Mapping[CacheKey, object]:
        """Return the live values of those places, of one namespace, that have one."""
        ...

    async def set(self, place: CacheKey, value: object, terms: Terms) -> None:
        """Store a value; None forgets it."""
        ...

    async def set_many(self, values: Mapping[CacheKey, object], terms: Terms) -> None:
        """Store values of one namespace; when one has no encoding, none is stored."""
        ...

    async def delete(self, place: CacheKey) -> bool:
        """Forget a value; return whether it was there."""
        ...

    async def get_or_compute(self, place: CacheKey, compute: Compute, terms: Terms) -> object:
        """Return the live value; when absent, compute and store it."""
        ...

    async def invalidate_pattern(self, pattern: CacheKey) -> int:
        """Forget what matches a glob in the place of a key; return how many went."""
        ...

    async def invalidate_tag(self, tenant: str, tag: str) -> None:
        """Forget what carries a tag."""
        ...

    async def invalidate_tenant(self, tenant: str) -> None:
        """Forget everything of a tenant."""
        ...

    async def health(self) -> Health:
        """Say whether it serves."""
        ...
