"""A circuit breaker: leave a dependency alone while it fails, then ask carefully if it is back.

It counts the outcomes of a rolling window. When enough calls failed it opens: calls are refused at
once. After a pause it is half open: a few probes go through, and their outcome closes it or opens
it again for twice as long (Nygard, "Release It!", chapter 5).
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Final, Literal

from motadata.core.clock import SYSTEM_CLOCK, Clock
from motadata.core.errors import ConfigurationError
from motadata.core.resilience._checks import check_positive


State = Literal["closed", "open", "half_open"]

WINDOW_SLOTS: Final = 10
"""Parts of the window; outcomes leave it a tenth at a time."""

MOST_DOUBLINGS: Final = 30


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When to open and how to come back.

    Attributes:
        window: Seconds over which outcomes count.
        failure_ratio: Share of failures, above 0 and up to 1, at which it opens.
        minimum_calls: Fewer calls in the window never open it.
        pause: Seconds that it stays open the first time; doubled each time a probe fails.
        longest_pause: Seconds; the doubling stops there.
        probes: Calls that go through at once while half open.

    Raises:
        ConfigurationError: A value is not positive, or the ratio is above 1.
    """

    window: float = 10.0
    failure_ratio: float = 0.5
    minimum_calls: int = 10
    pause: float = 5.0
    longest_pause: float = 60.0
    probes: int = 1

    def __post_init__(self) -> None:
        """Check the values."""
        check_positive(window=self.window, failure_ratio=self.failure_ratio, pause=self.pause)
        check_positive(longest_pause=self.longest_pause, probes=self.probes)
        check_positive(minimum_calls=self.minimum_calls)
        if self.failure_ratio > 1:
            message = f"The failure ratio is {self.failure_ratio!r}."
            raise ConfigurationError(message, remedy="Give a share above 0 and up to 1.")

    def pause_after(self, openings: int) -> float:
        """Return the seconds of the pause after so many openings in a row before this one."""
        return min(self.longest_pause, self.pause * 2.0 ** min(openings, MOST_DOUBLINGS))


class CircuitBreaker:
    """The state of one dependency as one tenant sees it."""

    __slots__ = (
        "_clock",
        "_counts",
        "_epoch",
        "_openings",
        "_policy",
        "_probing",
        "_slot",
        "_until",
    )

    def __init__(self, policy: BreakerPolicy, clock: Clock = SYSTEM_CLOCK) -> None:
        self._policy = policy
        self._clock = clock
        # Calls by slot, then failures by slot; none while nothing is counted.
        self._counts: array[int] | None = None
        self._slot = 0
        self._openings = 0
        self._until = 0.0
        self._probing = 0
        self._epoch = 0

    @property
    def state(self) -> State:
        """Whether calls go through, are refused, or are let through as probes."""
        if not self._openings:
            return "closed"
        return "open" if self._clock.now() < self._until else "half_open"

    @property
    def retry_after(self) -> float:
        """Seconds until it lets a probe through; 0.0 when it does already."""
        return max(0.0, self._until - self._clock.now())

    def admit(self) -> int | None:
        """Take leave to call; None when refused.

        What it returns is for the one `record` or `abandon` that must follow: calls that were let
        through before the breaker last changed say nothing about how it is now.
        """
        if self._openings:
            if self._probing >= self._policy.probes or self._clock.now() < self._until:
                return None
            self._probing += 1
        return self._epoch

    def record(self, admission: int, *, failed: bool) -> None:
        """Count the outcome of an admitted call."""
        if admission != self._epoch:
            return
        if self._openings:
            self._open() if failed else self._close()
            return
        counts = self._roll()
        at = self._slot % WINDOW_SLOTS
        counts[at] += 1
        if not failed:
            return
        counts[WINDOW_SLOTS + at] += 1
        calls, failures = sum(counts[:WINDOW_SLOTS]), sum(counts[WINDOW_SLOTS:])
        if calls >= self._policy.minimum_calls and failures >= self._policy.failure_ratio * calls:
            self._open()

    def abandon(self, admission: int) -> None:
        """Give an admission back without an outcome: the caller went away."""
        if admission == self._epoch and self._openings:
            self._probing -= 1

    def _open(self) -> None:
        self._until = self._clock.now() + self._policy.pause_after(self._openings)
        self._openings = min(self._openings + 1, MOST_DOUBLINGS)
        self._change()

    def _close(self) -> None:
        self._openings = 0
        self._change()

    def _change(self) -> None:
        self._epoch += 1
        self._probing = 0
        self._counts = None

    def _roll(self) -> array[int]:
        """Empty the slots that have left the window since the last call."""
        current = int(self._clock.now() / self._policy.window * WINDOW_SLOTS)
        counts = self._counts
        if counts is None or current - self._slot >= WINDOW_SLOTS:
            counts = self._counts = array("L", bytes(2 * WINDOW_SLOTS * array("L").itemsize))
        else:
            for number in range(self._slot + 1, current + 1):
                counts[number % WINDOW_SLOTS] = counts[WINDOW_SLOTS + number % WINDOW_SLOTS] = 0
        self._slot = current
        return counts
