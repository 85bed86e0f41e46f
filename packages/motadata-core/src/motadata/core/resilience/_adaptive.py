"""A concurrency limit that finds itself, with a short and fair queue in front of it.

Overload is refused on arrival. A queue that is longer than what can be served within the caller's
deadline only produces answers that nobody waits for any more: at twice the load that a dependency
bears, a plain queue answers next to nobody in time. Here nobody waits for a place longer than half
of what the deadline leaves, so that the other half is there for the call.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from motadata.core.clock import SYSTEM_CLOCK, Clock
from motadata.core.errors import DeadlineExceededError, OverloadError
from motadata.core.resilience._checks import check_positive
from motadata.core.resilience._deadline import remaining
from motadata.core.resilience._fair_queue import FairQueue
from motadata.core.resilience._gradient import Gradient
from motadata.core.tenancy import TenantId, resolve_tenant


_SHARE: Final = 0.5
"""The part of the time left that may go by in the queue."""

_CERTAIN: Final = 0.7
"""Nobody is let into the queue whose place is expected later than this part of that: who is refused
should hear so at once, and not when the wait turns out longer."""

_PACE_OF: Final = 32
"""The newest calls whose ends tell how fast places become free."""

_FEWEST: Final = 8
"""Below so many ends the pace is told from latency and limit, which lag behind each other."""

Place = asyncio.Future[None]


class AdaptiveLimit:
    """As many calls at once as what they call bears; the rest waits shortly, or is refused at once.

    async with limit.enter():
        await call_the_dependency()

    Places go around fairly: whose calls were served least is next. Keep one limit for each
    dependency.

    Args:
        initial: How many calls run at once at first.
        smallest: The limit never falls below this.
        largest: The limit never rises above this.
        waiting: How many calls may wait for a place, whatever the deadline.
        longest_wait: Seconds in the queue for a call without a deadline.
        smoothing: How much of what one call teaches is believed, between 0 and 1.
        clock: What the time is.

    Raises:
        ConfigurationError: One of them is no positive number.
    """

    def __init__(
        self,
        *,
        initial: int = 20,
        smallest: int = 1,
        largest: int = 1_000,
        waiting: int = 1_000,
        longest_wait: float = 1.0,
        smoothing: float = 0.2,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        check_positive(initial=initial, smallest=smallest, largest=largest, smoothing=smoothing)
        check_positive(longest_wait=longest_wait)
        self._gradient = Gradient(
            initial=initial, smallest=smallest, largest=largest, smoothing=smoothing
        )
        self._waiting_limit = waiting
        self._longest_wait = longest_wait
        self._clock = clock
        self._running = 0
        self._latency = 0.0
        self._queue: FairQueue[Place] = FairQueue()
        # When calls ended, for as long as others waited.
        self._ends: deque[float] = deque(maxlen=_PACE_OF)

    @property
    def limit(self) -> int:
        """How many calls may run at once now."""
        return self._gradient.value

    @property
    def running(self) -> int:
        """How many calls run now."""
        return self._running

    @property
    def waiting(self) -> int:
        """How many calls wait for a place."""
        return len(self._queue)

    @asynccontextmanager
    async def enter(self, *, tenant_id: str | None = None) -> AsyncIterator[None]:
        """Run the block as one of the calls, and learn from how long it takes.

        Raises:
            OverloadError: There is no place, and none would come in half of the time that is left.
        """
        tenant = resolve_tenant(tenant_id)
        if self._running < self.limit and not self._queue:
            self._running += 1
        else:
            await self._wait(tenant)
        saturated = self._running * 2 >= self.limit
        started = self._clock.now()
        try:
            yield
        except (TimeoutError, DeadlineExceededError, OverloadError):
            self._gradient.failed()
            raise
        else:
            latency = self._clock.now() - started
            self._latency += 0.1 * (latency - self._latency) if self._latency else latency
            self._gradient.succeeded(latency, saturated=saturated)
        finally:
            self._running -= 1
            if self._queue:
                self._ends.append(self._clock.now())
            else:
                self._ends.clear()
            self._hand_on()

    async def _wait(self, tenant: TenantId) -> None:
        """Wait for a place in the fair queue.

        Raises:
            OverloadError: It would take too long.
        """
        left = remaining()
        patience = self._longest_wait if left is None else _SHARE * left
        ahead = self._queue.ahead(tenant, 1.0)
        if ahead * self._pace() > _CERTAIN * patience:
            raise self._refusal(tenant)
        if len(self._queue) >= self._waiting_limit:
            self._make_place(tenant)
        loop = asyncio.get_running_loop()
        place: Place = loop.create_future()
        self._queue.push(tenant, place, 1.0)
        timer = loop.call_later(patience, self._give_up, tenant, place)
        try:
            await place
        except asyncio.CancelledError:
            self._queue.remove(tenant, place)
            if place.done() and not place.cancelled() and place.exception() is None:
                # Given and cancelled in the same turn: the place goes to the next.
                self._running -= 1
                self._hand_on()
            raise
        finally:
            timer.cancel()

    def _pace(self) -> float:
        """Return how many seconds go by until one more place is free."""
        if len(self._ends) < _FEWEST:
            return self._latency / self.limit
        # Until now: a dependency that stands still becomes slower by that.
        return (self._clock.now() - self._ends[0]) / len(self._ends)

    def _make_place(self, tenant: TenantId) -> None:
        """Send the last of the longest line away, unless it is the caller's own line.

        Raises:
            OverloadError: It is, or nobody may wait at all.
        """
        last = self._queue.longest()
        if last is None or self._queue.waiting(tenant) + 1 >= self._queue.waiting(last[0]):
            raise self._refusal(tenant)
        self._give_up(*last)

    def _give_up(self, tenant: TenantId, place: Place) -> None:
        if self._queue.remove(tenant, place) and not place.done():
            place.set_exception(self._refusal(tenant))

    def _hand_on(self) -> None:
        """Give free places to those who wait."""
        while self._running < self.limit and (head := self._queue.first()) is not None:
            self._queue.pop()
            if not head[1].done():
                self._running += 1
                head[1].set_result(None)

    def _refusal(self, tenant: TenantId) -> OverloadError:
        message = (
            f"{self._running} calls run and {len(self._queue)} wait; the present limit is "
            f"{self.limit}, and no place would be free in time."
        )
        remedy = "Try again later, with fewer calls at once."
        return OverloadError(message, remedy=remedy, tenant_id=tenant)
