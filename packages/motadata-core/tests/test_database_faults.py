"""A server that is killed, a server that hangs, a pool in full use, a storm of cancellations."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from motadata.core.database import PostgresDatabase, _types, apply_migrations, create_database
from motadata.core.database._driver import Connection, vector_schema
from motadata.core.embedded import EmbeddedPostgres
from motadata.core.errors import ConfigurationError, DatabaseError, DeadlineExceededError
from motadata.core.errors import ConnectionError as DatabaseConnectionError
from motadata.core.observability import configure_observability
from motadata.core.observability._logging import output
from motadata.core.protocols import Transaction
from motadata.core.resilience import deadline_scope
from motadata.core.testing.database import CONFORMANCE_MIGRATIONS
from motadata.core.testing.fault_proxy import FaultProxy, Faults
from motadata.core.testing.plugin import DatabaseDsns
from motadata.core.testing.storm import StormReport, storm


# These tests break connections.
pytestmark = pytest.mark.usefixtures("drivers_drop_sockets")


INSERT = "insert into conformance_items (tenant_id, id) values ($1, $2)"
IDS = "select id from conformance_items"


@pytest.fixture(scope="module")
def migration_packages() -> tuple[str, ...]:
    return (CONFORMANCE_MIGRATIONS,)


@pytest.fixture
async def own_server() -> AsyncIterator[EmbeddedPostgres]:
    """A server that nobody else uses, for killing. It writes to disk what it acknowledges."""
    folder = tempfile.mkdtemp(prefix="motadata-test-")
    os.chmod(folder, 0o755)  # noqa: PTH101 - root's server runs as another account
    async with EmbeddedPostgres(f"{folder}/postgres", durable=True, keep=False) as server:
        await apply_migrations(
            server.owner_dsn, [CONFORMANCE_MIGRATIONS], runtime_role=server.runtime_role
        )
        yield server
    shutil.rmtree(folder, ignore_errors=True)


def _postmaster(server: EmbeddedPostgres) -> int:
    (file,) = server.directory.rglob("postmaster.pid")
    return int(file.read_text().split()[0])


async def _kill_and_restart(server: EmbeddedPostgres) -> None:
    process = _postmaster(server)
    os.kill(process, signal.SIGKILL)
    async with asyncio.timeout(60):
        while not await _starts(server):  # noqa: ASYNC110 - its children end without a word
            await asyncio.sleep(0.1)


async def _starts(server: EmbeddedPostgres) -> bool:
    try:
        await server.start()
    except ConfigurationError:
        return False
    return True


async def _until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while True:
            met = condition()
            if met if isinstance(met, bool) else await met:
                return
            await asyncio.sleep(0.01)


async def test_killed_server_keeps_what_was_acknowledged_and_nothing_twice(
    own_server: EmbeddedPostgres,
):
    acknowledged: set[str] = set()
    ambiguous: set[str] = set()
    failures: list[Exception] = []
    stopping = asyncio.Event()

    async def write(database: PostgresDatabase, writer: int) -> None:
        number = 0
        while not stopping.is_set():
            number += 1
            key = f"{writer}-{number}"

            async def work(transaction: Transaction, key: str = key) -> None:
                # Not idempotent on purpose: a second commit would fail on the primary key.
                await transaction.execute(INSERT, "acme", key)

            try:
                await database.run_transaction(work, tenant_id="acme", attempts=5)
                acknowledged.add(key)
            except DatabaseConnectionError as error:
                if not error.retryable:
                    ambiguous.add(key)
                await asyncio.sleep(0.05)
            except DatabaseError as error:
                failures.append(error)

    async with create_database(own_server.runtime_dsn, max_connections=4, timeout=5) as database:
        writers = [asyncio.create_task(write(database, number)) for number in range(4)]
        for _ in range(2):
            enough = len(acknowledged) + 50
            await _until(lambda enough=enough: len(acknowledged) >= enough)
            await _kill_and_restart(own_server)
        enough = len(acknowledged) + 20
        await _until(lambda: len(acknowledged) >= enough)
        stopping.set()
        await asyncio.gather(*writers)
        stored = {str(row["id"]) for row in await database.execute_query(IDS, tenant_id="acme")}

    assert failures == []
    assert acknowledged <= stored
    assert stored <= acknowledged | ambiguous


async def test_server_that_hangs_keeps_no_caller_beyond_the_deadline(
    database_dsns: DatabaseDsns,
):
    known = "select count(*) from conformance_items"

    async def in_transaction(database: PostgresDatabase) -> None:
        async with database.transaction("acme") as transaction:
            await transaction.fetch(known)

    async with create_database(database_dsns.runtime, max_connections=2, timeout=20) as database:
        for _ in range(2):
            rows = await database.execute_query("select pg_backend_pid() as pid", tenant_id="acme")
            await database.execute_query(known, tenant_id="acme")
        backend = int(str(rows[0]["pid"]))
        os.kill(backend, signal.SIGSTOP)
        try:
            started = time.monotonic()
            with deadline_scope(0.3), pytest.raises(DeadlineExceededError):
                await database.execute_query(known, tenant_id="acme")
            assert time.monotonic() - started < 5  # the machine may be busy
        finally:
            os.kill(backend, signal.SIGCONT)

        await in_transaction(database)


async def test_full_pool_answers_with_a_typed_error_when_the_deadline_is_over(
    database_dsns: DatabaseDsns,
):
    async with (
        create_database(database_dsns.runtime, max_connections=1) as database,
        database.transaction("acme"),
    ):
        late = []
        for call in (
            lambda: database.execute_query("select 1", tenant_id="globex"),
            lambda: database.run_transaction(_nothing, tenant_id="globex"),
            lambda: database.vector_search("conformance_items", [1, 0, 0], tenant_id="globex"),
        ):
            started = time.monotonic()
            with deadline_scope(0.1), pytest.raises(DeadlineExceededError):
                await call()
            late.append(time.monotonic() - started - 0.1)

        with deadline_scope(0.0), pytest.raises(DeadlineExceededError):
            await database.execute_query("select 1", tenant_id="globex")

    assert max(late) < 5  # not the pool's 30 seconds; the machine may be busy


async def test_statement_within_a_deadline_is_ended_by_it(database_dsns: DatabaseDsns):
    async with create_database(database_dsns.runtime) as database:
        for _ in range(2):
            started = time.monotonic()
            with deadline_scope(0.2), pytest.raises(DeadlineExceededError):
                await database.execute_query("select pg_sleep(60)", tenant_id="acme")
            assert time.monotonic() - started < 10

        with deadline_scope(0.2):
            async with database.transaction("acme") as transaction:
                await transaction.fetch("select 1")


async def test_tenant_with_its_own_pool_does_not_wait_for_another(database_dsns: DatabaseDsns):
    async with (
        create_database(database_dsns.runtime, max_connections=1, tenant_pools=2) as database,
        database.transaction("acme"),
    ):
        rows = await database.execute_query("select 1 as one", tenant_id="globex", timeout=5)
        with pytest.raises(DatabaseConnectionError):
            await database.execute_query("select 1", tenant_id="acme", timeout=0.05)

    assert rows == [{"one": 1}]


async def test_pools_of_tenants_are_bounded_and_idle_ones_make_room(database_dsns: DatabaseDsns):
    count = (
        "select count(*) as n from pg_stat_activity where datname = current_database()"
        " and usename = current_user"
    )
    async with create_database(
        database_dsns.runtime, max_connections=1, tenant_pools=3
    ) as database:
        for number in range(20):
            rows = await database.execute_query(count, tenant_id=f"tenant-{number}")
            assert int(str(rows[0]["n"])) <= 3 + 2  # one for all, one that is just closing

        async with (
            database.transaction("a"),
            database.transaction("b"),
            database.transaction("c"),
        ):
            with pytest.raises(DatabaseConnectionError, match="tenant_pools"):
                await database.execute_query("select 1", tenant_id="d")
        assert await database.execute_query("select 1 as one", tenant_id="d") == [{"one": 1}]


async def test_transaction_that_became_another_tenants_is_rolled_back(
    database_dsns: DatabaseDsns,
):
    async with create_database(database_dsns.runtime, max_connections=1) as database:

        async def work(transaction: Transaction) -> None:
            await transaction.fetch("select set_config('motadata.tenant_id', 'globex', true)")
            await transaction.execute(INSERT, "globex", "forged")

        with pytest.raises(DatabaseError, match="no longer its tenant's"):
            await database.run_transaction(work, tenant_id="acme")

        forged = await database.execute_query(
            "select id from conformance_items where id = 'forged'", tenant_id="globex"
        )
    assert forged == []


async def _storm(database: PostgresDatabase, calls: int) -> StormReport:
    """Run reads and transactions, half of them cancelled: in line, in flight or between."""
    chance = random.Random(5)
    sql = "select $1::int as n, current_setting('motadata.tenant_id') as t, pg_sleep($2) is null"

    async def ask(number: int) -> None:
        tenant = f"tenant-{number % 7}"
        if number % 3:
            rows = await database.execute_query(
                sql, number, chance.random() / 1000, tenant_id=tenant
            )
        else:
            async with database.transaction(tenant) as transaction, transaction.savepoint():
                rows = await transaction.fetch(sql, number, chance.random() / 1000)
        assert (rows[0]["n"], rows[0]["t"]) == (number, tenant)

    return await storm(ask, calls=calls, early=0.1)


async def _connections(dsns: DatabaseDsns) -> int:
    administrator = await asyncpg.connect(dsns.administrator)
    count = await administrator.fetchval(
        "select count(*) from pg_stat_activity where datname = current_database() and usename = $1",
        dsns.runtime_role,
    )
    await administrator.close()
    return int(count)


@pytest.mark.parametrize(
    "calls", [2000, pytest.param(100_000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])]
)
async def test_cancellation_storm_leaks_neither_answers_nor_connections(
    database_dsns: DatabaseDsns, calls: int
):
    async with create_database(database_dsns.runtime, max_connections=6) as database:
        report = await _storm(database, calls)

        assert report.share_cancelled == pytest.approx(0.5, abs=0.1)
        assert report.failures == []
        assert await _connections(database_dsns) <= 6
        async with asyncio.timeout(10):
            await asyncio.gather(*(_hold(database, f"tenant-{n}") for n in range(6)))

    async def all_gone() -> bool:
        return not await _connections(database_dsns)

    await _until(all_gone)


async def _hold(database: PostgresDatabase, tenant: str) -> None:
    async with database.transaction(tenant, timeout=5) as transaction:
        await transaction.fetch("select pg_sleep(0.05)")


async def _answers(database: PostgresDatabase) -> bool:
    try:
        await database.execute_query("select 1", tenant_id="acme")
    except DatabaseError:
        return False
    return True


async def _nothing(transaction: Transaction) -> None:
    await transaction.fetch("select 1")


@contextlib.asynccontextmanager
async def through_a_proxy(
    dsns: DatabaseDsns, *, seed: int = 0
) -> AsyncIterator[tuple[str, FaultProxy]]:
    """Put a proxy before the server; the address goes through it."""
    parts = urlsplit(dsns.runtime)
    folder = parse_qs(parts.query)["host"][0]
    async with FaultProxy(f"{folder}/.s.PGSQL.5432", seed=seed) as proxy:
        role = f"{parts.username}:{parts.password}"
        yield f"{parts.scheme}://{role}@127.0.0.1:{proxy.port}{parts.path}", proxy


async def test_connection_that_falls_silent_while_it_is_made_ends_with_the_deadline(
    database_dsns: DatabaseDsns, monkeypatch: pytest.MonkeyPatch
):
    async with (
        through_a_proxy(database_dsns) as (dsn, proxy),
        create_database(dsn, max_connections=2, timeout=20) as database,
        database.transaction("acme"),
    ):

        async def silent(connection: Connection) -> str | None:
            proxy.faults = Faults(silent=True)
            return await vector_schema(connection)

        monkeypatch.setattr(_types, "vector_schema", silent)
        started = time.monotonic()
        with deadline_scope(0.3), pytest.raises((DatabaseError, DeadlineExceededError)):
            await database.execute_query(IDS, tenant_id="acme")
        assert time.monotonic() - started < 5  # the machine may be busy
        proxy.faults = Faults()


@pytest.mark.parametrize("seed", range(3))
# The driver complains about connections of its own that it had not quite made.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_damaged_answer_is_a_typed_error_and_its_connection_is_not_used_again(
    database_dsns: DatabaseDsns, seed: int
):
    failed = 0
    async with (
        through_a_proxy(database_dsns, seed=seed) as (dsn, proxy),
        create_database(dsn, max_connections=2, timeout=2) as database,
    ):
        proxy.faults = Faults(flip_every=1_000, flip_towards="client")
        for _ in range(40):
            try:
                with deadline_scope(0.2):
                    async with database.transaction("acme") as transaction:
                        await transaction.fetch(IDS)
                        await transaction.fetch("select repeat('x', 50) as text")
            except (DatabaseError, DeadlineExceededError):
                failed += 1
        assert failed > 0

        proxy.faults = Faults()
        proxy.cut()
        await asyncio.sleep(0)
        rows = await database.execute_query("select 'right' as word", tenant_id="acme")
        assert rows == [{"word": "right"}]


async def test_outage_is_told_in_our_own_lines_and_not_on_standard_error(
    own_server: EmbeddedPostgres, capsys: pytest.CaptureFixture[str]
) -> None:
    lines: list[dict[str, object]] = []
    configure_observability(level="WARNING", sink=lambda line: lines.append(dict(line)))
    # An outage of the test before would count as the same one.
    logging.getLogger("asyncpg").handlers.clear()
    try:
        async with create_database(own_server.runtime_dsn) as database:
            await database.execute_query("select 1", tenant_id="acme")
            await own_server.stop()
            # The driver tries after one second, after two more, and after four.
            await asyncio.sleep(4)
            await own_server.start()
            await _until(lambda: _answers(database))
    finally:
        output.configure()

    told = [line for line in lines if line["event"] == "driver_warning"]
    assert len(told) == 1
    assert told[0]["component"] == "database"
    assert set(told[0]["error"]) == {"type"}  # type: ignore[call-overload]  # a mapping
    assert "Traceback" not in capsys.readouterr().err
