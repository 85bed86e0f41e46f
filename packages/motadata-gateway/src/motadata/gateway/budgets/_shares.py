"""All shares that an instance has, and the reports by which the record learns of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from datetime import date, datetime
from typing import Final

from motadata.core.clock import Clock
from motadata.core.errors import DatabaseError
from motadata.core.observability import get_logger
from motadata.core.tenancy import TenantId
from motadata.gateway.budgets._ledger import Ledger
from motadata.gateway.budgets._policy import Budget, SoftLimitReached
from motadata.gateway.budgets._share import Share


_LONGEST_END: Final = 10.0
_LONGEST_TELLING: Final = 30.0
_IDLE: Final = 3.0
"""Reports, or waits for the database, without a call, after which a share is given back."""

BudgetsOf = Callable[[TenantId], Sequence[Budget]]
Told = Callable[[SoftLimitReached], Awaitable[None] | None]

_log = get_logger("gateway")


class Shares:
    """The shares by tenant, budget and period; those that are idle are given back.

    Attributes:
        budgets_of: Which budgets a tenant has.
        ledger: Where the record is.
        now: Says which period it is.
    """

    def __init__(
        self,
        budgets_of: BudgetsOf,
        ledger: Ledger,
        *,
        on_soft_limit: Told | None,
        goes_on_alone: bool,
        report_every: float,
        clock: Clock,
        now: Callable[[], datetime],
    ) -> None:
        self.budgets_of = budgets_of
        self.ledger = ledger
        self.now = now
        self._on_soft_limit = on_soft_limit
        self._goes_on_alone = goes_on_alone
        self._report_every = report_every
        self._clock = clock
        self._shares: dict[tuple[TenantId, Budget, date], Share] = {}
        self._reporter: asyncio.Task[None] | None = None
        self._telling: set[asyncio.Task[None]] = set()

    def of(self, tenant: TenantId) -> list[Share]:
        """Return the shares of the tenant's budgets in their present periods."""
        budgets = self.budgets_of(tenant)
        now = self.now() if budgets else None
        shares = []
        for budget in budgets:
            assert now is not None
            key = (tenant, budget, budget.starts_on(now))
            share = self._shares.get(key)
            if share is None:
                share = self._shares[key] = Share(
                    *key, self.ledger, self._clock, self._goes_on_alone
                )
            share.used_at = self._clock.now()
            shares.append(share)
        if shares:
            self._start_reporting()
        return shares

    async def report(self) -> None:
        """Tell the record what was spent since the last report, and give idle shares back.

        A report that fails is logged and made up for by a later one.
        """
        # Longer than a question takes, and each renews `used_at`: nobody stands in line for a share
        # that is given back.
        idle = self._clock.now() - _IDLE * max(self._report_every, self.ledger.timeout)
        for key, share in list(self._shares.items()):
            keep = share.used_at >= idle
            try:
                await share.report(keep=keep)
            except DatabaseError as error:
                _log.warning("budget_not_reported", budget=share.budget.name, code=error.code)
                continue
            self.tell(share)
            if not keep and share.used_at < idle and share.is_settled:
                self._shares.pop(key, None)

    async def close(self) -> None:
        """Report what is left to report, and give every share back."""
        if self._reporter is not None:
            self._reporter.cancel()
            await asyncio.wait({self._reporter}, timeout=_LONGEST_END)
        try:
            async with asyncio.timeout(_LONGEST_END):
                for share in self._shares.values():
                    await share.report(keep=False)
                    self.tell(share)
        except (DatabaseError, TimeoutError):
            _log.warning("budget_reports_lost", shares=len(self._shares))
        await asyncio.gather(*(share.close() for share in self._shares.values()))
        self._shares.clear()
        if self._telling:
            await asyncio.wait(self._telling, timeout=_LONGEST_TELLING)

    def _start_reporting(self) -> None:
        if self._reporter is None or self._reporter.done():
            # Not in the caller's context: it reports for everybody.
            self._reporter = asyncio.create_task(
                self._report_always(), name="gateway-budgets", context=Context()
            )

    async def _report_always(self) -> None:
        while self._shares:
            await self._clock.sleep(self._report_every)
            await self.report()

    def tell(self, share: Share) -> None:
        """Tell the platform of a soft limit, if that falls to this instance."""
        if not share.tells:
            return
        share.tells = False
        reached = SoftLimitReached(
            share.tenant,
            share.budget,
            share.others + share.spent,
            share.budget.resets_at(share.start),
        )
        _log.info("budget_soft_limit", budget=share.budget.name)
        if self._on_soft_limit is not None:
            task = asyncio.create_task(_told(self._on_soft_limit, reached), context=Context())
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)


async def _told(tell: Told, reached: SoftLimitReached) -> None:
    try:
        async with asyncio.timeout(_LONGEST_TELLING):
            telling = tell(reached)
            if telling is not None:
                await telling
    except Exception as error:  # noqa: BLE001 - the platform's own code; calls do not depend on it
        _log.warning("soft_limit_not_told", budget=reached.budget.name, kind=type(error).__name__)
