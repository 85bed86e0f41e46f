"""Reads in one round trip: bound to their tenant, without effect, without a trace."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import AsyncIterator

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from motadata.core.database import PostgresDatabase, create_database
from motadata.core.database._reads import looks_like_a_read
from motadata.core.database._wire import InFront, execution, in_front_of
from motadata.core.errors import QueryError
from motadata.core.testing.database import CONFORMANCE_MIGRATIONS
from motadata.core.testing.plugin import DatabaseDsns
from motadata.core.testing.storm import storm


INSERT = "insert into conformance_items (tenant_id, id, body) values ($1, $2, $3)"
BODIES = "select body from conformance_items order by id"


@pytest.fixture(scope="module")
def migration_packages() -> tuple[str, ...]:
    return (CONFORMANCE_MIGRATIONS,)


@pytest.fixture
async def lone(database_dsns: DatabaseDsns) -> AsyncIterator[PostgresDatabase]:
    """A pool of one, so that whatever a read leaves behind meets the next user."""
    async with create_database(database_dsns.runtime, max_connections=1, timeout=5) as database:
        for tenant in ("acme", "globex"):
            await database.execute_query("delete from conformance_items", tenant_id=tenant)
        yield database


async def test_known_read_opens_no_transaction_block(lone: PostgresDatabase):
    sql = "select current_setting('transaction_read_only') as read_only, txid_current_if_assigned()"

    first = await lone.execute_query(sql, tenant_id="acme")
    second = await lone.execute_query(sql, tenant_id="acme")

    assert [rows[0]["read_only"] for rows in (first, second)] == ["off", "on"]


async def test_reads_of_one_connection_see_their_own_tenant(lone: PostgresDatabase):
    for tenant in ("acme", "globex"):
        await lone.execute_query(INSERT, tenant, "1", tenant, tenant_id=tenant)

    for tenant in ("acme", "globex") * 5:
        assert await lone.execute_query(BODIES, tenant_id=tenant) == [{"body": tenant}]


async def test_statement_that_writes_while_it_reads_takes_effect_once(
    lone: PostgresDatabase, database_dsns: DatabaseDsns
):
    owner = await asyncpg.connect(database_dsns.owner)
    await owner.execute(
        "create or replace function motadata.remember(key text) returns text language sql as"
        " $$ insert into motadata.conformance_items (tenant_id, id)"
        " values (current_setting('motadata.tenant_id'), key) returning id $$"
    )
    await owner.close()

    for number in range(4):
        rows = await lone.execute_query("select remember($1)", str(number), tenant_id="acme")
        assert rows == [{"remember": str(number)}]

    rows = await lone.execute_query("select id from conformance_items", tenant_id="acme")
    assert sorted(str(row["id"]) for row in rows) == ["0", "1", "2", "3"]


async def test_read_leaves_nothing_in_the_session(
    lone: PostgresDatabase, database_dsns: DatabaseDsns
):
    owner = await asyncpg.connect(database_dsns.owner)
    await owner.execute(
        "create or replace function motadata.litter() returns text language plpgsql as $$ begin"
        " perform set_config('work_mem', '1234kB', false), pg_advisory_lock(42);"
        " return set_config('motadata.tenant_id', 'acme', false); end $$"
    )
    await owner.close()
    for _ in range(3):
        await lone.execute_query("select litter()", tenant_id="acme")
    sql = (
        "select current_setting('motadata.tenant_id') as tenant,"
        " current_setting('work_mem') as mem, (select count(*) from pg_locks"
        " where locktype = 'advisory' and pid = pg_backend_pid()) as n"
    )

    async with lone.transaction("globex") as transaction:
        in_block = await transaction.fetch(sql)
    await lone.execute_query("select litter()", tenant_id="acme")
    await lone.execute_query(sql, tenant_id="globex")
    await lone.execute_query("select litter()", tenant_id="acme")
    as_read = await lone.execute_query(sql, tenant_id="globex")

    assert in_block == as_read == [{"tenant": "globex", "mem": "4MB", "n": 0}]


async def test_argument_that_cannot_be_encoded_leaves_the_connection_usable(
    lone: PostgresDatabase,
):
    sql = "select $1::int as it"
    assert await lone.execute_query(sql, 1, tenant_id="acme") == [{"it": 1}]

    for _ in range(3):
        with pytest.raises(QueryError, match="Argument"):
            await lone.execute_query(sql, "no number", tenant_id="acme")
        assert await lone.execute_query(sql, 2, tenant_id="globex") == [{"it": 2}]


async def test_failing_read_is_an_error_and_the_next_one_works(lone: PostgresDatabase):
    sql = "select 1 / $1::int as it"
    assert await lone.execute_query(sql, 1, tenant_id="acme") == [{"it": 1}]

    with pytest.raises(QueryError, match="22012"):
        await lone.execute_query(sql, 0, tenant_id="acme")

    assert await lone.execute_query(sql, 1, tenant_id="acme") == [{"it": 1}]


async def test_read_that_takes_too_long_is_ended_by_the_server(lone: PostgresDatabase):
    sql = "select pg_sleep($1)"
    await lone.execute_query(sql, 0, tenant_id="acme")

    with pytest.raises(QueryError, match="in time"):
        await lone.execute_query(sql, 60, tenant_id="acme", timeout=0.1)

    assert len(await lone.execute_query(sql, 0, tenant_id="acme")) == 1


async def test_deallocated_statements_go_unnoticed(lone: PostgresDatabase):
    await lone.execute_query(BODIES, tenant_id="acme")
    async with lone.transaction("acme") as transaction:
        await transaction.execute("deallocate all")

    assert await lone.execute_query(BODIES, tenant_id="acme") == []
    assert await lone.execute_query(BODIES, tenant_id="acme") == []


async def test_migration_under_a_known_read_goes_unnoticed(
    lone: PostgresDatabase, database_dsns: DatabaseDsns
):
    owner = await asyncpg.connect(database_dsns.owner)
    sql = "select * from conformance_items"
    for _ in range(2):
        await lone.execute_query(sql, tenant_id="acme")

    await owner.execute("alter table motadata.conformance_items add column newer int")
    await owner.close()

    for _ in range(2):
        assert await lone.execute_query(sql, tenant_id="acme") == []


async def test_read_survives_the_end_of_its_connection(
    lone: PostgresDatabase, database_dsns: DatabaseDsns
):
    """The backend dies while it serves a read: the same call answers from another."""
    sql = "select pg_sleep($1), pg_backend_pid() as pid"
    pid = (await lone.execute_query(sql, 0, tenant_id="acme"))[0]["pid"]
    task = asyncio.create_task(lone.execute_query(sql, 0.2, tenant_id="acme"))
    administrator = await asyncpg.connect(database_dsns.administrator)
    async with asyncio.timeout(10):
        while not await administrator.fetchval(  # noqa: ASYNC110 - the event is the server's
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where pid = $1 and wait_event = 'PgSleep'",
            pid,
        ):
            await asyncio.sleep(0)
    await administrator.close()

    rows = await task

    assert rows[0]["pid"] != pid


async def test_storm_of_cancelled_reads_gives_no_one_anothers_answer(
    database_dsns: DatabaseDsns,
):
    chance = random.Random(11)
    sql = "select $1::int as n, current_setting('motadata.tenant_id') as t, pg_sleep($2) is null"

    async with create_database(database_dsns.runtime, max_connections=4) as database:

        async def ask(number: int) -> None:
            tenant = f"tenant-{number % 11}"
            rows = await database.execute_query(
                sql, number, chance.random() / 400, tenant_id=tenant
            )
            assert (rows[0]["n"], rows[0]["t"]) == (number, tenant)

        report = await storm(ask, calls=1_500, early=0.1)

        assert report.share_cancelled == pytest.approx(0.5, abs=0.1)
        assert report.failures == []
        async with (
            database.transaction("a", timeout=5),
            database.transaction("b", timeout=5),
            database.transaction("c", timeout=5),
            database.transaction("d", timeout=5),
        ):
            pass


@pytest.mark.parametrize(
    "sql",
    [
        "insert into t values (1)",
        "with x as (insert into t values (1) returning 1) select * from x",
        "WITH x AS (DELETE FROM t RETURNING 1) SELECT * FROM x",
        "select * from t for update",
        "select * from t for key share",
        "select 1 into t",
        "select set_config('a.b', 'c', false)",
        "select pg_advisory_lock(1)",
        "select nextval('s')",
        "call p()",
        "do $$ begin commit; end $$",
        "explain analyze delete from t",
        "lock table t",
        "listen x",
        "",
    ],
)
def test_statement_that_is_no_read_is_not_taken_for_one(sql: str):
    assert not looks_like_a_read(sql)


@given(st.sampled_from(["", " ", "\n-- why\n", "/* select */ "]), st.text("abc*, ", max_size=20))
def test_plain_select_is_a_read(noise: str, columns: str):
    assert looks_like_a_read(f"{noise}SELECT {columns} from t where tenant_id = $1")


@given(
    st.from_regex(r"[a-z_]{1,20}", fullmatch=True),
    st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=5),
)
def test_message_holds_its_name_and_arguments(name: str, arguments: list[str]):
    data = execution(name, arguments)

    kind, length = data[:1], struct.unpack("!i", data[1:5])[0]
    bind, rest = data[5 : 1 + length], data[1 + length :]
    assert (kind, rest) == (b"B", b"E\0\0\0\x09\0\0\0\0\0")
    portal, statement, values = bind.split(b"\0", 2)
    formats, count = struct.unpack("!hh", values[:4])
    assert (portal, statement.decode(), formats, count) == (b"", name, 0, len(arguments))
    position, found = 4, []
    for _ in range(count):
        size = struct.unpack("!i", values[position : position + 4])[0]
        found.append(values[position + 4 : position + 4 + size].decode())
        position += 4 + size
    assert (found, values[position:]) == (arguments, b"\0\0")


def test_what_is_put_in_front_leaves_with_the_next_write_or_never():
    class Transport:
        def __init__(self) -> None:
            self.sent: list[bytes] = []
            self.write = self.sent.append

    transport = Transport()
    in_front = in_front_of(transport)
    assert isinstance(in_front, InFront)

    in_front.put(b"binding ")
    transport.write(b"statement")
    transport.write(b"other")
    in_front.put(b"binding ")
    in_front.clear()
    transport.write(b"third")

    assert transport.sent == [b"binding statement", b"other", b"third"]
