"""A rate limit: a bucket of tokens, and a queue in front of it that is fair across tenants."""

from __future__ import annotations

import asyncio
import math
import time
from contextvars import Context
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from motadata.core.clock import SYSTEM_CLOCK, Clock
from motadata.core.errors import RateLimitError
from motadata.core.resilience._checks import check_finite, check_positive
from motadata.core.resilience._deadline import remaining
from motadata.core.resilience._fair_queue import FairQueue
from motadata.core.resilience._token_bucket import Bucket, TokenBucket
from motadata.core.tenancy import TenantId, resolve_tenant


@dataclass(slots=True, eq=False)
class _Waiter:
    """A call in the queue.

    Attributes:
        tenant: Whose call it is.
        cost: Tokens that it takes.
        granted: Done when it has them.
        end: The reading of `time.monotonic` by which it must; infinity when its caller has time.
        judged: Whether it is known that it will have them in time.
    """

    tenant: TenantId
    cost: float
    granted: asyncio.Future[None]
    end: float
    judged: bool


class FairLimiter:
    """One token bucket that all tenants share, with a queue in which each gets its fair part.

    The queue is bounded, and nobody is let in who could not be served in time: the wait is
    estimated on arrival from the tokens that its tenant and the others have queued. When the queue
    is full, a tenant with less waiting takes the last place of the one with most.

    Raises:
        ConfigurationError: The rate, the burst or the size of the queue is no positive number.
    """

    __slots__ = ("_bucket", "_dispatcher", "_max_waiting", "_queue", "_unjudged")

    def __init__(
        self,
        rate: float,
        burst: float,
        *,
        max_waiting: int = 10_000,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        check_positive(max_waiting=max_waiting)
        self._bucket: Bucket = TokenBucket(rate, burst, clock=clock)
        self._max_waiting = max_waiting
        self._queue: FairQueue[_Waiter] | None = None  # most tenants never have one
        self._unjudged = False
        self._dispatcher: asyncio.Task[None] | None = None

    @classmethod
    def over(cls, bucket: Bucket, *, max_waiting: int) -> Self:
        """Make a limiter whose tokens come from `bucket`."""
        made = cls(bucket.rate, bucket.burst, max_waiting=max_waiting)
        made._bucket = bucket
        return made

    @property
    def waiting(self) -> int:
        """How many calls are in the queue."""
        return len(self._queue) if self._queue is not None else 0

    @property
    def idle(self) -> bool:
        """Whether nobody waits and the bucket is as good as new."""
        return not self._queue and self._bucket.idle

    async def acquire(
        self, *, cost: float = 1.0, timeout: float | None = None, tenant_id: str | None = None
    ) -> None:
        """See `RateLimiter.acquire`."""
        tenant = resolve_tenant(tenant_id)
        if not 0 < cost < math.inf:
            check_positive(cost=cost)
        if not self._queue and self._bucket.take(cost):
            return
        if cost > self._bucket.burst:
            message = f"A call of {cost:g} tokens can never pass a burst of {self._bucket.burst:g}."
            raise RateLimitError(message, remedy="Split it, or raise the burst.", tenant_id=tenant)
        await self._wait(self._enqueue(tenant, cost, remaining(timeout)))

    def settle(self, difference: float, *, tenant_id: str | None = None) -> None:
        """See `RateLimiter.settle`."""
        resolve_tenant(tenant_id)
        check_finite(difference=difference)
        self._bucket.settle(difference)

    def _enqueue(self, tenant: TenantId, cost: float, limit: float | None) -> _Waiter:
        queue = self._queue
        if queue is None:
            queue = self._queue = FairQueue()
        estimate = self._bucket.estimate(queue.cost + cost)
        if estimate is not None and limit is not None and estimate > limit:
            # Not all that wait must be served before this one does.
            estimate = self._bucket.estimate(queue.ahead(tenant, cost))
        if estimate is not None and limit is not None and estimate > limit:
            raise self._refusal(tenant, estimate)
        if len(queue) >= self._max_waiting:
            self._make_place(queue, tenant, cost)
        end = math.inf
        if limit is not None:
            end = time.monotonic() + max(limit, self._bucket.patience)
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(tenant, cost, granted, end, estimate is not None)
        queue.push(tenant, waiter, cost)
        self._unjudged = self._unjudged or not waiter.judged
        if self._dispatcher is None or self._dispatcher.done():
            # Not in the caller's context: it serves everybody, and its caller may be gone first.
            self._dispatcher = asyncio.create_task(
                self._dispatch(), name="motadata-fair-limiter", context=Context()
            )
        return waiter

    async def _wait(self, waiter: _Waiter) -> None:
        loop = asyncio.get_running_loop()
        timer = None
        if waiter.end < math.inf:
            timer = loop.call_later(waiter.end - time.monotonic(), self._give_up, waiter)
        try:
            await waiter.granted
        except asyncio.CancelledError:
            if self._queue is not None:
                self._queue.remove(waiter.tenant, waiter)
            granted = waiter.granted
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                # Granted and cancelled in the same turn: the tokens go to those who wait.
                self._bucket.settle(-waiter.cost)
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def _make_place(self, queue: FairQueue[_Waiter], tenant: TenantId, cost: float) -> None:
        """Take the last place of the longest line, unless it is the caller's own.

        Raises:
            RateLimitError: It is.
        """
        last = queue.longest()
        if last is None or queue.line_cost(tenant) + cost >= queue.line_cost(last[0]):
            raise self._refusal(tenant, self._bucket.estimate(queue.cost) or 0.0)
        queue.remove(*last)
        self._refuse(last[1], self._bucket.estimate(queue.cost) or 0.0)

    def _give_up(self, waiter: _Waiter) -> None:
        """Refuse a call whose time is up, be its turn near or not."""
        queue = self._queue
        if queue is not None and queue.remove(waiter.tenant, waiter):
            self._refuse(waiter, self._bucket.estimate(queue.cost + waiter.cost) or 0.0)

    def _refuse(self, waiter: _Waiter, retry_after: float) -> None:
        if not waiter.granted.done():
            waiter.granted.set_exception(self._refusal(waiter.tenant, retry_after))

    def _refusal(self, tenant: TenantId, retry_after: float) -> RateLimitError:
        message = f"The rate limit of {self._bucket.rate:g} a second is reached."
        remedy = f"Try again in {retry_after:.2f} s."
        return RateLimitError(message, retry_after=retry_after, remedy=remedy, tenant_id=tenant)

    async def _dispatch(self) -> None:
        """Grant tokens in fair order until nobody waits."""
        queue = self._queue
        assert queue is not None
        while (head := queue.first()) is not None:
            _, waiter, cost = head
            if self._bucket.take(cost):
                queue.pop()
                if waiter.granted.done():
                    self._bucket.settle(-cost)
                else:
                    waiter.granted.set_result(None)
                continue
            if self._unjudged and self._judge(queue):
                continue
            await self._bucket.refill(cost, queue.cost)
        self._queue = None

    def _judge(self, queue: FairQueue[_Waiter]) -> bool:
        """Refuse who came before the source said what there is, and is too late; False: ask it."""
        if self._bucket.estimate(math.inf) is None:
            return False
        self._unjudged = False
        now = time.monotonic()
        for tenant, line in queue.lines():
            behind = 0.0
            for waiter in reversed(line):
                wait = self._bucket.estimate(queue.ahead(tenant, -behind)) or 0.0
                if not waiter.judged and wait > waiter.end - now:
                    queue.remove(tenant, waiter)
                    self._refuse(waiter, wait)
                else:
                    waiter.judged = True
                    behind += waiter.cost
        return True

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
        queue, self._queue = self._queue, None
        for _, line in queue.lines() if queue is not None else ():
            for waiter in line:
                waiter.granted.cancel()
