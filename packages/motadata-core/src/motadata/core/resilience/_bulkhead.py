"""A fixed share of places a tenant: who fills its own is refused, the others notice nothing."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from motadata.core.errors import OverloadError
from motadata.core.resilience._checks import check_positive
from motadata.core.resilience._deadline import time_limit
from motadata.core.tenancy import TenantId, resolve_tenant


class Bulkhead:
    """At most `limit` calls of one tenant at once, and at most `waiting` in its line.

    async with bulkhead.enter():
        await work()

    Args:
        limit: Places of each tenant.
        waiting: How many of its calls may wait for one.
        longest_wait: Seconds after which a wait ends that has no other limit.

    Raises:
        ConfigurationError: The limit or the longest wait is no positive number.
    """

    def __init__(self, limit: int, *, waiting: int = 0, longest_wait: float = 60.0) -> None:
        check_positive(limit=limit, longest_wait=longest_wait)
        self._limit = limit
        self._waiting_limit = waiting
        self._longest_wait = longest_wait
        self._running: dict[TenantId, int] = {}
        self._lines: dict[TenantId, OrderedDict[asyncio.Future[None], None]] = {}

    def running(self, *, tenant_id: str | None = None) -> int:
        """Return how many calls of the tenant run now."""
        return self._running.get(resolve_tenant(tenant_id), 0)

    @asynccontextmanager
    async def enter(
        self, *, timeout: float | None = None, tenant_id: str | None = None
    ) -> AsyncIterator[None]:
        """Run the block as one of the tenant's calls; `timeout` bounds the wait for a place.

        Raises:
            OverloadError: The tenant's places and its line are full.
            DeadlineExceededError: No place became free in time.
        """
        tenant = resolve_tenant(tenant_id)
        if self._running.get(tenant, 0) < self._limit:
            self._running[tenant] = self._running.get(tenant, 0) + 1
        else:
            await self._wait(tenant, timeout)
        try:
            yield
        finally:
            self._give_back(tenant)

    async def _wait(self, tenant: TenantId, timeout: float | None) -> None:
        line = self._lines.get(tenant)
        waiting = len(line) if line is not None else 0
        if waiting >= self._waiting_limit:
            message = f"Tenant {tenant!r} has {self._limit} calls running and {waiting} waiting."
            raise OverloadError(message, remedy="Send fewer at once.", tenant_id=tenant)
        if line is None:
            line = self._lines[tenant] = OrderedDict()
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line[place] = None
        limit = self._longest_wait if timeout is None else min(timeout, self._longest_wait)
        try:
            async with time_limit(limit, what="a free place in the bulkhead"):
                await place
        except BaseException:
            if place.done() and not place.cancelled():
                # Given and cancelled in the same turn: the place goes to the next.
                self._give_back(tenant)
            else:
                self._leave(tenant, place)
            raise

    def _leave(self, tenant: TenantId, place: asyncio.Future[None]) -> None:
        line = self._lines.get(tenant)
        if line is not None:
            line.pop(place, None)
            if not line:
                del self._lines[tenant]

    def _give_back(self, tenant: TenantId) -> None:
        """Hand the place to the next in line, or free it."""
        while (line := self._lines.get(tenant)) is not None:
            place = next(iter(line))
            self._leave(tenant, place)
            if not place.done():
                place.set_result(None)
                return
        self._running[tenant] -= 1
        if not self._running[tenant]:
            del self._running[tenant]
