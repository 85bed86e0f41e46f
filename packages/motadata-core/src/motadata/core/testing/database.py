"""The contract of a database as tests: subclass and give the fixture `database`.

    class TestMine(DatabaseConformance):
        @pytest.fixture
        async def database(self) -> AsyncIterator[Database]:
            async with create_mine() as mine:
                yield mine

The database must have been migrated with `CONFORMANCE_MIGRATIONS`. The tests use the tenants `acme`
and `globex`, whose rows of that table they delete.
"""

from __future__ import annotations

import asyncio
from typing import Final

import pytest
import pytest_asyncio

from motadata.core.errors import InvalidIdentifierError, QueryError, TenantRequiredError
from motadata.core.protocols import Database
from motadata.core.tenancy import tenant_scope
from motadata.core.testing._database_deadlines import DatabaseDeadlineCases
from motadata.core.testing._database_work import DatabaseWorkCases


CONFORMANCE_MIGRATIONS: Final = "motadata.core.testing.database_migrations"
"""Import name of the package of migrations that brings the table of these tests."""

_INSERT: Final = "insert into conformance_items (tenant_id, id, body) values ($1, $2, $3)"
_INSERT_VECTOR: Final = (
    "insert into conformance_items (tenant_id, id, embedding) values ($1, $2, $3)"
)
_IDS: Final = "select id from conformance_items order by id"


