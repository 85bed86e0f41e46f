"""Circuit breakers by tenant and dependency: one tenant's broken key opens nobody else's."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self

from motadata.core.clock import SYSTEM_CLOCK, Clock
from motadata.core.errors import CircuitOpenError, SDKError
from motadata.core.resilience._breaker import BreakerPolicy, CircuitBreaker
from motadata.core.resilience._checks import check_positive
from motadata.core.tenancy import TenantId, resolve_tenant


class CircuitBreakers:
    """A bounded set of breakers; the one that was used least recently makes room.

    async with breakers.guard("openai/gpt-4o-mini"):
        await call_the_provider()

    Args:
        policy: When to open and how to come back.
        max_size: How many breakers are kept.
        counts_as_failure: Whether an error speaks against the dependency. As it is, an error of the
            SDK does when it is retryable, and any other does.
        clock: What the time is.

    Raises:
        ConfigurationError: The size is no positive number.
    """

    def __init__(
        self,
        policy: BreakerPolicy | None = None,
        *,
        max_size: int = 100_000,
        counts_as_failure: Callable[[BaseException], bool] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        check_positive(max_size=max_size)
        self._policy = policy or BreakerPolicy()
        self._max_size = max_size
        self._is_failure = counts_as_failure or says_retryable
        self._clock = clock
        self._breakers: OrderedDict[tuple[TenantId, str], CircuitBreaker] = OrderedDict()

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

    def guard(
        self, dependency: str, *, tenant_id: str | None = None
    ) -> AbstractAsyncContextManager[None]:
        """See `Breakers.guard`."""
        return _Guard(self.breaker(dependency, tenant_id=tenant_id), dependency, self._is_failure)

    async def __aenter__(self) -> Self:
        """Nothing to open."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing to close."""


class _Guard:
    """One call through one breaker."""

    __slots__ = ("_admission", "_breaker", "_dependency", "_is_failure")

    def __init__(
        self,
        breaker: CircuitBreaker,
        dependency: str,
        is_failure: Callable[[BaseException], bool],
    ) -> None:
        self._breaker = breaker
        self._dependency = dependency
        self._is_failure = is_failure
        self._admission = 0

    async def __aenter__(self) -> None:
        """Let the call through or refuse it."""
        admission = self._breaker.admit()
        if admission is None:
            raise refusal(self._dependency, self._breaker.retry_after)
        self._admission = admission

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Learn from the outcome."""
        if error is None:
            self._breaker.record(self._admission, failed=False)
        elif isinstance(error, Exception):
            self._breaker.record(self._admission, failed=self._is_failure(error))
        else:
            self._breaker.abandon(self._admission)


def says_retryable(error: BaseException) -> bool:
    """Tell whether an error speaks against the dependency, rather than against the request."""
    return error.retryable if isinstance(error, SDKError) else True


def refusal(dependency: str, retry_after: float) -> CircuitOpenError:
    """Return what is raised for a dependency that is left alone."""
    message = f"{dependency!r} failed too often and is left alone."
    remedy = f"Try again in {retry_after:.1f} s, or use another dependency."
    return CircuitOpenError(message, remedy=remedy)
