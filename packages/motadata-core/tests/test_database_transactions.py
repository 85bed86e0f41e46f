"""What becomes of connections: between tenants, after failures, under cancellation."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from motadata.core.database import PostgresDatabase, create_database
from motadata.core.errors import ConfigurationError, QueryError
from motadata.core.errors import ConnectionError as DatabaseConnectionError
from motadata.core.testing.database import CONFORMANCE_MIGRATIONS
from motadata.core.testing.plugin import DatabaseDsns
from motadata.core.testing.storm import storm


@pytest.fixture(scope="module")
def migration_packages() -> tuple[str, ...]:
    return (CONFORMANCE_MIGRATIONS,)


@pytest.fixture
async def lone_connection(database_dsns: DatabaseDsns) -> AsyncIterator[PostgresDatabase]:
    """A pool of one, so that whatever a transaction leaves behind meets the next."""
    async with create_database(database_dsns.runtime, max_connections=1, timeout=5) as database:
        yield database


async def test_cancellation_storm_gives_no_one_anothers_answer(database_dsns: DatabaseDsns):
    chance = random.Random(7)

    async def ask(number: int) -> None:
        tenant = f"tenant-{number % 11}"
        rows = await database.execute_query(
            "select $1::int as n, current_setting('motadata.tenant_id') as t,"
            " pg_sleep($2) is null as slept",
            number,
            chance.random() / 200,
            tenant_id=tenant,
        )
        assert (rows[0]["n"], rows[0]["t"]) == (number, tenant)

    async with create_database(database_dsns.runtime, max_connections=4) as database:
        report = await storm(ask, calls=600, at_once=300, early=0.1)

        assert report.share_cancelled == pytest.approx(0.5, abs=0.1)
        assert report.failures == []
        # Every connection came back: as many as there are can be had at once.
        async with (
            database.transaction("a", timeout=5),
            database.transaction("b", timeout=5),
            database.transaction("c", timeout=5),
            database.transaction("d", timeout=5),
        ):
            pass


@pytest.mark.parametrize("ending", ["commit", "rollback", "cancel"])
async def test_nothing_of_a_session_reaches_the_next_tenant(
    lone_connection: PostgresDatabase, ending: str
):
    async def leave_traces() -> None:
        async with lone_connection.transaction("acme") as transaction:
            await transaction.execute("set motadata.tenant_id = 'acme'")
            await transaction.execute("set work_mem = '1234kB'")
            await transaction.execute("create temporary table traces as select 'secret' as word")
            await transaction.fetch("select pg_advisory_lock(42)")
            if ending == "rollback":
                raise LookupError
            if ending == "cancel":
                done.set()
                await asyncio.Event().wait()

    done = asyncio.Event()
    task = asyncio.create_task(leave_traces())
    if ending == "cancel":
        await done.wait()
        task.cancel()
    await asyncio.wait([task])

    async with lone_connection.transaction("globex") as transaction:
        tenant = await transaction.fetch_value("select current_setting('motadata.tenant_id')")
        memory = await transaction.fetch_value("select current_setting('work_mem')")
        traces = await transaction.fetch_value("select to_regclass('pg_temp.traces')")
        locks = await transaction.fetch_value(
            "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"
        )
    assert (tenant, memory, traces, locks) == ("globex", "4MB", None, 0)


async def test_tenant_is_forgotten_when_the_transaction_ends(lone_connection: PostgresDatabase):
    await lone_connection.execute_query("select 1", tenant_id="acme")

    assert lone_connection._work is not None
    connection = await lone_connection._work.pools.common.acquire(tenant=None, timeout=5)
    left = await connection.fetchval("select current_setting('motadata.tenant_id', true)")
    await lone_connection._work.pools.common.release(connection, timeout=5)

    assert left in {None, ""}


@pytest.mark.parametrize(
    "sql",
    [
        "commit",
        "  /* now */ COMMIT",
        "-- done\nrollback",
        "end",
        "begin",
        "start transaction",
        "ROLLBACK AND CHAIN",
        "prepare transaction 'x'",
        "abort",
    ],
)
async def test_statement_cannot_end_the_transaction(database: PostgresDatabase, sql: str):
    with pytest.raises(QueryError, match="control the transaction"):
        await database.execute_query(sql, tenant_id="acme")


async def test_savepoints_are_allowed(database: PostgresDatabase):
    async with database.transaction("acme") as transaction:
        await transaction.execute("savepoint here")
        await transaction.execute("create temporary table gone (id int)")
        await transaction.execute("rollback to savepoint here")

        assert await transaction.fetch_value("select to_regclass('pg_temp.gone')") is None
        assert await transaction.fetch_value("select current_setting('motadata.tenant_id')")


@pytest.mark.parametrize("method", ["execute", "fetch", "fetch_one", "fetch_value"])
async def test_two_statements_in_one_text_are_refused(database: PostgresDatabase, method: str):
    with pytest.raises(QueryError, match="42601"):
        async with database.transaction("acme") as transaction:
            await getattr(transaction, method)("select 1; commit")


async def test_transaction_is_of_no_use_after_its_block(database: PostgresDatabase):
    async with database.transaction("acme") as transaction:
        pass

    with pytest.raises(QueryError, match="over"):
        await transaction.fetch("select 1")


async def test_statements_at_the_same_time_in_one_transaction_are_refused(
    database: PostgresDatabase,
):
    with pytest.raises(QueryError, match="same time"):
        async with database.transaction("acme") as transaction:
            await asyncio.gather(
                transaction.fetch("select pg_sleep(0.2)"), transaction.fetch("select 1")
            )


async def test_waiting_for_a_connection_ends_after_the_timeout(
    lone_connection: PostgresDatabase,
):
    async with lone_connection.transaction("acme"):
        with pytest.raises(DatabaseConnectionError, match="max_connections") as caught:
            await lone_connection.execute_query("select 1", tenant_id="globex", timeout=0.05)

    assert caught.value.retryable
    assert caught.value.tenant_id == "globex"


async def test_deferred_constraint_that_fails_at_commit_is_a_query_error(
    database: PostgresDatabase,
):
    async def work() -> None:
        async with database.transaction("acme") as transaction:
            await transaction.execute(
                "create temporary table once (id int unique deferrable initially deferred)"
            )
            await transaction.execute("insert into once values (1), (1)")

    with pytest.raises(QueryError, match="23505"):
        await work()


async def test_broken_connection_at_commit_is_not_to_be_repeated_blindly(
    database: PostgresDatabase, database_dsns: DatabaseDsns
):
    async def work() -> None:
        async with database.transaction("acme") as transaction:
            process.set_result(await transaction.fetch_value("select pg_backend_pid()"))
            await transaction.execute("create temporary table slow (id int)")
            await transaction.execute(
                "create function pg_temp.sleep() returns trigger language plpgsql as"
                " $$ begin perform pg_sleep(60); return null; end $$"
            )
            await transaction.execute(
                "create constraint trigger sleep after insert on slow deferrable initially"
                " deferred for each row execute function pg_temp.sleep()"
            )
            await transaction.execute("insert into slow values (1)")

    process: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(work())
    await _kill_when_committing(database_dsns, await process)

    with pytest.raises(DatabaseConnectionError, match="committed") as caught:
        await task
    assert not caught.value.retryable


async def test_broken_connection_before_commit_may_be_tried_again(
    database: PostgresDatabase, database_dsns: DatabaseDsns
):
    async def work() -> None:
        async with database.transaction("acme") as transaction:
            await _kill(database_dsns, await transaction.fetch_value("select pg_backend_pid()"))

    with pytest.raises(DatabaseConnectionError) as caught:
        await work()

    assert caught.value.retryable


async def test_connections_that_died_while_idle_go_unnoticed(
    database: PostgresDatabase, database_dsns: DatabaseDsns
):
    rows = await database.execute_query("select pg_backend_pid() as pid", tenant_id="acme")
    await _kill(database_dsns, rows[0]["pid"])

    assert await database.execute_query("select 1 as one", tenant_id="acme") == [{"one": 1}]


async def test_migration_under_a_prepared_statement_goes_unnoticed(
    database: PostgresDatabase, database_dsns: DatabaseDsns
):
    owner = await asyncpg.connect(database_dsns.owner)
    sql = "select * from conformance_items"
    await database.execute_query(sql, tenant_id="acme")

    await owner.execute("alter table motadata.conformance_items add column later int")
    await owner.close()

    assert await database.execute_query(sql, tenant_id="acme") == []


async def test_works_without_prepared_statements(database_dsns: DatabaseDsns):
    async with create_database(database_dsns.runtime, statement_cache_size=0) as database:
        rows = await database.execute_query("select $1::jsonb as it", {"a": 1}, tenant_id="acme")
        found = await database.vector_search("conformance_items", [1, 0, 0], tenant_id="acme")

    assert (rows, found) == ([{"it": {"a": 1}}], [])


async def test_search_is_planned_for_its_arguments_and_only_search(
    lone_connection: PostgresDatabase,
):
    async def setting(name: str) -> object:
        async with lone_connection.transaction("acme") as transaction:
            return await transaction.fetch_value("select current_setting($1)", name)

    await lone_connection.vector_search("conformance_items", [1, 0, 0], tenant_id="acme")

    assert await setting("plan_cache_mode") == "auto"
    assert await setting("hnsw.ef_search") == "40"


async def test_argument_of_the_wrong_type_is_named_by_its_number(database: PostgresDatabase):
    with pytest.raises(QueryError, match=r"Argument \$1 does not fit") as caught:
        await database.execute_query("select $1::int", "top secret", tenant_id="acme")

    assert "top secret" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [{"a": float("nan")}, {"a": object()}, {"a": {1, 2}}],
    ids=["not a number", "object", "set"],
)
async def test_value_that_is_no_json_is_refused(database: PostgresDatabase, value: object):
    with pytest.raises(QueryError):
        await database.execute_query("select $1::jsonb", value, tenant_id="acme")


async def test_closed_database_says_so(database_dsns: DatabaseDsns):
    database = create_database(database_dsns.runtime)

    with pytest.raises(ConfigurationError, match="async with"):
        await database.execute_query("select 1", tenant_id="acme")
    assert (await database.health()).status == "down"


@pytest.mark.parametrize("dsn", ["mysql://u:s3cret@h/d", "postgresql://u:s3cret@h:port/d", ""])
async def test_malformed_address_is_a_configuration_error_without_the_password(dsn: str):
    with pytest.raises((ConfigurationError, DatabaseConnectionError)) as caught:
        async with create_database(dsn, timeout=2):
            pass

    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None or "s3cret" not in str(caught.value.__cause__)


async def test_server_that_is_not_there_is_a_retryable_connection_error(tmp_path: Path):
    with pytest.raises(DatabaseConnectionError) as caught:
        async with create_database(f"postgresql://u:p@/d?host={tmp_path}", timeout=2):
            pass

    assert caught.value.retryable


async def test_wrong_password_is_a_connection_error_that_time_does_not_heal(
    database_dsns: DatabaseDsns,
):
    address = database_dsns.runtime.replace("motadata_app:", "motadata_app:x")

    with pytest.raises(DatabaseConnectionError, match="28P01") as caught:
        async with create_database(address, timeout=5):
            pass

    assert not caught.value.retryable


@pytest.mark.parametrize(
    "options", [{"max_connections": 0}, {"timeout": 0}, {"statement_cache_size": -1}], ids=repr
)
def test_options_that_make_no_pool_are_refused(options: dict[str, int]):
    with pytest.raises(ConfigurationError):
        create_database("postgresql://u@h/d", **options)


async def _kill(dsns: DatabaseDsns, process: object) -> None:
    administrator = await asyncpg.connect(dsns.administrator)
    await administrator.execute("select pg_terminate_backend($1, 5000)", process)
    await administrator.close()


async def _kill_when_committing(dsns: DatabaseDsns, process: object) -> None:
    administrator = await asyncpg.connect(dsns.administrator)
    async with asyncio.timeout(10):
        while not await administrator.fetchval(  # noqa: ASYNC110 - the event is the server's
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where pid = $1 and wait_event = 'PgSleep'",
            process,
        ):
            await asyncio.sleep(0)
    await administrator.close()


async def test_health_of_a_pool_in_full_use_is_degraded(lone_connection: PostgresDatabase):
    async with lone_connection.transaction("acme"):
        state = await lone_connection.health()

    assert state.status == "degraded"
    assert "max_connections" in state.detail


async def test_cancellation_makes_no_noise_in_the_log(
    database: PostgresDatabase, caplog: pytest.LogCaptureFixture
):
    async def work() -> None:
        async with database.transaction("acme") as transaction:
            begun.set()
            await transaction.fetch("select pg_sleep(60)")

    begun = asyncio.Event()
    task = asyncio.create_task(work())
    await begun.wait()
    task.cancel()
    await asyncio.wait([task])
    await database.execute_query("select 1", tenant_id="acme")

    assert [record for record in caplog.records if record.levelname in {"WARNING", "ERROR"}] == []
