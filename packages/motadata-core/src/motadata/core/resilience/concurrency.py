"""How many calls run at once: a fixed share a tenant, and a limit that finds itself.

Overload is refused on arrival. A queue that is longer than what can be served within the caller's
deadline only produces answers that nobody waits for any more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from motadata.core.clock import SYSTEM_CLOCK, Clock
from motadata.core.errors import OverloadError
from motadata.core.resilience.deadline import time_limit
from motadata.core.tenancy import TenantId, resolve_tenant


class Bulkhead:
    """At most `limit` calls of one tenant at once, and at most `waiting` in its line.

    async with bulkhead.enter():
        await work()
    """

    def __init__(self, limit: int, *, waiting: int = 0) -> None:
        self._limit = limit
        self._waiting_limit = waiting
        self._running: dict[TenantId, int] = {}
        self._lines: dict[TenantId, deque[asyncio.Future[None]]] = {}

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
        await self._take(tenant, timeout)
        try:
            yield
        finally:
            self._give_back(tenant)

    async def _take(self, tenant: TenantId, timeout: float | None) -> None:
        if self._running.get(tenant, 0) < self._limit:
            self._running[tenant] = self._running.get(tenant, 0) + 1
            return
        line = self._lines.setdefault(tenant, deque())
        if len(line) >= self._waiting_limit:
            if not line:
                del self._lines[tenant]
            message = f"Tenant {tenant!r} has {self._limit} calls running and {len(line)} waiting."
            raise OverloadError(message, remedy="Send fewer at once.", tenant_id=tenant)
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.append(place)
        try:
            async with time_limit(timeout, what="a free place in the bulkhead"):
                await place
        except BaseException:
            if place.done() and not place.cancelled():
                self._give_back(tenant)
            elif place in line:
                line.remove(place)
                if not line:
                    self._lines.pop(tenant, None)
            raise

    def _give_back(self, tenant: TenantId) -> None:
        """Hand the place to the next in line, or free it."""
        line = self._lines.get(tenant)
        while line:
            place = line.popleft()
            if not line:
                self._lines.pop(tenant, None)
            if not place.done():
                place.set_result(None)
                return
        self._running[tenant] -= 1
        if not self._running[tenant]:
            del self._running[tenant]


class AdaptiveLimit:
    """A concurrency limit that follows the latency of what it protects.

    The limit grows while calls take about as long as the fastest recent ones and shrinks as they
    queue up behind each other: `limit · shortest / latency + √limit` (the gradient rule of Netflix'
    concurrency-limits). Failures of the kind that overload causes halve it.
    """

    def __init__(
        self,
        *,
        initial: int = 20,
        smallest: int = 1,
        largest: int = 1_000,
        smoothing: float = 0.2,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._limit = float(initial)
        self._smallest = smallest
        self._largest = largest
        self._smoothing = smoothing
        self._clock = clock
        self._running = 0
        self._shortest = float("inf")

    @property
    def limit(self) -> int:
        """How many calls may run at once now."""
        return int(self._limit)

    @property
    def running(self) -> int:
        """How many calls run now."""
        return self._running

    @asynccontextmanager
    async def enter(self) -> AsyncIterator[None]:
        """Run the block as one of the calls, and learn from how long it takes.

        Raises:
            OverloadError: As many as the limit allows run already.
        """
        if self._running >= self.limit:
            message = f"{self._running} calls run, which is the present limit."
            raise OverloadError(message, remedy="Try again later, with fewer calls at once.")
        self._running += 1
        saturated = self._running * 2 >= self.limit
        started = self._clock.now()
        try:
            yield
        except TimeoutError:
            self._limit = max(float(self._smallest), self._limit / 2)
            raise
        else:
            self._learn(self._clock.now() - started, saturated=saturated)
        finally:
            self._running -= 1

    def _learn(self, latency: float, *, saturated: bool) -> None:
        latency = max(latency, 1e-6)
        # The shortest latency drifts up slowly, so that a dependency that got slower for good is
        # not squeezed for ever.
        self._shortest = min(latency, self._shortest * 1.001)
        if not saturated and latency <= 2 * self._shortest:
            return
        gradient = min(1.0, max(0.5, 1.5 * self._shortest / latency))
        target = self._limit * gradient + self._limit**0.5
        smoothed = (1 - self._smoothing) * self._limit + self._smoothing * target
        self._limit = min(float(self._largest), max(float(self._smallest), smoothed))
