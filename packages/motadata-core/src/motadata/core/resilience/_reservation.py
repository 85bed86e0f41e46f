"""Estimates that are settled: take what a call may cost, then correct it to what it did cost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from motadata.core.protocols.resilience import RateLimiter
from motadata.core.resilience._checks import check_finite
from motadata.core.tenancy import TenantId, resolve_tenant


class Reservation:
    """Tokens taken on an estimate; made by `reserve`."""

    __slots__ = ("_limiter", "_taken", "_tenant")

    def __init__(self, limiter: RateLimiter, taken: float, tenant: TenantId) -> None:
        self._limiter = limiter
        self._taken = taken
        self._tenant = tenant

    @property
    def taken(self) -> float:
        """How many tokens the call has taken so far."""
        return self._taken

    def settle(self, actual: float) -> None:
        """Take or give back what lies between the tokens taken so far and `actual`.

        May be called again, with what is known later.

        Raises:
            ConfigurationError: It is no finite number.
        """
        check_finite(actual=actual)
        difference, self._taken = actual - self._taken, actual
        self._limiter.settle(difference, tenant_id=self._tenant)


@asynccontextmanager
async def reserve(
    limiter: RateLimiter,
    estimate: float,
    *,
    timeout: float | None = None,
    tenant_id: str | None = None,
) -> AsyncIterator[Reservation]:
    """Take `estimate` tokens for the block, which says what it really took.

        async with reserve(limiter, estimated_tokens) as reservation:
            completion = await call()
            reservation.settle(completion.usage.total_tokens)

    A block that settles nothing has taken its estimate, also when it fails: a provider charges for
    an answer that got lost. At any moment, what has been used exceeds the allowance by no more than
    the errors in the estimates of the calls that are under way.

    Raises:
        RateLimitError: The tokens would come too late, or never.
    """
    tenant = resolve_tenant(tenant_id)
    await limiter.acquire(cost=estimate, timeout=timeout, tenant_id=tenant)
    yield Reservation(limiter, estimate, tenant)
