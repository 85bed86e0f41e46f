"""Rate limits: a token bucket with burst, and a queue in front of it that is fair across tenants.

The bucket is the generic cell rate algorithm (ITU-T I.371): one number, the theoretical arrival
time, stands for the whole bucket. The queue serves tenants by start-time fair queueing (Goyal, Vin
and Cheng, 1996): a tenant that sends a flood waits behind its own flood, not before the others.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from types import TracebackType
from typing import Final, Protocol, Self

from motadata.core.clock import SYSTEM_CLOCK, Clock
from motadata.core.errors import RateLimitError
from motadata.core.resilience.deadline import remaining
from motadata.core.tenancy import TenantId, resolve_tenant


class RateLimiter(Protocol):
    """Grants permission at a bounded rate; in process or shared by instances."""

    async def acquire(
        self, *, cost: float = 1.0, timeout: float | None = None, tenant_id: str | None = None
    ) -> None:
        """Return when the tenant may go on.

        Args:
            cost: How many tokens it takes.
            timeout: Seconds to wait at most, the surrounding deadline if sooner; 0 never waits.
            tenant_id: None means the tenant of the scope.

        Raises:
            RateLimitError: It would take longer, or can never be; said at once, not after the wait.
        """
        ...


class TokenBucket:
    """`burst` tokens at once, refilled at `rate` tokens a second."""

    __slots__ = ("_arrival", "_clock", "_interval", "burst", "rate")

    def __init__(self, rate: float, burst: float, *, clock: Clock = SYSTEM_CLOCK) -> None:
        if rate <= 0 or burst <= 0:
            message = f"rate and burst must be positive, not {rate} and {burst}"
            raise ValueError(message)
        self.rate = rate
        self.burst = burst
        self._interval = 1.0 / rate
        self._clock = clock
        self._arrival = 0.0

    def take(self, cost: float = 1.0) -> float:
        """Take `cost` tokens and return 0.0, or take none and return the seconds until they come.

        More than `burst` tokens are never there: returns infinity.
        """
        if cost > self.burst:
            return float("inf")
        now = self._clock.now()
        arrival = max(self._arrival, now) + cost * self._interval
        wait = arrival - self.burst * self._interval - now
        if wait > _ROUNDING:
            return wait
        self._arrival = arrival
        return 0.0

    def settle(self, difference: float) -> None:
        """Correct an estimate: take `difference` more tokens, or give them back when negative."""
        now = self._clock.now()
        self._arrival = max(self._arrival, now) + difference * self._interval

    @property
    def full_again(self) -> float:
        """The clock's reading at which the bucket is full and holds no memory of its past."""
        return self._arrival


