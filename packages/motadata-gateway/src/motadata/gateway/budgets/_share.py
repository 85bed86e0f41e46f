"""An instance's share of a budget: calls take from it without asking anybody.

When it has too little, one call at a time asks the record, and the others stand in line for what
comes of it. The question is a task of its own: whoever asked may leave, and the line goes on.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import Final
from uuid import UUID

from motadata.core.clock import Clock
from motadata.core.errors import ConnectionError as DatabaseConnectionError
from motadata.core.errors import DatabaseError
from motadata.core.identifiers import new_id
from motadata.core.observability import get_logger
from motadata.core.tenancy import TenantId
from motadata.gateway.budgets._ledger import Ledger, Taken
from motadata.gateway.budgets._patience import Patience
from motadata.gateway.budgets._policy import NOTHING, Amount, Budget


_SAFE: Final = 0.8
"""The part of a lease for which it counts here: it begins there later than here."""
_REFUSED: Final = 0.5
"""Seconds for which a refusal stands for calls that need as much or more."""
_FAILED: Final = 1.0
"""Seconds for which a failure of the record stands for every call: nobody waits for the next."""
_PATIENCE: Final = 0.5
"""The part of its time that a call waits for the record before it goes on without it."""

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
        goes_on_alone: Whether calls pass while the record is away.
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
    _failed: tuple[float, DatabaseError] | None = None
    _question: asyncio.Task[bool] | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _patience: Patience[Taken] = field(init=False)

    def __post_init__(self) -> None:
        """Wait for the record as long as the ledger says."""
        self._patience = Patience(self.ledger.timeout)

    @property
    def is_soft_reached(self) -> bool:
        """Whether a soft limit is reached, as far as is known here."""
        return self.budget.is_soft_reached(self.others + self.spent)

    @property
    def is_settled(self) -> bool:
        """Whether no call is under way, and the record knows of all that was spent."""
        return self.under_way == NOTHING and self.spent == self.reported

    async def reserve(self, amount: Amount, *, timeout: float) -> bool:
        """Take what a call may cost; False when the budget does not cover it.

        Args:
            amount: What it may cost.
            timeout: Seconds to wait for the record.

        Raises:
            DatabaseError: The record is away or too slow, and calls do not go on without it.
        """
        if not self._lock.locked() and self._grant(amount):
            return True
        if not self.goes_on_alone:
            return await self._asked_in_time(amount, timeout)
        if self._is_away:
            return self._grant_alone(amount)
        try:
            return await self._asked_in_time(amount, timeout * _PATIENCE)
        except DatabaseError:
            return self._grant_alone(amount)

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

    async def close(self) -> None:
        """Leave a question that is still open; the call that asked it gets an error."""
        if self._question is not None:
            self._question.cancel()
        await self._patience.close()

    @property
    def _is_away(self) -> bool:
        """Whether the record failed just now, or has not answered again since it failed."""
        failed = self._failed
        return failed is not None and (self._lock.locked() or self.clock.now() < failed[0])

    def _grant(self, amount: Amount) -> bool:
        now = self.clock.now()
        if now >= self._until or not (self.held - self.under_way).covers(amount):
            return False
        self.under_way += amount
        self.used_at = now
        return True

    def _grant_alone(self, amount: Amount) -> bool:
        """Grant what nobody knows to be there; it is counted when the record is back."""
        self.under_way += amount
        self.held += amount
        self.used_at = self.clock.now()
        return True

    async def _asked_in_time(self, amount: Amount, timeout: float) -> bool:
        try:
            async with asyncio.timeout(timeout):
                return await self._asked(amount)
        except TimeoutError as error:
            raise self._unanswered("did not answer in the time that the call has") from error

    async def _asked(self, amount: Amount) -> bool:
        """Stand in line, and take what is there by then or what the record gives."""
        await self._lock.acquire()
        question: asyncio.Task[bool] | None = None
        try:
            known = self._known(amount)
            if known is not None:
                return known
            # While the line moves, the share is in use.
            self.used_at = self.clock.now()
            question = asyncio.create_task(self._more(amount), name="gateway-budget")
        finally:
            if question is None:
                self._lock.release()
        self._question = question
        question.add_done_callback(self._answered)
        try:
            await asyncio.wait({question})
        except BaseException:
            question.add_done_callback(partial(self._give_back, amount))
            raise
        if question.cancelled():
            raise self._unanswered("was left before it answered")
        return question.result()

    def _known(self, amount: Amount) -> bool | None:
        """Tell what needs no question; None when the record has to say it.

        Raises:
            DatabaseError: The record failed just now.
        """
        if self._grant(amount):
            return True
        now, failed, refused = self.clock.now(), self._failed, self._refused
        if failed is not None and now < failed[0]:
            # The same error for all: it must not collect the frames of each.
            raise failed[1].with_traceback(None)
        if refused is not None and now < refused[0] and amount.covers(refused[1]):
            return False
        return None

    async def _more(self, amount: Amount) -> bool:
        """Ask the record for what a call needs, and grant it."""
        await self._take(amount, spare=True)
        if self._grant(amount):
            return True
        self._refused = (self.clock.now() + _REFUSED, amount)
        return False

    def _answered(self, question: asyncio.Task[bool]) -> None:
        """Let the next one ask. The lock is the question's, not that of who may have left it."""
        self._question = None
        self._lock.release()
        if not question.cancelled():
            question.exception()  # nobody may be there any more to look at it

    def _give_back(self, amount: Amount, question: asyncio.Task[bool]) -> None:
        """Undo what was granted to a call that has left."""
        if not question.cancelled() and question.exception() is None and question.result():
            self.settle(amount, NOTHING)

    def _unanswered(self, how: str) -> DatabaseError:
        message = f"The record of the budget {self.budget.name!r} {how}."
        return DatabaseConnectionError(message, remedy="Try again.", tenant_id=self.tenant)

    async def _take(self, amount: Amount, *, spare: bool) -> None:
        """Ask the record; calls that end meanwhile are taken into account.

        Raises:
            DatabaseError: The record is away; it is not asked again for a second.
        """
        began, spent = self.clock.now(), self.spent
        # Until it is known what the record says, nothing but what was granted is held.
        self._until = float("-inf")
        ask = partial(
            self.ledger.take,
            self.tenant,
            self.budget,
            self.start,
            share_id=self.share_id,
            spent=spent,
            under_way=self.under_way,
            more=amount,
            spare=spare,
        )
        try:
            taken = await self._patience.answer(ask)
        except TimeoutError as error:
            failure = self._unanswered("did not answer in time")
            self._note(failure)
            raise failure from error
        except DatabaseError as error:
            self._note(error)
            raise
        self._failed = None
        self.held = taken.held - (self.spent - spent)
        self.others = taken.others
        self.reported = spent
        self.tells = self.tells or taken.tells
        self._until = began + self.ledger.lease * _SAFE

    def _note(self, error: DatabaseError) -> None:
        self._failed = (self.clock.now() + _FAILED, error)
        if self.goes_on_alone:
            _log.warning("budget_unchecked", budget=self.budget.name, code=error.code)
