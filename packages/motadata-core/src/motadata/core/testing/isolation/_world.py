"""All sites together, and several tenants that act on them at the same time."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from motadata.core.testing.isolation._operations import TENANTS, Operation
from motadata.core.testing.isolation._site import Site


class World:
    """Sites and tenants; entering it makes every site ready.

    Args:
        sites: The stores.
        tenants: Who acts.
    """

    def __init__(self, sites: Sequence[Site], *, tenants: Sequence[str] = TENANTS) -> None:
        self.sites = tuple(sites)
        self.tenants = tuple(tenants)
        self.counts: Counter[str] = Counter()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Make every site ready and empty."""
        async with AsyncExitStack() as stack:
            for site in self.sites:
                await stack.enter_async_context(site)
            self._stack = stack.pop_all()
        await self.reset()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let go of every site."""
        await self._stack.aclose()

    async def reset(self) -> None:
        """Empty every site."""
        for site in self.sites:
            await site.reset()

    async def run(self, operations: Iterable[Operation]) -> None:
        """Let each tenant do its operations in their order, all tenants at once; then settle.

        Raises:
            Leak: A tenant met what is another's.
        """
        by_tenant: defaultdict[int, list[Operation]] = defaultdict(list)
        for operation in operations:
            by_tenant[operation.tenant].append(operation)
        actors = [
            asyncio.create_task(self._act(self.tenants[tenant], plan))
            for tenant, plan in by_tenant.items()
        ]
        try:
            for actor in asyncio.as_completed(actors):
                await actor
        finally:
            for task in actors:
                task.cancel()
            await asyncio.gather(*actors, return_exceptions=True)
        for site in self.sites:
            await site.settle()

    async def _act(self, tenant: str, operations: Sequence[Operation]) -> None:
        for operation in operations:
            site = self.sites[operation.site]
            await site.act(tenant, operation)
            self.counts[site.name] += 1
