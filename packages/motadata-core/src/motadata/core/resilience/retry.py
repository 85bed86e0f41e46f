"""Retries that help a stumbling dependency and do not trample one that is down.

The wait before retry n is uniform between 0 and `base · 2ⁿ`, capped ("full jitter", Brooker, AWS
Architecture Blog, 2015). A `RetryBudget` bounds what all callers together add: without one, retries
multiply the load on a dependency at the very moment when it can carry least.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from motadata.core.clock import SYSTEM_CLOCK, Clock
from motadata.core.errors import RateLimitError, SDKError
from motadata.core.resilience.deadline import remaining


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently to try.

    Attributes:
        attempts: Calls in all, the first included.
        base: Seconds; upper bound of the first wait, doubled for each one after it.
        cap: Seconds; no wait is longer, a provider's `retry_after` excepted.
    """

    attempts: int = 3
    base: float = 0.1
    cap: float = 10.0

    def wait(self, retry: int, *, chance: float) -> float:
        """Return the seconds before retry number `retry` (from 0), for a `chance` in [0, 1)."""
        return chance * min(self.cap, self.base * 2.0 ** min(retry, 60))


class RetryBudget:
    """Lets callers that share it add at most `ratio` retries to their calls, plus a small reserve.

    Each first call deposits `ratio` tokens, each retry takes one; at most `reserve` are kept. With
    ratio 0.1 a dependency that fails every call sees 1.1 times the load, not `attempts` times it.
    """

    __slots__ = ("_ratio", "_reserve", "_tokens")

    def __init__(self, *, ratio: float = 0.1, reserve: float = 10.0) -> None:
        self._ratio = ratio
        self._reserve = reserve
        self._tokens = reserve

    def deposit(self) -> None:
        """Count a first call."""
        self._tokens = min(self._reserve, self._tokens + self._ratio)

    def withdraw(self) -> bool:
        """Take one retry out; False when the budget is spent."""
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


DEFAULT_RETRY: Final = RetryPolicy()


async def retry(
    operation: Callable[[], Awaitable[T]],
    *,
    policy: RetryPolicy = DEFAULT_RETRY,
    budget: RetryBudget | None = None,
    clock: Clock = SYSTEM_CLOCK,
    chance: Callable[[], float] = random.random,
) -> T:
    """Await `operation`, again while it raises an error that says `retryable`.

    It must be safe to run twice. Gives up, with the last error, when the attempts or the budget are
    spent, or when the next wait would outlast the surrounding deadline.

    Raises:
        SDKError: What the last attempt raised.
    """
    if budget is not None:
        budget.deposit()
    for number in range(policy.attempts):
        try:
            return await operation()
        except SDKError as error:
            if not error.retryable or number + 1 >= policy.attempts:
                raise
            pause = policy.wait(number, chance=chance())
            if isinstance(error, RateLimitError) and error.retry_after is not None:
                pause = max(pause, error.retry_after)
            left = remaining()
            if left is not None and pause >= left:
                raise
            if budget is not None and not budget.withdraw():
                raise
        await clock.sleep(pause)
    message = f"attempts must be at least 1, not {policy.attempts}"
    raise ValueError(message)
