"""Token buckets: the generic cell rate algorithm (ITU-T I.371).

One number, the theoretical arrival time, stands for the whole bucket.
"""

from __future__ import annotations

from typing import Final, Protocol

from motadata.core.clock import SYSTEM_CLOCK, Clock
from motadata.core.resilience._checks import check_positive


class Bucket(Protocol):
    """Where a limiter's tokens come from: this process, or a server that instances share."""

    @property
    def rate(self) -> float:
        """Tokens a second."""
        ...

    @property
    def burst(self) -> float:
        """Most tokens at once."""
        ...

    @property
    def patience(self) -> float:
        """Seconds after which a call that must not wait has its answer."""
        ...

    @property
    def idle(self) -> bool:
        """Whether it may be forgotten: a new one would grant no more."""
        ...

    def take(self, cost: float) -> bool:
        """Take `cost` tokens if they are at hand."""
        ...

    def settle(self, difference: float) -> None:
        """Take `difference` tokens more, or give them back when negative."""
        ...

    def estimate(self, tokens: float) -> float | None:
        """Return the seconds until so many tokens more will have come, or None: ask the source."""
        ...

    async def refill(self, first: float, need: float) -> None:
        """Wait until `first` tokens may be at hand; who waits needs `need` in all."""
        ...


class TokenBucket:
    """`burst` tokens at once, refilled at `rate` tokens a second.

    Raises:
        ConfigurationError: The rate or the burst is no positive number.
    """

    __slots__ = ("_arrival", "_clock", "_interval", "burst", "rate")

    patience: Final = 0.0

    def __init__(self, rate: float, burst: float, *, clock: Clock = SYSTEM_CLOCK) -> None:
        check_positive(rate=rate, burst=burst)
        self.rate = rate
        self.burst = burst
        self._interval = 1.0 / rate
        self._clock = clock
        self._arrival = 0.0

    def take(self, cost: float = 1.0) -> bool:
        """Take `cost` tokens if they are there, else none."""
        now = self._clock.now()
        arrival = (max(self._arrival, now)) + cost * self._interval
        if arrival - self.burst * self._interval - now > _ROUNDING:
            return False
        self._arrival = arrival
        return True

    def wait(self, cost: float = 1.0) -> float:
        """Return the seconds until `cost` tokens are there; infinity when they never are."""
        if cost > self.burst:
            return float("inf")
        now = self._clock.now()
        arrival = max(self._arrival, now) + cost * self._interval
        wait = arrival - self.burst * self._interval - now
        return wait if wait > _ROUNDING else 0.0

    def settle(self, difference: float) -> None:
        """Correct an estimate: take `difference` more tokens, or give them back when negative."""
        now = self._clock.now()
        self._arrival = max(self._arrival, now) + difference * self._interval

    def estimate(self, tokens: float) -> float:
        """Return the seconds until `tokens`, be they more than the burst, have been granted."""
        now = self._clock.now()
        level = self.burst - max(0.0, self._arrival - now) * self.rate
        return max(0.0, (tokens - level) * self._interval)

    async def refill(self, first: float, need: float) -> None:  # noqa: ARG002 - the shared one asks
        """Wait until `first` tokens are there."""
        await self._clock.sleep(self.wait(first))

    @property
    def idle(self) -> bool:
        """Whether it is full, and so holds no memory of its past."""
        return self._arrival <= self._clock.now()


_ROUNDING: Final = 1e-9
"""Seconds by which floating point may miss an exact refill."""
