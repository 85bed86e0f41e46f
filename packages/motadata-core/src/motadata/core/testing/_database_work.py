"""Cases of the database's conformance kit: parts of transactions, repeats, bulk, notifications."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

import pytest

from motadata.core.errors import InvalidIdentifierError, QueryError, TenantRequiredError
from motadata.core.protocols import Database, Notification, Transaction


_INSERT: Final = "insert into conformance_items (tenant_id, id, body) values ($1, $2, $3)"
_IDS: Final = "select id from conformance_items order by id"
_PATIENCE: Final = 10.0


class DatabaseWorkCases:
    """What every implementation does beyond single statements; part of `DatabaseConformance`."""

    async def test_failed_savepoint_is_undone_alone(self, database: Database) -> None:
        async with database.transaction("acme") as transaction:
            await transaction.execute(_INSERT, "acme", "before", "x")
            with pytest.raises(QueryError):
                async with transaction.savepoint():
                    await transaction.execute(_INSERT, "acme", "within", "x")
                    await transaction.execute(_INSERT, "acme", "before", "again")
            await transaction.execute(_INSERT, "acme", "after", "x")

        assert await _ids(database, "acme") == ["after", "before"]

    async def test_savepoints_nest(self, database: Database) -> None:
        async with database.transaction("acme") as transaction, transaction.savepoint():
            await transaction.execute(_INSERT, "acme", "outer", "x")
            with pytest.raises(LookupError):
                async with transaction.savepoint():
                    await transaction.execute(_INSERT, "acme", "inner", "x")
                    raise LookupError
            async with transaction.savepoint():
                await transaction.execute(_INSERT, "acme", "second", "x")

        assert await _ids(database, "acme") == ["outer", "second"]

    async def test_error_caught_within_a_savepoint_undoes_it(self, database: Database) -> None:
        async with database.transaction("acme") as transaction:
            with pytest.raises(QueryError):
                async with transaction.savepoint():
                    await transaction.execute(_INSERT, "acme", "1", "x")
                    with pytest.raises(QueryError):
                        await transaction.execute("select nothing_of_that_name")
            await transaction.execute(_INSERT, "acme", "2", "x")

        assert await _ids(database, "acme") == ["2"]

    async def test_savepoint_keeps_the_tenant(self, database: Database) -> None:
        await database.execute_query(_INSERT, "acme", "hers", "x", tenant_id="acme")

        async with database.transaction("globex") as transaction:
            async with transaction.savepoint():
                within = await transaction.fetch(_IDS)
            with pytest.raises(LookupError):
                async with transaction.savepoint():
                    raise LookupError
            after = await transaction.fetch(_IDS)

        assert (within, after) == ([], [])

    async def test_repeated_transaction_counts_once(self, database: Database) -> None:
        """Two increments that read the same value: the loser runs again."""
        await database.execute_query(_INSERT, "acme", "count", "0", tenant_id="acme")
        both_have_read = asyncio.Barrier(2)
        runs = 0

        async def increment(transaction: Transaction) -> int:
            nonlocal runs
            runs += 1
            value = await transaction.fetch_value("select body from conformance_items")
            if runs <= both_have_read.parties:
                await both_have_read.wait()
            following = int(str(value)) + 1
            await transaction.execute("update conformance_items set body = $1", str(following))
            return following

        results = await asyncio.gather(
            *(
                database.run_transaction(increment, tenant_id="acme", isolation="repeatable_read")
                for _ in range(2)
            )
        )

        rows = await database.execute_query("select body from conformance_items", tenant_id="acme")
        assert (sorted(results), runs, rows[0]["body"]) == ([1, 2], 3, "2")

    async def test_error_that_no_repeat_heals_ends_the_work(self, database: Database) -> None:
        runs = 0

        async def work(transaction: Transaction) -> None:
            nonlocal runs
            runs += 1
            await transaction.execute(_INSERT, "acme", str(runs), "x")
            await transaction.execute("select nothing_of_that_name")

        with pytest.raises(QueryError):
            await database.run_transaction(work, tenant_id="acme")

        assert (runs, await _ids(database, "acme")) == (1, [])

    async def test_unknown_isolation_is_refused(self, database: Database) -> None:
        with pytest.raises(QueryError):
            async with database.transaction("acme", isolation="none"):  # type: ignore[arg-type]
                pass

    async def test_many_rows_are_inserted_as_given(self, database: Database) -> None:
        details: list[object] = [{"a": [1, {"b": None}]}, [1, [2, 3]], "text", 4, None, [[]]]
        rows = [
            ("acme", f"{n:05}", f"body {n}", details[n % len(details)], [n, 0.5, -1])
            for n in range(4500)
        ]
        columns = ("tenant_id", "id", "body", "details", "embedding")

        async with database.transaction("acme") as transaction:
            count = await transaction.insert_many("conformance_items", columns, iter(rows))
            found = await transaction.fetch("select * from conformance_items order by id")

        assert count == len(rows)
        assert [tuple(row[name] for name in columns) for row in found] == rows

    async def test_bulk_insert_keeps_all_or_none(self, database: Database) -> None:
        columns = ("tenant_id", "id")
        several: list[Sequence[object]] = [("acme", str(n)) for n in range(3000)]
        failures: list[list[Sequence[object]]] = [
            [*several, ("globex", "forged")],
            [*several, ("acme", "1")],
            [*several, ("acme",)],
            [*several, ("acme", object())],
        ]

        for rows in failures:
            with pytest.raises(QueryError):
                async with database.transaction("acme") as transaction:
                    await transaction.insert_many("conformance_items", columns, rows)

        assert (await _ids(database, "acme"), await _ids(database, "globex")) == ([], [])

    @pytest.mark.parametrize(
        ("table", "columns"),
        [
            ("x; drop table y", ("id",)),
            ("conformance_items", ('i"d',)),
            ("conformance_items", ()),
            ("conformance_items", ("no_such_column",)),
        ],
    )
    async def test_bulk_insert_refuses_names_that_are_none(
        self, database: Database, table: str, columns: tuple[str, ...]
    ) -> None:
        with pytest.raises(QueryError):
            async with database.transaction("acme") as transaction:
                await transaction.insert_many(table, columns, [("x",) * len(columns)])

    async def test_listener_hears_what_committed(self, database: Database) -> None:
        async with database.listen("items", tenant_id="acme") as notifications:
            async with database.transaction("acme") as transaction:
                await transaction.notify("items", "first")
            with pytest.raises(LookupError):
                async with database.transaction("acme") as transaction:
                    await transaction.notify("items", "never")
                    raise LookupError
            async with database.transaction("acme") as transaction:
                await transaction.notify("items", "é\n2")

            heard = [await _next(notifications), await _next(notifications)]

        assert heard == [Notification("items", "first"), Notification("items", "é\n2")]

    async def test_listener_hears_its_tenant_and_topic_only(self, database: Database) -> None:
        async with (
            database.listen("items", tenant_id="acme") as hers,
            database.listen("items", tenant_id="globex") as his,
        ):
            for tenant, topic in (("globex", "items"), ("acme", "other"), ("acme", "items")):
                async with database.transaction(tenant) as transaction:
                    await transaction.notify(topic, f"{tenant} {topic}")

            heard = [await _next(hers), await _next(his)]

        assert [one.payload for one in heard] == ["acme items", "globex items"]

    async def test_notifications_need_a_tenant_and_a_topic(self, database: Database) -> None:
        with pytest.raises(TenantRequiredError):
            async with database.listen("items"):
                pass
        for topic in ("", "a b", "a.b", "x" * 65):
            with pytest.raises(InvalidIdentifierError):
                async with database.listen(topic, tenant_id="acme"):
                    pass
            with pytest.raises(InvalidIdentifierError):
                async with database.transaction("acme") as transaction:
                    await transaction.notify(topic)

    @pytest.mark.parametrize("payload", ["x" * 7001, "a\0b", "\ud800"], ids=ascii)
    async def test_payload_that_does_not_fit_is_refused(
        self, database: Database, payload: str
    ) -> None:
        with pytest.raises(QueryError):
            async with database.transaction("acme") as transaction:
                await transaction.notify("items", payload)


async def _ids(database: Database, tenant: str) -> list[object]:
    return [row["id"] for row in await database.execute_query(_IDS, tenant_id=tenant)]


async def _next(notifications: AsyncIterator[Notification]) -> Notification:
    async with asyncio.timeout(_PATIENCE):
        return await anext(notifications)
