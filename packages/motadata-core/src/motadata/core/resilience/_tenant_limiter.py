"""A rate limit a tenant: a bucket and a line for each, as many as are in use."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Self

from motadata.core.clock import SYSTEM_CLOCK, Clock
from motadata.core.errors import OverloadError
from motadata.core.resilience._checks import check_positive
from motadata.core.resilience._limiter import FairLimiter
from motadata.core.resilience._token_bucket import Bucket
from motadata.core.tenancy import TenantId, resolve_tenant


class TenantLimiter:
    """One token bucket a tenant; a call waits in its tenant's line, first come first served.

    Args:
        rate: Tokens a second of each tenant.
        burst: Tokens at once of each tenant.
        max_tenants: How many tenants' buckets are kept; full ones are forgotten first.
        max_waiting: How many calls of one tenant may wait.
        clock: What the time is.

    Raises:
        ConfigurationError: One of them is no positive number.
    """

    def __init__(
        self,
        rate: float,
        burst: float,
        *,
        max_tenants: int = 100_000,
        max_waiting: int = 1_000,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        check_positive(rate=rate, burst=burst, max_tenants=max_tenants, max_waiting=max_waiting)
        self._make: Callable[[TenantId], FairLimiter] = lambda _: FairLimiter(
            rate, burst, max_waiting=max_waiting, clock=clock
        )
        self._max_tenants = max_tenants
        self._limiters: OrderedDict[TenantId, FairLimiter] = OrderedDict()

    @classmethod
    def over(
        cls, make: Callable[[TenantId], Bucket], *, max_tenants: int, max_waiting: int
    ) -> Self:
        """Make a limiter whose tenants' tokens come from the buckets that `make` returns."""
        made = cls(1, 1, max_tenants=max_tenants, max_waiting=max_waiting)
        made._make = lambda tenant: FairLimiter.over(make(tenant), max_waiting=max_waiting)
        return made

    def acquire(
        self, *, cost: float = 1.0, timeout: float | None = None, tenant_id: str | None = None
    ) -> Coroutine[object, None, None]:
        """See `RateLimiter.acquire`."""
        tenant = resolve_tenant(tenant_id)
        return self._limiter(tenant).acquire(cost=cost, timeout=timeout, tenant_id=tenant)

    def settle(self, difference: float, *, tenant_id: str | None = None) -> None:
        """See `RateLimiter.settle`."""
        tenant = resolve_tenant(tenant_id)
        self._limiter(tenant).settle(difference, tenant_id=tenant)

    def _limiter(self, tenant: TenantId) -> FairLimiter:
        limiter = self._limiters.get(tenant)
        if limiter is None:
            self._make_room(tenant)
            limiter = self._limiters[tenant] = self._make(tenant)
        else:
            self._limiters.move_to_end(tenant)
        return limiter

    def _make_room(self, newcomer: TenantId) -> None:
        """Forget long unused tenants whose bucket is full again, or else the least recently used.

        Raises:
            OverloadError: Somebody waits for each of those looked at.
        """
        if len(self._limiters) < self._max_tenants:
            return
        oldest = list(self._limiters.items())[: 1 + self._max_tenants // 100]
        going = [tenant for tenant, limiter in oldest if limiter.idle]
        going = going or [tenant for tenant, limiter in oldest if not limiter.waiting][:1]
        if not going:
            message = f"Calls of {len(self._limiters)} tenants wait for their rate limits."
            raise OverloadError(message, remedy="Raise max_tenants.", tenant_id=newcomer)
        for tenant in going:
            del self._limiters[tenant]

    async def __aenter__(self) -> Self:
        """Nothing to open: a tenant's line is made on its first call."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close every line; calls that still wait are cancelled."""
        for limiter in self._limiters.values():
            await limiter.__aexit__(kind, error, traceback)