class TenantLimiter:
    """One token bucket a tenant; a call waits in its tenant's line, first come first served."""

    def __init__(
        self,
        rate: float,
        burst: float,
        *,
        max_tenants: int = 100_000,
        max_waiting: int = 1_000,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._make: Callable[[], FairLimiter] = lambda: FairLimiter(
            rate, burst, max_waiting=max_waiting, clock=clock
        )
        self._max_tenants = max_tenants
        self._limiters: OrderedDict[TenantId, FairLimiter] = OrderedDict()

    async def acquire(
        self, *, cost: float = 1.0, timeout: float | None = None, tenant_id: str | None = None
    ) -> None:
        """See `RateLimiter.acquire`."""
        tenant = resolve_tenant(tenant_id)
        limiter = self._limiters.get(tenant)
        if limiter is None:
            self._make_room()
            limiter = self._limiters[tenant] = self._make()
        self._limiters.move_to_end(tenant)
        await limiter.acquire(cost=cost, timeout=timeout, tenant_id=tenant)

    async def __aenter__(self) -> Self:
        """Nothing to open: a tenant's line is made on its first call."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close every line; calls that still wait are cancelled."""
        for limiter in self._limiters.values():
            await limiter.__aexit__(kind, error, traceback)

    def _make_room(self) -> None:
        """Forget long unused tenants whose bucket is full again and whom nobody awaits."""
        if len(self._limiters) < self._max_tenants:
            return
        for tenant, limiter in list(self._limiters.items())[: 1 + self._max_tenants // 100]:
            if limiter.idle:
                del self._limiters[tenant]


@dataclass(slots=True, eq=False)
class _Waiter:
    """A call in the queue."""

    cost: float
    granted: asyncio.Future[None]
    start: float = 0.0


class FairLimiter:
    """One token bucket that all tenants share, with a queue in which each gets its fair part.

    The queue is bounded, and nobody is let in who could not be served in time: the wait is
    estimated on arrival from the tokens that its tenant and the others have queued.
    """

    def __init__(
        self,
        rate: float,
        burst: float,
        *,
        max_waiting: int = 10_000,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._bucket = TokenBucket(rate, burst, clock=clock)
        self._clock = clock
        self._max_waiting = max_waiting
        self._queues: dict[TenantId, deque[_Waiter]] = {}
        self._queued: dict[TenantId, float] = {}
        self._finish: dict[TenantId, float] = {}
        self._heap: list[tuple[float, int, TenantId]] = []
        self._order = count()
        self._virtual = 0.0
        self._waiting = 0
        self._dispatcher: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """How many calls are in the queue."""
        return self._waiting

    @property
    def idle(self) -> bool:
        """Whether nobody waits and the bucket is full, as in a new limiter."""
        return not self._waiting and self._bucket.full_again <= self._clock.now()

    async def acquire(
        self, *, cost: float = 1.0, timeout: float | None = None, tenant_id: str | None = None
    ) -> None:
        """See `RateLimiter.acquire`."""
        tenant = resolve_tenant(tenant_id)
        if not self._waiting and not self._bucket.take(cost):
            return
        limit = remaining(timeout)
        estimate = self._estimate(tenant, cost)
        if estimate == float("inf"):
            burst = self._bucket.burst
            message = f"A call of {cost:g} tokens can never pass a burst of {burst:g}."
            raise RateLimitError(message, remedy="Split it, or raise the burst.", tenant_id=tenant)
        if self._waiting >= self._max_waiting or (limit is not None and estimate > limit):
            message = f"The rate limit of {self._bucket.rate:g} a second is reached."
            remedy = f"Try again in {estimate:.2f} s."
            raise RateLimitError(message, retry_after=estimate, remedy=remedy, tenant_id=tenant)
        await self._wait(tenant, cost)

    async def _wait(self, tenant: TenantId, cost: float) -> None:
        waiter = _Waiter(cost, asyncio.get_running_loop().create_future())
        self._enqueue(tenant, waiter)
        if self._dispatcher is None or self._dispatcher.done():
            self._dispatcher = asyncio.create_task(self._dispatch(), name="motadata-fair-limiter")
        try:
            await waiter.granted
        except asyncio.CancelledError:
            # Granted and cancelled in the same turn: the tokens go back to those who still wait.
            if waiter.granted.done() and not waiter.granted.cancelled():
                self._bucket.settle(-cost)
            raise

    def _estimate(self, tenant: TenantId, cost: float) -> float:
        """Return the seconds until a call arriving now is served if all others stay."""
        if cost > self._bucket.burst:
            return float("inf")
        own = cost + self._queued.get(tenant, 0.0)
        others = (min(own, tokens) for name, tokens in self._queued.items() if name != tenant)
        ahead = own + sum(others)
        refill = self._bucket.full_again - self._clock.now()
        return max(0.0, refill + (ahead - self._bucket.burst) / self._bucket.rate)

    def _enqueue(self, tenant: TenantId, waiter: _Waiter) -> None:
        queue = self._queues.get(tenant)
        waiter.start = max(self._virtual, self._finish.get(tenant, 0.0))
        self._finish[tenant] = waiter.start + waiter.cost
        if queue is None:
            queue = self._queues[tenant] = deque()
            heapq.heappush(self._heap, (waiter.start, next(self._order), tenant))
        queue.append(waiter)
        self._queued[tenant] = self._queued.get(tenant, 0.0) + waiter.cost
        self._waiting += 1

    async def _dispatch(self) -> None:
        """Grant tokens in fair order until nobody waits."""
        while self._heap:
            start, _, tenant = self._heap[0]
            queue = self._queues[tenant]
            waiter = queue[0]
            if not waiter.granted.done():
                wait = self._bucket.take(waiter.cost)
                if wait:
                    await self._clock.sleep(wait)
                    continue
                waiter.granted.set_result(None)
                self._virtual = max(self._virtual, start)
            self._leave(tenant, queue)

    def _leave(self, tenant: TenantId, queue: deque[_Waiter]) -> None:
        """Take the first of a tenant's line out, and put the next one up."""
        heapq.heappop(self._heap)
        self._queued[tenant] -= queue.popleft().cost
        self._waiting -= 1
        if queue:
            heapq.heappush(self._heap, (queue[0].start, next(self._order), tenant))
        else:
            del self._queues[tenant], self._queued[tenant]
            if self._finish[tenant] <= self._virtual or not self._waiting:
                del self._finish[tenant]
        if not self._waiting:
            self._finish.clear()
            self._virtual = 0.0

    async def __aenter__(self) -> Self:
        """Nothing to open: the dispatcher runs only while somebody waits."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the dispatcher; calls that still wait are cancelled."""
        if self._dispatcher is not None:
            self._dispatcher.cancel()
            await asyncio.gather(self._dispatcher, return_exceptions=True)
        for queue in self._queues.values():
            for waiter in queue:
                waiter.granted.cancel()


_ROUNDING: Final = 1e-9
"""Seconds by which floating point may miss an exact refill."""
