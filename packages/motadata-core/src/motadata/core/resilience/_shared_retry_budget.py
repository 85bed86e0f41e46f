"""A retry budget that instances share, tenant by tenant.

Deposits are gathered here and go along with the next retry, so a first call costs the server
nothing. After a refusal the server is not asked again before there is something new to tell. While
it is away the instance's own budget decides. What all tenants together may add is bounded by each
instance for itself.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from motadata.core.clock import SYSTEM_CLOCK, Clock
from motadata.core.resilience._key import budget_key
from motadata.core.resilience._redis import ServerAwayError, SharedServer
from motadata.core.resilience._retry_budget import ONE_RETRY, LocalRetryBudget
from motadata.core.resilience._scripts import WITHDRAW
from motadata.core.tenancy import Identifier, TenantId, resolve_tenant


_LIFE: Final = 3_600.0
"""Seconds after which a budget that nobody used is full again."""

_QUIET: Final = 0.25
"""Seconds for which a refusal holds, unless the tenant has earned a retry here."""


@dataclass(slots=True, eq=False)
class _Account:
    """What the server was not told of a tenant yet, and until when it is known to have nothing."""

    earned: float = 0.0
    refused_until: float = float("-inf")


class SharedRetryBudget:
    """A budget for the retries of all instances; made by `create_retry_budget`."""

    def __init__(
        self,
        name: str,
        *,
        ratio: float,
        reserve: float,
        total_reserve: float,
        max_tenants: int,
        server: SharedServer,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._name = Identifier(name)
        self._ratio = ratio
        self._reserve = reserve
        self._max_tenants = max_tenants
        self._server = server
        self._clock = clock
        self._own = LocalRetryBudget(
            ratio=ratio, reserve=reserve, total_reserve=total_reserve, max_tenants=max_tenants
        )
        self._accounts: OrderedDict[TenantId, _Account] = OrderedDict()

    def deposit(self, *, tenant_id: str | None = None) -> None:
        """See `RetryBudget.deposit`."""
        tenant = resolve_tenant(tenant_id)
        self._own.deposit(tenant_id=tenant)
        account = self._account(tenant)
        # No more than fills an empty budget whose reserve is still to be earned.
        account.earned = min(2 * self._reserve, account.earned + self._ratio)

    async def withdraw(self, *, tenant_id: str | None = None) -> bool:
        """See `RetryBudget.withdraw`."""
        tenant = resolve_tenant(tenant_id)
        account = self._account(tenant)
        if account.earned < ONE_RETRY and self._clock.now() < account.refused_until:
            return False
        if not self._own.total_allows:
            return False
        earned, account.earned = account.earned, 0.0
        try:
            granted, _ = await self._server.run(
                WITHDRAW, budget_key(tenant, self._name), earned, self._reserve, ONE_RETRY, _LIFE_MS
            )
        except ServerAwayError:
            return self._own.take(tenant)
        if granted:
            self._own.spend(tenant)
            return True
        account.refused_until = self._clock.now() + _QUIET
        return False

    async def __aenter__(self) -> Self:
        """Nothing to open: the server is reached at the first retry."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the server."""
        await self._server.close()

    def _account(self, tenant: TenantId) -> _Account:
        account = self._accounts.get(tenant)
        if account is None:
            account = self._accounts[tenant] = _Account()
            if len(self._accounts) > self._max_tenants:
                self._accounts.popitem(last=False)
        else:
            self._accounts.move_to_end(tenant)
        return account


_LIFE_MS: Final = int(_LIFE * 1000)
