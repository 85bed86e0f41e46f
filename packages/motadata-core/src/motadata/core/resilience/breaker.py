"""Circuit breakers: leave a dependency alone while it fails, then ask carefully if it is back.

A breaker counts the outcomes of a rolling window. When enough calls failed it opens: calls are
refused at once. After a pause it is half open: a few probes go through, and their outcome closes it
or opens it again for twice as long (Nygard, "Release It!", chapter 5).

Breakers are kept by tenant and dependency, so that one tenant's broken key opens nobody else's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal

from motadata.core.clock import SYSTEM_CLOCK, Clock
from motadata.core.errors import CircuitOpenError, SDKError
from motadata.core.tenancy import resolve_tenant


State = Literal["closed", "open", "half_open"]
_SLOTS: Final = 10


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When to open and how to come back.

    Attributes:
        window: Seconds over which outcomes count.
        failure_ratio: Share of failures, between 0 and 1, at which it opens.
        minimum_calls: Fewer calls in the window never open it.
        pause: Seconds that it stays open the first time; doubled each time a probe fails.
        longest_pause: Seconds; the doubling stops there.
        probes: Calls that go through at once while half open.
    """

    window: float = 10.0
    failure_ratio: float = 0.5
    minimum_calls: int = 10
    pause: float = 5.0
    longest_pause: float = 60.0
    probes: int = 1


class CircuitBreaker:
    """The state of one dependency as one tenant sees it."""

    __slots__ = ("_clock", "_counts", "_openings", "_policy", "_probing", "_slot", "_until")

    def __init__(self, policy: BreakerPolicy, clock: Clock = SYSTEM_CLOCK) -> None:
        self._policy = policy
        self._clock = clock
        self._counts: list[list[int]] = [[0, 0] for _ in range(_SLOTS)]  # calls, failures
        self._slot = self._current_slot()
        self._openings = 0
        self._until = 0.0
        self._probing = 0

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

    def admit(self) -> bool:
        """Take leave to call; each True must be followed by one `record` or `abandon`."""
        state = self.state
        if state == "half_open" and self._probing < self._policy.probes:
            self._probing += 1
            return True
        return state == "closed"

    def record(self, *, failed: bool) -> None:
        """Count the outcome of an admitted call."""
        if self._openings:
            self._probing = max(0, self._probing - 1)
            if self.state == "half_open":
                self._open() if failed else self._close()
            return
        self._roll()
        counts = self._counts[self._slot % _SLOTS]
        counts[0] += 1
        counts[1] += failed
        calls = sum(slot[0] for slot in self._counts)
        failures = sum(slot[1] for slot in self._counts)
        if calls >= self._policy.minimum_calls and failures >= self._policy.failure_ratio * calls:
            self._open()

    def abandon(self) -> None:
        """Give an admission back without an outcome: the caller went away."""
        if self._openings:
            self._probing = max(0, self._probing - 1)

    def _open(self) -> None:
        pause = self._policy.pause * 2.0**self._openings
        self._until = self._clock.now() + min(pause, self._policy.longest_pause)
        self._openings = min(self._openings + 1, 30)
        self._probing = 0

    def _close(self) -> None:
        self._openings = 0
        self._probing = 0
        self._counts = [[0, 0] for _ in range(_SLOTS)]

    def _current_slot(self) -> int:
        return int(self._clock.now() / self._policy.window * _SLOTS)

    def _roll(self) -> None:
        """Empty the slots that have left the window since the last call."""
        current = self._current_slot()
        for number in range(self._slot + 1, min(current, self._slot + _SLOTS) + 1):
            self._counts[number % _SLOTS] = [0, 0]
        self._slot = current


class CircuitBreakers:
    """A bounded set of breakers by tenant and dependency; the least recently used makes room.

    async with breakers.guard("openai/gpt-4o-mini"):
        await call_the_provider()
    """

    def __init__(
        self,
        policy: BreakerPolicy | None = None,
        *,
        max_size: int = 100_000,
        counts_as_failure: Callable[[BaseException], bool] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._policy = policy or BreakerPolicy()
        self._max_size = max_size
        self._is_failure = counts_as_failure or _says_retryable
        self._clock = clock
        self._breakers: OrderedDict[tuple[str, str], CircuitBreaker] = OrderedDict()

    def breaker(self, dependency: str, *, tenant_id: str | None = None) -> CircuitBreaker:
        """Return the tenant's breaker for a dependency."""
        key = (resolve_tenant(tenant_id), dependency)
        found = self._breakers.get(key)
        if found is None:
            found = self._breakers[key] = CircuitBreaker(self._policy, self._clock)
            if len(self._breakers) > self._max_size:
                self._breakers.popitem(last=False)
        else:
            self._breakers.move_to_end(key)
        return found

    @asynccontextmanager
    async def guard(self, dependency: str, *, tenant_id: str | None = None) -> AsyncIterator[None]:
        """Run the block as a call of `dependency`, and learn from how it ends.

        Raises:
            CircuitOpenError: The breaker is open; the block did not run.
        """
        breaker = self.breaker(dependency, tenant_id=tenant_id)
        if not breaker.admit():
            message = f"{dependency!r} failed too often and is left alone."
            remedy = f"Try again in {breaker.retry_after:.1f} s, or use another dependency."
            raise CircuitOpenError(message, remedy=remedy, tenant_id=tenant_id)
        try:
            yield
        except Exception as error:
            breaker.record(failed=self._is_failure(error))
            raise
        except BaseException:
            breaker.abandon()
            raise
        breaker.record(failed=False)


def _says_retryable(error: BaseException) -> bool:
    """Tell whether an error speaks against the dependency, rather than against the request."""
    return error.retryable if isinstance(error, SDKError) else True
