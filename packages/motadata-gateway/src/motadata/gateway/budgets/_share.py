"""An instance's share of a budget: calls take from it without asking anybody."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import date
from typing import Final
from uuid import UUID

from motadata.core.clock import Clock
from motadata.core.errors import DatabaseError
from motadata.core.identifiers import new_id
from motadata.core.observability import get_logger
from motadata.core.tenancy import TenantId
from motadata.gateway.budgets._ledger import Ledger
from motadata.gateway.budgets._policy import NOTHING, Amount, Budget


_SAFE: Final = 0.8
"""The part of a lease for which it counts here: it begins there later than here."""
_REFUSED: Final = 0.5
"""Seconds for which a refusal stands for calls that need as much or more."""
_ALONE: Final = 1.0
"""Seconds after which the database is asked again when calls go on without it."""

_log = get_logger("gateway")


@dataclass(slots=True, eq=False)
class Share:
    """What one instance has spent and may still spend of one budget in one period.

    Attributes:
        tenant: Whose budget it is.
        budget: Which one.
        start: First day of the period.
        ledger: Where the record is.
        clock: Measures the lease.
        goes_on_alone: Whether calls pass while the database is away.
        spent: Since the share began.
        held: What calls under way and further calls may spend.
        under_way: What calls that have not ended were granted.
        others: What all others have spent, as of the last answer.
        tells: Whether this instance has to tell the platform of the soft limit.
        used_at: When a call took from it last.
        reported: Of what was spent, what the record knows.
    """

    tenant: TenantId
    budget: Budget
    start: date
    ledger: Ledger
    clock: Clock
    goes_on_alone: bool
    share_id: UUID = field(default_factory=new_id)
    spent: Amount = NOTHING
    held: Amount = NOTHING
    under_way: Amount = NOTHING
    others: Amount = NOTHING
    reported: Amount = NOTHING
    tells: bool = False
    used_at: float = 0.0
    _until: float = float("-inf")
    _refused: tuple[float, Amount] | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def is_soft_reached(self) -> bool:
        """Whether a soft limit is reached, as far as is known here."""
        return self.budget.is_soft_reached(self.others + self.spent)

    @property
    def is_settled(self) -> bool:
        """Whether no call is under way, and the record knows of all that was spent."""
        return self.under_way == NOTHING and self.spent == self.reported

    async def reserve(self, amount: Amount) -> bool:
        """Take what a call may cost; False when the budget does not cover it.

        Raises:
            DatabaseError: The record is away, and calls do not go on without it.
        """
        if not self._lock.locked() and self._grant(amount):
            return True
        async with self._lock:
            if self._grant(amount):
                return True
            refused = self._refused
            if refused is not None and self.clock.now() < refused[0] and amount.covers(refused[1]):
                return False
            try:
                await self._take(amount, spare=True)
            except DatabaseError as error:
                if not self.goes_on_alone:
                    raise
                _log.warning("budget_unchecked", budget=self.budget.name, code=error.code)
                self.held = self.under_way + amount
                self._until = self.clock.now() + _ALONE
            if self._grant(amount):
                return True
            self._refused = (self.clock.now() + _REFUSED, amount)
            return False

    def settle(self, reserved: Amount, actual: Amount) -> None:
        """Replace what a call was granted by what it did spend. Never waits."""
        self.under_way -= reserved
        self.held -= actual
        self.spent += actual

    async def report(self, *, keep: bool) -> None:
        """Tell the record what was spent, and renew what is held or give it back.

        Raises:
            DatabaseError: The record is away; a later report says it all.
        """
        async with self._lock:
            await self._take(NOTHING, spare=keep)

    def _grant(self, amount: Amount) -> bool:
        now = self.clock.now()
        if now >= self._until or not (self.held - self.under_way).covers(amount):
            return False
        self.under_way += amount
        self.used_at = now
        return True

    async def _take(self, amount: Amount, *, spare: bool) -> None:
        """Ask the record; calls that end meanwhile are taken into account."""
        began, spent = self.clock.now(), self.spent
        # Until it is known what the record says, nothing but what was granted is held.
        self._until = float("-inf")
        taken = await self.ledger.take(
            self.tenant,
            self.budget,
            self.start,
            share_id=self.share_id,
            spent=spent,
            under_way=self.under_way,
            more=amount,
            spare=spare,
        )
        self.held = taken.held - (self.spent - spent)
        self.others = taken.others
        self.reported = spent
        self.tells = self.tells or taken.tells
        self._until = began + self.ledger.lease * _SAFE
