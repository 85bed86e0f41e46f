"""A budget for retries: what all callers together may add to the load on a dependency.

Without one, retries multiply the load at the very moment when the dependency can carry least
("Site Reliability Engineering", Beyer and others, 2016, chapter 21).
"""

from __future__ import annotations

from collections import OrderedDict
from types import TracebackType
from typing import Final, Self

from motadata.core.resilience._checks import check_positive
from motadata.core.tenancy import TenantId, resolve_tenant


ONE_RETRY: Final = 1.0 - 1e-9
"""What one retry takes; ten deposits of a tenth may be a rounding short of one."""


class Account:
    """Tokens, and how many of them were advanced and are still to be earned."""

    __slots__ = ("advance", "reserve", "tokens")

    def __init__(self, reserve: float) -> None:
        self.reserve = self.tokens = self.advance = reserve

    def deposit(self, earned: float) -> None:
        """Pay what was advanced back first."""
        repaid = min(self.advance, earned)
        self.advance -= repaid
        self.tokens = min(self.reserve, self.tokens + earned - repaid)

    def spend(self) -> None:
        """Take one retry out."""
        self.tokens = max(0.0, self.tokens - ONE_RETRY)


class LocalRetryBudget:
    """Lets the callers of one process add at most `ratio` retries to their calls, and a reserve.

    Each first call deposits `ratio` tokens, for its tenant and for all; each retry takes one of
    both. So a tenant whose calls all fail spends no other tenant's retries, and a dependency that
    fails every call sees 1.1 times the load, not `attempts` times it. Keep one budget for each
    dependency.

    The reserve is advanced, so that the first failure can be retried, and earned before anything
    else is: of `n` calls of a tenant at most `max(reserve, ratio * n)` are retried.

    Args:
        ratio: Retries a call.
        reserve: Tokens that a tenant is advanced, and may have at most.
        total_reserve: Tokens that all together are advanced, and may have at most.
        max_tenants: How many tenants' tokens are kept; who was not seen longest is forgotten.

    Raises:
        ConfigurationError: One of them is no positive number.
    """

    __slots__ = ("_max_tenants", "_ratio", "_reserve", "_tenants", "_total")

    def __init__(
        self,
        *,
        ratio: float = 0.1,
        reserve: float = 10.0,
        total_reserve: float = 100.0,
        max_tenants: int = 100_000,
    ) -> None:
        check_positive(ratio=ratio, reserve=reserve, total_reserve=total_reserve)
        check_positive(max_tenants=max_tenants)
        self._ratio = ratio
        self._reserve = reserve
        self._total = Account(total_reserve)
        self._max_tenants = max_tenants
        self._tenants: OrderedDict[TenantId, Account] = OrderedDict()

    def deposit(self, *, tenant_id: str | None = None) -> None:
        """See `RetryBudget.deposit`."""
        tenant = resolve_tenant(tenant_id)
        self._account(tenant).deposit(self._ratio)
        self._total.deposit(self._ratio)

    async def withdraw(self, *, tenant_id: str | None = None) -> bool:
        """See `RetryBudget.withdraw`."""
        return self.take(resolve_tenant(tenant_id))

    def take(self, tenant: TenantId) -> bool:
        """Take one retry of the tenant's out, without waiting."""
        if self._account(tenant).tokens < ONE_RETRY or not self.total_allows:
            return False
        self.spend(tenant)
        return True

    @property
    def total_allows(self) -> bool:
        """Whether all tenants together have a retry left."""
        return self._total.tokens >= ONE_RETRY

    def spend(self, tenant: TenantId) -> None:
        """Count a retry of the tenant's that takes place."""
        self._account(tenant).spend()
        self._total.spend()

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

    def _account(self, tenant: TenantId) -> Account:
        account = self._tenants.get(tenant)
        if account is None:
            account = self._tenants[tenant] = Account(self._reserve)
            if len(self._tenants) > self._max_tenants:
                self._tenants.popitem(last=False)
        else:
            self._tenants.move_to_end(tenant)
        return account