class DatabaseConformance(DatabaseWorkCases, DatabaseDeadlineCases):
    """What every implementation of `motadata.core.protocols.Database` must do."""

    @pytest.fixture
    def database(self) -> Database:
        """Supply the implementation, entered."""
        message = "A subclass supplies the fixture `database`."
        raise NotImplementedError(message)

    @pytest_asyncio.fixture(autouse=True)
    async def _empty_table(self, database: Database) -> None:
        for tenant in ("acme", "globex"):
            await database.execute_query("delete from conformance_items", tenant_id=tenant)

    async def test_committed_rows_are_found_later(self, database: Database) -> None:
        async with database.transaction("acme") as transaction:
            touched = await transaction.execute(_INSERT, "acme", "1", "hello")

        rows = await database.execute_query("select body from conformance_items", tenant_id="acme")
        assert (touched, [dict(row) for row in rows]) == (1, [{"body": "hello"}])

    async def test_execute_returns_how_many_rows_it_touched(self, database: Database) -> None:
        async with database.transaction("acme") as transaction:
            await transaction.execute_many(_INSERT, [("acme", str(n), "x") for n in range(7)])

            touched = await transaction.execute("update conformance_items set body = 'y'")
            deleted = await transaction.execute("delete from conformance_items where id < $1", "3")

        assert (touched, deleted) == (7, 3)

    async def test_fetch_one_and_fetch_value_give_the_first_row(self, database: Database) -> None:
        async with database.transaction("acme") as transaction:
            await transaction.execute_many(_INSERT, [("acme", n, n * 2) for n in "ab"])

            row = await transaction.fetch_one("select id, body from conformance_items order by id")
            value = await transaction.fetch_value("select body from conformance_items order by id")

        assert row is not None
        assert (dict(row), value) == ({"id": "a", "body": "aa"}, "aa")

    async def test_fetch_one_and_fetch_value_give_none_without_rows(
        self, database: Database
    ) -> None:
        async with database.transaction("acme") as transaction:
            row = await transaction.fetch_one(_IDS)
            value = await transaction.fetch_value(_IDS)

        assert (row, value) == (None, None)

    async def test_exception_rolls_everything_back(self, database: Database) -> None:
        with pytest.raises(LookupError):
            async with database.transaction("acme") as transaction:
                await transaction.execute(_INSERT, "acme", "1", "hello")
                raise LookupError

        assert await database.execute_query(_IDS, tenant_id="acme") == []

    async def test_cancellation_rolls_everything_back(self, database: Database) -> None:
        inserted = asyncio.Event()

        async def work() -> None:
            async with database.transaction("acme") as transaction:
                await transaction.execute(_INSERT, "acme", "1", "hello")
                inserted.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await inserted.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert await database.execute_query(_IDS, tenant_id="acme") == []

    async def test_caught_error_of_a_statement_still_condemns_the_transaction(
        self, database: Database
    ) -> None:
        with pytest.raises(QueryError):
            async with database.transaction("acme") as transaction:
                await transaction.execute(_INSERT, "acme", "1", "hello")
                with pytest.raises(QueryError):
                    await transaction.execute("select 1/0")

        assert await database.execute_query(_IDS, tenant_id="acme") == []

    async def test_refused_statement_is_a_query_error(self, database: Database) -> None:
        with pytest.raises(QueryError) as caught:
            await database.execute_query("select nothing_of_that_name", tenant_id="acme")

        assert (caught.value.code, caught.value.retryable) == ("database_query_error", False)

    async def test_error_does_not_repeat_an_argument(self, database: Database) -> None:
        await database.execute_query(_INSERT, "acme", "s3cret", "x", tenant_id="acme")

        with pytest.raises(QueryError) as caught:
            await database.execute_query(_INSERT, "acme", "s3cret", "x", tenant_id="acme")

        assert "s3cret" not in str(caught.value)

    @pytest.mark.parametrize("text", ["nul \x00 byte", "lone \ud800 surrogate"])
    async def test_text_that_the_database_cannot_hold_is_a_query_error(
        self, database: Database, text: str
    ) -> None:
        with pytest.raises(QueryError):
            await database.execute_query(_INSERT, "acme", "1", text, tenant_id="acme")

        assert await database.execute_query(_IDS, tenant_id="acme") == []

    @pytest.mark.parametrize(
        "value", [{"a": [1, None, {"b": "ü"}]}, ["x", 1.5, True], {}, []], ids=repr
    )
    async def test_mappings_and_lists_travel_as_jsonb(
        self, database: Database, value: object
    ) -> None:
        rows = await database.execute_query("select $1::jsonb as it", value, tenant_id="acme")

        assert [dict(row) for row in rows] == [{"it": value}]

    @pytest.mark.parametrize("vector", [[0.5, -1.0, 2.0], (0.5, -1.0, 2.0)], ids=["list", "tuple"])
    async def test_sequences_of_numbers_travel_as_vectors(
        self, database: Database, vector: object
    ) -> None:
        rows = await database.execute_query("select $1::vector as it", vector, tenant_id="acme")

        assert [dict(row) for row in rows] == [{"it": [0.5, -1.0, 2.0]}]

    async def test_slow_statement_is_ended_after_its_timeout(self, database: Database) -> None:
        with pytest.raises(QueryError):
            await database.execute_query("select pg_sleep(60)", tenant_id="acme", timeout=0.1)

        assert (await database.health()).status == "ok"

    async def test_tenant_of_the_scope_is_taken(self, database: Database) -> None:
        with tenant_scope("acme"):
            await database.execute_query(_INSERT, "acme", "1", "x")

        assert len(await database.execute_query(_IDS, tenant_id="acme")) == 1

    async def test_nothing_runs_without_a_tenant(self, database: Database) -> None:
        with pytest.raises(TenantRequiredError):
            await database.execute_query("select 1")
        with pytest.raises(TenantRequiredError):
            await database.vector_search("conformance_items", [1, 0, 0])
        with pytest.raises(TenantRequiredError):
            async with database.transaction():
                pass

    @pytest.mark.parametrize("tenant", ["", "a'b", "a b", "*", "x" * 65, "é"])
    async def test_malformed_tenant_is_refused(self, database: Database, tenant: str) -> None:
        with pytest.raises(InvalidIdentifierError):
            await database.execute_query("select 1", tenant_id=tenant)

    async def test_other_tenants_rows_do_not_exist(self, database: Database) -> None:
        await database.execute_query(_INSERT, "acme", "1", "secret", tenant_id="acme")

        async with database.transaction("globex") as transaction:
            seen = await transaction.fetch("select * from conformance_items")
            updated = await transaction.execute("update conformance_items set body = 'taken'")
            deleted = await transaction.execute("delete from conformance_items")
            named = await transaction.fetch_value(
                "select count(*) from conformance_items where tenant_id = $1", "acme"
            )

        assert (seen, updated, deleted, named) == ([], 0, 0, 0)
        rows = await database.execute_query("select body from conformance_items", tenant_id="acme")
        assert [dict(row) for row in rows] == [{"body": "secret"}]

    async def test_rows_cannot_be_written_for_another_tenant(self, database: Database) -> None:
        await database.execute_query(_INSERT, "globex", "mine", "x", tenant_id="globex")

        with pytest.raises(QueryError):
            await database.execute_query(_INSERT, "acme", "forged", "x", tenant_id="globex")
        with pytest.raises(QueryError):
            async with database.transaction("globex") as transaction:
                await transaction.execute_many(_INSERT, [("acme", "forged", "x")])
        with pytest.raises(QueryError):
            await database.execute_query(
                "update conformance_items set tenant_id = 'acme'", tenant_id="globex"
            )

        assert await database.execute_query(_IDS, tenant_id="acme") == []

    async def test_tenants_may_use_the_same_keys(self, database: Database) -> None:
        for tenant in ("acme", "globex"):
            await database.execute_query(_INSERT, tenant, "1", tenant, tenant_id=tenant)

        rows = await database.execute_query(
            "select body from conformance_items", tenant_id="globex"
        )
        assert [dict(row) for row in rows] == [{"body": "globex"}]

    async def test_vector_search_gives_the_nearest_first(self, database: Database) -> None:
        await self._store_vectors(database, "acme", {"far": [0, 0, 1], "near": [1, 0.1, 0]})

        rows = await database.vector_search(
            "conformance_items", [1, 0, 0], columns=("id",), tenant_id="acme"
        )

        assert [row["id"] for row in rows] == ["near", "far"]
        assert rows[1]["distance"] == pytest.approx(1.0)

    async def test_vector_search_sees_its_tenant_only(self, database: Database) -> None:
        await self._store_vectors(database, "acme", {"hers": [1, 0, 0]})
        await self._store_vectors(database, "globex", {"his": [0, 1, 0]})

        rows = await database.vector_search(
            "motadata.conformance_items",
            [1, 0, 0],
            filters={"tenant_id": "acme"},
            tenant_id="globex",
        )
        own = await database.vector_search("conformance_items", [1, 0, 0], tenant_id="globex")

        assert (rows, [row["id"] for row in own]) == ([], ["his"])

    async def test_vector_search_keeps_limit_filters_and_null_out(self, database: Database) -> None:
        vectors: dict[str, list[float] | None] = {str(n): [1, n, 0] for n in range(5)}
        await self._store_vectors(database, "acme", {**vectors, "none": None})

        limited = await database.vector_search(
            "conformance_items", [1, 0, 0], limit=2, tenant_id="acme"
        )
        filtered = await database.vector_search(
            "conformance_items", [1, 0, 0], filters={"id": "4"}, tenant_id="acme"
        )
        every = await database.vector_search("conformance_items", [1, 0, 0], tenant_id="acme")

        half = await database.vector_search(
            "conformance_items", [1, 0, 0], limit=2, precision="half", tenant_id="acme"
        )

        assert [row["id"] for row in limited] == ["0", "1"]
        assert [row["id"] for row in half] == ["0", "1"]
        assert [row["id"] for row in filtered] == ["4"]
        assert len(every) == 5

    @pytest.mark.parametrize(
        "name", ["conformance_items; drop table x", 'a"b', "", "a.b.c", "1a", "ü", "x" * 64]
    )
    async def test_names_that_are_no_identifiers_are_refused(
        self, database: Database, name: str
    ) -> None:
        search = database.vector_search
        with pytest.raises(QueryError):
            await search(name, [1, 0, 0], tenant_id="acme")
        with pytest.raises(QueryError):
            await search("conformance_items", [1, 0, 0], columns=(name,), tenant_id="acme")
        with pytest.raises(QueryError):
            await search("conformance_items", [1, 0, 0], filters={name: 1}, tenant_id="acme")
        with pytest.raises(QueryError):
            await search("conformance_items", [1, 0, 0], vector_column=name, tenant_id="acme")

    @pytest.mark.parametrize("limit", [0, -1, 1001])
    async def test_limit_out_of_range_is_refused(self, database: Database, limit: int) -> None:
        with pytest.raises(QueryError):
            await database.vector_search(
                "conformance_items", [1, 0, 0], limit=limit, tenant_id="acme"
            )

    @pytest.mark.parametrize("vector", [[], [1.0], [float("nan"), 0.0, 0.0]], ids=repr)
    async def test_vector_that_does_not_fit_is_refused(
        self, database: Database, vector: list[float]
    ) -> None:
        await self._store_vectors(database, "acme", {"1": [1, 0, 0]})

        with pytest.raises(QueryError):
            await database.vector_search("conformance_items", vector, tenant_id="acme")

    async def test_health_is_ok_while_the_server_answers(self, database: Database) -> None:
        assert (await database.health()).status == "ok"

    async def _store_vectors(
        self, database: Database, tenant: str, vectors: dict[str, list[float] | None]
    ) -> None:
        async with database.transaction(tenant) as transaction:
            await transaction.execute_many(
                _INSERT_VECTOR, [(tenant, name, vector) for name, vector in vectors.items()]
            )
