"""Retries that help a stumbling dependency and do not trample one that is down.

The wait before retry n is uniform between 0 and `base · 2ⁿ`, capped ("full jitter", Brooker, AWS
Architecture Blog, 2015). A `RetryBudget` bounds what all callers together add.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from motadata.core.clock import SYSTEM_CLOCK, Clock
from motadata.core.errors import ConfigurationError, RateLimitError, SDKError
from motadata.core.protocols.resilience import RetryBudget
from motadata.core.resilience._checks import check_positive
from motadata.core.resilience._deadline import remaining


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently to try.

    Attributes:
        attempts: Calls in all, the first included.
        base: Seconds; upper bound of the first wait, doubled for each one after it.
        cap: Seconds; no wait is longer, a provider's `retry_after` excepted.

    Raises:
        ConfigurationError: There is no attempt, or a wait is no positive number.
    """

    attempts: int = 3
    base: float = 0.1
    cap: float = 10.0

    def __post_init__(self) -> None:
        """Check the values."""
        check_positive(base=self.base, cap=self.cap)
        if self.attempts < 1:
            message = f"A retry policy of {self.attempts!r} attempts calls nothing."
            raise ConfigurationError(message, remedy="Allow at least one attempt.")

    def wait(self, retry: int, *, chance: float) -> float:
        """Return the seconds before retry number `retry` (from 0), for a `chance` in [0, 1)."""
        return chance * min(self.cap, self.base * 2.0 ** min(retry, 60))


DEFAULT_RETRY: Final = RetryPolicy()


async def retry(
    operation: Callable[[], Awaitable[T]],
    *,
    policy: RetryPolicy = DEFAULT_RETRY,
    budget: RetryBudget | None = None,
    tenant_id: str | None = None,
    clock: Clock = SYSTEM_CLOCK,
    chance: Callable[[], float] = random.random,
) -> T:
    """Await `operation`, again while it raises an error that says `retryable`.

    It must be safe to run twice. Gives up, with the last error, when the attempts or the budget are
    spent, or when the next wait would outlast the surrounding deadline.

    Args:
        operation: What to do.
        policy: How often and how patiently.
        budget: What the dependency's callers may add together.
        tenant_id: Whose budget it is; None means the tenant of the scope.
        clock: What waits.
        chance: Draws the part of the longest wait that is waited.

    Raises:
        SDKError: What the last attempt raised.
        TenantRequiredError: There is a budget, but no tenant.
    """
    if budget is not None:
        budget.deposit(tenant_id=tenant_id)
    number = 0
    while True:
        try:
            return await operation()
        except SDKError as error:
            number += 1
            if not error.retryable or number >= policy.attempts:
                raise
            pause = policy.wait(number - 1, chance=chance())
            if isinstance(error, RateLimitError) and error.retry_after is not None:
                pause = max(pause, error.retry_after)
            left = remaining()
            if left is not None and pause >= left:
                raise
            if budget is not None and not await budget.withdraw(tenant_id=tenant_id):
                raise
        await clock.sleep(pause)
