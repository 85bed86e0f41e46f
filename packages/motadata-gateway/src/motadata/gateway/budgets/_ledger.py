"""The record of budgets in PostgreSQL: who spent how much, and who holds how much.

Each instance that spends for a tenant has a share of its own: a row with what it spent in all and
what it holds of the rest. Taking a share locks the period's row, so what all instances have spent
and hold together never exceeds the budget. What is reported is a running total, so a report whose
commit was lost on the way is repeated without harm.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final, cast
from uuid import UUID

from motadata.core.protocols import Database, Transaction
from motadata.core.tenancy import TenantId
from motadata.gateway.budgets._policy import PLENTY, Amount, Budget


_LOCK: Final = """
insert into motadata.budget_period (tenant_id, budget, starts_on) values ($1, $2, $3)
on conflict (tenant_id, budget, starts_on) do update set tenant_id = excluded.tenant_id
returning soft_reached_at is not null as soft_known
"""
_OTHERS: Final = """
select coalesce(sum(spent_usd), 0) as spent_usd,
  coalesce(sum(spent_tokens), 0)::bigint as spent_tokens,
  coalesce(sum(held_usd) filter (where held_until > now()), 0) as held_usd,
  coalesce(sum(held_tokens) filter (where held_until > now()), 0)::bigint as held_tokens
from motadata.budget_share
where tenant_id = $1 and budget = $2 and starts_on = $3 and share_id <> $4
"""
_TAKE: Final = """
insert into motadata.budget_share
  (tenant_id, budget, starts_on, share_id, spent_usd, spent_tokens, held_usd, held_tokens,
   held_until)
values ($1, $2, $3, $4, $5, $6, $7, $8, now() + make_interval(secs => $9))
on conflict (tenant_id, budget, starts_on, share_id) do update set
  spent_usd = greatest(budget_share.spent_usd, excluded.spent_usd),
  spent_tokens = greatest(budget_share.spent_tokens, excluded.spent_tokens),
  held_usd = excluded.held_usd, held_tokens = excluded.held_tokens,
  held_until = excluded.held_until
"""
_SOFT: Final = """
update motadata.budget_period set soft_reached_at = now()
where tenant_id = $1 and budget = $2 and starts_on = $3
"""
_NOBODY: Final = UUID(int=0)
_SPARE: Final = 50
"""A share holds at most this part of a budget beyond what calls need, and a quarter of the rest."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of asking for a share.

    Attributes:
        held: What the instance may spend by itself, for calls under way and further ones.
        others: What all others have spent.
        tells: Whether the soft limit was found to be reached now, by this instance.
    """

    held: Amount
    others: Amount
    tells: bool


@dataclass(frozen=True, slots=True)
class Ledger:
    """Reads and writes the shares of budgets.

    Attributes:
        database: Where the gateway's migrations have run.
        lease: Seconds for which a share holds what it holds when nobody renews it.
        timeout: Seconds that a question may take, and each statement of it.
    """

    database: Database
    lease: float
    timeout: float

    async def take(
        self,
        tenant: TenantId,
        budget: Budget,
        start: date,
        *,
        share_id: UUID,
        spent: Amount,
        under_way: Amount,
        more: Amount,
        spare: bool,
    ) -> Taken:
        """Report what a share has spent in all, and hold more, if that is there.

        Args:
            tenant: Whose budget it is.
            budget: Which one.
            start: First day of the period.
            share_id: Names the share.
            spent: What it has spent since it began.
            under_way: What was granted to calls that have not ended; it is held in any case.
            more: What another call needs.
            spare: Whether to hold something beyond that, for the calls to come.

        Raises:
            DatabaseError: The database failed; nothing has changed, or all of it.
        """

        async def work(transaction: Transaction) -> Taken:
            key = (tenant, budget.name, start)
            soft_known = await transaction.fetch_value(_LOCK, *key)
            row = await transaction.fetch_one(_OTHERS, *key, share_id)
            assert row is not None
            others = Amount(_money(row["spent_usd"]), cast("int", row["spent_tokens"]))
            held = Amount(_money(row["held_usd"]), cast("int", row["held_tokens"]))
            left = budget.left(others + held + spent + under_way)
            granted = under_way
            if left.covers(more):
                granted += more
                if spare:
                    granted += _spare(budget, left - more)
            await transaction.execute(
                _TAKE,
                *(*key, share_id, spent.usd, spent.tokens),
                *(granted.usd, granted.tokens, self.lease),
            )
            tells = not soft_known and budget.is_soft_reached(others + spent)
            if tells:
                await transaction.execute(_SOFT, *key)
            return Taken(granted, others, tells)

        return await self.database.run_transaction(work, tenant_id=tenant, timeout=self.timeout)

    async def read(self, tenant: TenantId, budget: Budget, start: date) -> tuple[Amount, Amount]:
        """Return what all have spent, and what all hold."""
        rows = await self.database.execute_query(
            _OTHERS, tenant, budget.name, start, _NOBODY, tenant_id=tenant, timeout=self.timeout
        )
        row = rows[0]
        return (
            Amount(_money(row["spent_usd"]), cast("int", row["spent_tokens"])),
            Amount(_money(row["held_usd"]), cast("int", row["held_tokens"])),
        )


def _spare(budget: Budget, left: Amount) -> Amount:
    whole = budget.left(Amount())
    spare = Amount(
        min(whole.usd / _SPARE, left.usd / 4), min(whole.tokens // _SPARE, left.tokens // 4)
    )
    # What is not limited is held as plenty, so that it never runs out first.
    return Amount(
        PLENTY.usd if budget.usd is None else spare.usd,
        PLENTY.tokens if budget.tokens is None else spare.tokens,
    ).at_least_nothing()


def _money(value: object) -> Decimal:
    return value if isinstance(value, Decimal) else Decimal(str(value))
