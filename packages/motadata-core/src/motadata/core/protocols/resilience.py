"""The contracts of the guards that instances may share: rate limits, breakers, retry budgets.

Each has an implementation in one process and one through Redis; callers cannot tell them apart.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Protocol, Self


class Guard(Protocol):
    """An async context manager: leaving it ends what it started and releases connections.

    What is shared needs no server to begin with: each instance guards by itself until it answers.
    """

    async def __aenter__(self) -> Self:
        """Begin; connects to nothing yet."""
        ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End; calls that still wait are cancelled."""
        ...


class RateLimiter(Guard, Protocol):
    """Grants permission at a bounded rate: over any span, at most its burst and its refill.

    Every method takes `tenant_id`; None means the tenant of the scope.

    Raises:
        TenantRequiredError: No tenant is given and none is in scope.
    """

    async def acquire(
        self, *, cost: float = 1.0, timeout: float | None = None, tenant_id: str | None = None
    ) -> None:
        """Return when the tenant may go on; a call that is cancelled takes nothing.

        Args:
            cost: How many tokens it takes; a positive, finite number.
            timeout: Seconds to wait at most, the surrounding deadline if sooner; 0 never waits.
            tenant_id: None means the tenant of the scope.

        Raises:
            RateLimitError: It would take longer, or can never be; said at once, not after the wait.
            ConfigurationError: The cost is no positive number.
        """
        ...

    def settle(self, difference: float, *, tenant_id: str | None = None) -> None:
        """Correct an estimate: take `difference` more tokens, or give them back when negative.

        Never waits. What was taken beyond the allowance is a debt that later calls wait for.

        Raises:
            ConfigurationError: The difference is not finite.
        """
        ...


class Breakers(Guard, Protocol):
    """Circuit breakers by tenant and dependency."""

    def guard(
        self, dependency: str, *, tenant_id: str | None = None
    ) -> AbstractAsyncContextManager[None]:
        """Run the block as a call of `dependency`, and learn from how it ends.

        An error that is not retryable speaks against the request, not against the dependency; a
        block that is cancelled says nothing.

        Raises:
            TenantRequiredError: No tenant is given and none is in scope.
            CircuitOpenError: The breaker is open; the block did not run.
        """
        ...


class RetryBudget(Guard, Protocol):
    """Bounds the retries of all calls together to a part of the calls, and a small reserve."""

    def deposit(self, *, tenant_id: str | None = None) -> None:
        """Count a first call of the tenant."""
        ...

    async def withdraw(self, *, tenant_id: str | None = None) -> bool:
        """Take one retry out; False when the tenant's budget, or everybody's, is spent."""
        ...
