"""A token bucket that instances share: each leases slices of it and grants from those by itself.

The slices follow the use: one that is used up in less than half of its lease is doubled, one that
lapses mostly unused is halved. So a busy instance asks the server once in ten calls or less, and an
idle one holds nothing back from the others.

While the server is away each instance grants its share of the rate, starting with an empty bucket.
When the server is back the shared bucket starts empty too, so that neither change is a jump.
"""

from __future__ import annotations

import asyncio
import random
from typing import Final

from motadata.core.clock import Clock
from motadata.core.resilience._checks import check_positive
from motadata.core.resilience._redis import ServerAwayError, SharedServer
from motadata.core.resilience._scripts import LEASE
from motadata.core.resilience._token_bucket import TokenBucket


_LEASE: Final = 1.0
"""Seconds for which tokens in hand are good."""

_LONGEST_PAUSE: Final = 0.25
"""Seconds between two questions while there is too little for all that wait."""

_SLICE: Final = 20.0
"""Tokens worth a question while there is too little; and how many are held at first, halved."""

_LARGEST: Final = 256.0


class LeasedBucket:
    """One instance's part of a shared bucket; see `Bucket`."""

    __slots__ = (
        "_asked",
        "_asking",
        "_clock",
        "_held",
        "_key",
        "_level",
        "_local",
        "_next",
        "_peers",
        "_server",
        "_slice",
        "_waiting",
        "burst",
        "rate",
    )

    patience: Final = 0.05

    def __init__(
        self, rate: float, burst: float, *, key: str, server: SharedServer, clock: Clock
    ) -> None:
        check_positive(rate=rate, burst=burst)
        self.rate = rate
        self.burst = burst
        self._key = key
        self._server = server
        self._clock = clock
        self._held = 0.0
        self._slice = min(_SLICE / 2, burst / 5)
        self._asked = self._next = float("-inf")  # when the last answer came, when to ask again
        self._level = 0.0
        self._waiting = 1  # instances at whom calls wait, this one included
        self._peers = server.expected_instances
        self._local: TokenBucket | None = None
        self._asking: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """See `Bucket.idle`; what it has leased lapses."""
        return self._held >= 0 and (self._local is None or self._local.idle)

    def take(self, cost: float) -> bool:
        """See `Bucket.take`."""
        local = self._local
        if local is not None:
            self._look_for_the_server()
            if cost <= local.burst:
                return local.take(cost)
            # More than its share ever holds: what is missing is a debt.
            if not local.take(local.burst):
                return False
            local.settle(cost - local.burst)
            return True
        if self._held < cost or self._clock.now() > self._asked + _LEASE:
            return False
        self._held -= cost
        return True

    def settle(self, difference: float) -> None:
        """See `Bucket.settle`; a debt is told to the server with the next question."""
        if self._local is not None:
            self._local.settle(difference)
            return
        self._held -= difference
        if self._held < 0 and self._clock.now() > self._asked + _LONGEST_PAUSE:
            self._ask_in_background()

    def estimate(self, tokens: float) -> float | None:
        """See `Bucket.estimate`."""
        if self._local is not None:
            return self._local.estimate(tokens)
        now = self._clock.now()
        short = tokens - (self._held if now <= self._asked + _LEASE else min(0.0, self._held))
        if short <= 0:
            return 0.0
        if now >= self._next:
            return None
        share = self.rate / self._waiting
        there = self._level + (now - self._asked) * share
        return max(self._next - now, (short - there) / share)

    async def refill(self, first: float, need: float) -> None:
        """See `Bucket.refill`."""
        local = self._local
        if local is not None:
            self._look_for_the_server()
            wait = local.wait(min(first, local.burst))
            await self._clock.sleep(min(wait, _LONGEST_PAUSE))
            return
        pause = self._next - self._clock.now()
        if pause > 0:
            await self._clock.sleep(pause)
        if self._asking is not None:
            await asyncio.wait([self._asking])
        else:
            await self._ask(first, need)

    def _look_for_the_server(self) -> None:
        if self._server.worth_asking:
            self._ask_in_background()

    def _ask_in_background(self) -> None:
        if self._asking is None:
            self._asking = self._server.spawn(self._ask_for_none(), name="motadata-limit-report")

    async def _ask_for_none(self) -> None:
        try:
            await self._ask(0.0, 0.0)
        finally:
            self._asking = None

    async def _ask(self, first: float, need: float) -> None:
        """Give back what is in hand and lease anew; without the server, go on alone."""
        began = self._clock.now()
        back, self._held = self._held, 0.0
        extra = self._plan(back, began)
        try:
            grant, level, waiting, peers = await self._server.run(
                LEASE,
                self._key,
                *(self.rate / 1000, self.burst, self._server.instance, back, first, need),
                *(extra, _LEASE * 1000, self._start(began)),
            )
        except ServerAwayError:
            self._go_alone(back)
            return
        self._local = None
        self._held += grant
        self._level = level
        self._waiting = max(1, int(waiting))
        self._peers = max(1, int(peers))
        # A lease begins before its question was sent: it ends here before it does there.
        self._asked = began
        self._next = began + self._pause(first, need + extra - grant)

    def _plan(self, back: float, now: float) -> float:
        """Return how many tokens to ask for beyond those that calls wait for."""
        most = min(_LARGEST, 0.8 * self.burst / self._peers)
        if now - self._asked < _LEASE / 2 and back < self._slice / 4:
            self._slice = max(1.0, self._slice * 2)
        elif back > self._slice / 2:
            self._slice /= 2
        self._slice = min(self._slice, most)
        return self._slice if self._slice >= 1 else 0.0

    def _pause(self, first: float, missing: float) -> float:
        """Return the seconds after which there is enough to be worth a question."""
        if missing <= 0:
            return 0.0
        worth = min(missing, _SLICE, max(1.0, self.burst / 2))
        # Who does not wait now will soon, as likely as not.
        share = self.rate / max(self._waiting, (self._peers + 1) // 2)
        pause = max(worth, first - self._level) / share
        # Not in step with the others.
        return min(pause, _LONGEST_PAUSE) * random.uniform(0.95, 1.05)  # noqa: S311 - no secret

    def _start(self, now: float) -> str:
        """Return what the shared bucket holds if it is new."""
        if self._local is not None:
            return "empty_all"
        if now - self._server.returned_at < self.burst / self.rate:
            return "empty"
        return "full"

    def _go_alone(self, back: float) -> None:
        if self._local is not None:
            return
        share = 1 / max(self._peers, self._server.expected_instances)
        self._local = TokenBucket(self.rate * share, self.burst * share, clock=self._clock)
        in_hand = back if self._clock.now() <= self._asked + _LEASE else min(0.0, back)
        self._local.settle(self._local.burst - in_hand - self._held)
        self._held = 0.0
