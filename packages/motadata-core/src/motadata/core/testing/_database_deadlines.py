"""Cases of the database's conformance kit: whose time is over hears that, and of nothing else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import pytest

from motadata.core.errors import DeadlineExceededError, QueryError
from motadata.core.protocols import Database, Transaction
from motadata.core.resilience import deadline_scope


_INSERT: Final = "insert into conformance_items (tenant_id, id) values ($1, $2)"
_LOCK: Final = "lock table conformance_items"
_SHORT: Final = 0.2
_LONG: Final = 60.0


async def _select(transaction: Transaction) -> None:
    await transaction.fetch("select id from conformance_items")


async def _execute(transaction: Transaction) -> None:
    await transaction.execute(_INSERT, "acme", "late")


async def _execute_many(transaction: Transaction) -> None:
    await transaction.execute_many(_INSERT, [("acme", "late")])


async def _insert_many(transaction: Transaction) -> None:
    await transaction.insert_many("conformance_items", ("tenant_id", "id"), [("acme", "late")])


_STATEMENTS: Final = (_select, _execute, _execute_many, _insert_many)


class DatabaseDeadlineCases:
    """What every implementation does for callers without time; part of `DatabaseConformance`."""

    @pytest.mark.parametrize("statement", _STATEMENTS)
    async def test_deadline_ends_a_statement_of_a_transaction_under_its_own_name(
        self, database: Database, statement: Callable[[Transaction], Awaitable[None]]
    ) -> None:
        async with database.transaction("globex") as holder:
            await holder.execute(_LOCK)

            with pytest.raises(DeadlineExceededError):
                async with database.transaction("acme") as transaction:
                    with deadline_scope(_SHORT):
                        await statement(transaction)
            with deadline_scope(_SHORT), pytest.raises(DeadlineExceededError):
                await database.run_transaction(statement, tenant_id="acme")

        assert await _number_of_rows(database) == 0

    async def test_deadline_ends_a_statement_alone_under_its_own_name(
        self, database: Database
    ) -> None:
        calls: tuple[Callable[[], Awaitable[object]], ...] = (
            lambda: database.execute_query("select id from conformance_items", tenant_id="acme"),
            lambda: database.execute_query(_INSERT, "acme", "late", tenant_id="acme"),
            lambda: database.vector_search("conformance_items", [1, 0, 0], tenant_id="acme"),
        )
        async with database.transaction("globex") as holder:
            await holder.execute(_LOCK)

            for call in calls:
                with deadline_scope(_SHORT), pytest.raises(DeadlineExceededError):
                    await call()

        assert await _number_of_rows(database) == 0

    async def test_timeout_of_a_statement_is_no_deadline_of_its_caller(
        self, database: Database
    ) -> None:
        with deadline_scope(_LONG), pytest.raises(QueryError):
            await database.execute_query("select pg_sleep(60)", tenant_id="acme", timeout=_SHORT)
        with deadline_scope(_LONG), pytest.raises(QueryError):
            async with database.transaction("acme", timeout=_SHORT) as transaction:
                await transaction.fetch("select pg_sleep(60)")


async def _number_of_rows(database: Database) -> int:
    rows = await database.execute_query("select id from conformance_items", tenant_id="acme")
    return len(rows)
