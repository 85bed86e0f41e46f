"""Statements end with their caller's deadline, and so does what is none: listening, opening."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from urllib.parse import parse_qs, urlsplit

import pytest

from motadata.core.database import PostgresDatabase, create_database
from motadata.core.errors import ConnectionError as DatabaseConnectionError
from motadata.core.errors import DeadlineExceededError, QueryError
from motadata.core.resilience import deadline_scope
from motadata.core.testing.database import CONFORMANCE_MIGRATIONS
from motadata.core.testing.fault_proxy import FaultProxy, Faults
from motadata.core.testing.lived_time import LivedTime
from motadata.core.testing.plugin import DatabaseDsns


# These tests break connections.
pytestmark = pytest.mark.usefixtures("drivers_drop_sockets")

LATE = 0.1
"""Seconds above a deadline, as the process lives them; 0.05 are promised, a hang takes more."""


@pytest.fixture(scope="module")
def migration_packages() -> tuple[str, ...]:
    return (CONFORMANCE_MIGRATIONS,)


@asynccontextmanager
async def through_a_proxy(dsns: DatabaseDsns) -> AsyncIterator[tuple[str, FaultProxy]]:
    """Put a proxy before the server; the address goes through it."""
    parts = urlsplit(dsns.runtime)
    folder = parse_qs(parts.query)["host"][0]
    async with FaultProxy(f"{folder}/.s.PGSQL.5432") as proxy:
        role = f"{parts.username}:{parts.password}"
        yield f"{parts.scheme}://{role}@127.0.0.1:{proxy.port}{parts.path}", proxy


@asynccontextmanager
async def ended_by_the_deadline(seconds: float) -> AsyncIterator[None]:
    async with LivedTime() as lived:
        with pytest.raises(DeadlineExceededError), deadline_scope(seconds):
            yield
    assert lived.seconds < seconds + LATE


@contextmanager
def halted(process: int) -> Iterator[None]:
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


async def test_deadline_ends_a_read_in_one_round_trip_under_its_own_name(
    database_dsns: DatabaseDsns,
):
    sql = "select pg_sleep($1), 1 as one"
    async with create_database(database_dsns.runtime, max_connections=1) as database:
        known = await database.execute_query(sql, 0, tenant_id="acme")

        with deadline_scope(0.2), pytest.raises(DeadlineExceededError) as caught:
            await database.execute_query(sql, 60, tenant_id="acme")

        assert await database.execute_query(sql, 0, tenant_id="acme") == known
    assert (caught.value.tenant_id, caught.value.retryable) == ("acme", True)


async def test_who_cancels_a_statement_from_outside_is_not_taken_for_the_deadline(
    database: PostgresDatabase,
):
    async def cancelled_by_another() -> None:
        async with database.transaction("acme") as transaction:
            pid = await transaction.fetch_value("select pg_backend_pid()")
            sleeping = asyncio.create_task(transaction.fetch("select pg_sleep(60)"))
            while not sleeping.done():  # what has not begun cannot be cancelled yet
                await database.execute_query("select pg_cancel_backend($1)", pid, tenant_id="acme")
            await sleeping

    with deadline_scope(60), pytest.raises(QueryError):
        await cancelled_by_another()


async def test_commit_that_the_deadline_ends_is_not_said_to_be_repeatable(
    database: PostgresDatabase,
):
    with ExitStack() as servers:
        async with AsyncExitStack() as block:
            transaction = await block.enter_async_context(database.transaction("acme"))
            pid = await transaction.fetch_value("select pg_backend_pid()")
            servers.enter_context(halted(int(str(pid))))

            with deadline_scope(0.1), pytest.raises(DatabaseConnectionError) as caught:
                await block.aclose()

    assert caught.value.retryable is False


async def listen(database: PostgresDatabase) -> None:
    async with database.listen("items", tenant_id="acme"):
        pass


async def test_listening_to_a_silent_server_ends_with_the_deadline(database_dsns: DatabaseDsns):
    async with (
        through_a_proxy(database_dsns) as (dsn, proxy),
        create_database(dsn, timeout=20) as database,
    ):
        proxy.faults = Faults(silent=True)
        waiting = asyncio.create_task(listen(database))
        await asyncio.sleep(0)
        # Behind another, who holds the connection and has more time.
        async with ended_by_the_deadline(0.2):
            await listen(database)
        waiting.cancel()
        await asyncio.wait((waiting,))
        async with ended_by_the_deadline(0.2):
            await listen(database)
        proxy.faults = Faults()
        proxy.cut()

        async with database.listen("items", tenant_id="acme") as notifications:
            async with database.transaction("acme") as transaction:
                await transaction.notify("items", "heard")
            async with asyncio.timeout(15):
                assert (await anext(notifications)).payload == "heard"


async def test_who_waited_for_a_notification_until_the_deadline_can_go_on_waiting(
    database: PostgresDatabase,
):
    async with database.listen("items", tenant_id="acme") as notifications:
        async with ended_by_the_deadline(0.1):
            await anext(notifications)
        async with database.transaction("acme") as transaction:
            await transaction.notify("items", "heard")

        async with asyncio.timeout(15):
            assert (await anext(notifications)).payload == "heard"


async def test_nobody_waits_for_the_pool_of_another_tenant_to_close_but_who_leaves(
    database_dsns: DatabaseDsns,
):
    backend = "select pg_backend_pid() as pid"
    before = asyncio.all_tasks()
    silent = 0
    try:
        async with create_database(
            database_dsns.runtime, max_connections=1, tenant_pools=1, timeout=20
        ) as database:
            rows = await database.execute_query(backend, tenant_id="acme")
            silent = int(str(rows[0]["pid"]))
            os.kill(silent, signal.SIGSTOP)
            async with LivedTime() as lived:
                await database.execute_query(backend, tenant_id="globex")
        assert asyncio.all_tasks() - before == set()
    finally:
        os.kill(silent, signal.SIGCONT)

    # The connection that does not answer is waited for, for a second.
    assert lived.seconds < 0.8


async def test_pools_that_are_closing_are_bounded(database_dsns: DatabaseDsns):
    backend = "select pg_backend_pid() as pid"
    async with create_database(
        database_dsns.runtime, max_connections=1, tenant_pools=1, timeout=20
    ) as database:
        halted: list[int] = []
        try:
            for tenant in ("a", "b"):
                rows = await database.execute_query(backend, tenant_id=tenant)
                halted.append(int(str(rows[0]["pid"])))
                os.kill(halted[-1], signal.SIGSTOP)
            async with ended_by_the_deadline(0.2):
                await database.execute_query(backend, tenant_id="c")
        finally:
            for process in halted:
                os.kill(process, signal.SIGCONT)

        assert await database.execute_query("select 1 as one", tenant_id="c") == [{"one": 1}]


async def test_opening_and_health_of_a_silent_server_end_with_the_deadline(
    database_dsns: DatabaseDsns,
):
    async with (
        through_a_proxy(database_dsns) as (dsn, proxy),
        create_database(dsn, timeout=20) as database,
    ):
        proxy.faults = Faults(silent=True)
        async with ended_by_the_deadline(0.2), create_database(dsn, timeout=20):
            pass
        async with ended_by_the_deadline(0.2):
            await database.health()
        proxy.faults = Faults()
        proxy.cut()


async def test_tasks_of_the_background_have_no_deadline(
    database_dsns: DatabaseDsns, begun_tasks: list[tuple[str, float | None]]
):
    with deadline_scope(30):
        async with create_database(database_dsns.runtime, tenant_pools=1) as database:
            await listen(database)
            for tenant in ("acme", "globex"):
                await database.execute_query("select 1", tenant_id=tenant)

    assert ("Listeners._keep", None) in begun_tasks
    # The pool that made room; the others are closed by who leaves the database.
    assert ("LendingPool.close", None) in begun_tasks
