"""The database behind a real PgBouncer in transaction mode: the contract, and what tenants share.

Skipped where none is installed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg
import pytest

from motadata.core.database import PostgresDatabase, create_database
from motadata.core.errors import QueryError
from motadata.core.protocols import Transaction
from motadata.core.testing.database import CONFORMANCE_MIGRATIONS, DatabaseConformance
from motadata.core.testing.plugin import DatabaseDsns


PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed")


@pytest.fixture(scope="module")
def migration_packages() -> tuple[str, ...]:
    return (CONFORMANCE_MIGRATIONS,)


@pytest.fixture(scope="module")
def pooler(database_dsns: DatabaseDsns) -> Iterator[str]:
    """Address of a PgBouncer that has two server connections for everybody."""
    assert PROGRAM is not None
    address = urlsplit(database_dsns.runtime)
    server = parse_qs(address.query)["host"][0]
    user, password = unquote(str(address.username)), unquote(str(address.password))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="motadata-pgbouncer-"))
    folder.chmod(0o755)
    (folder / "users").write_text(f'"{user}" "{password}"\n')
    (folder / "config").write_text(
        f"[databases]\n* = host={server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nunix_socket_dir =\nauth_type = plain\n"
        f"auth_file = {folder / 'users'}\npool_mode = transaction\ndefault_pool_size = 2\n"
        f"max_client_conn = 100\nlogfile = {folder / 'log'}\n"
    )
    # The server's socket is open to the server's own account alone.
    owner = Path(server).owner()
    account = ["--user", owner] if os.getuid() == 0 else []
    if account:
        shutil.chown(folder, owner)
    process = subprocess.Popen(
        [PROGRAM, "--quiet", *account, str(folder / "config")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"postgresql://{user}:{password}@127.0.0.1:{port}{address.path}"
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def pooled(pooler: str) -> AsyncIterator[PostgresDatabase]:
    """More connections than the pooler has to the server."""
    async with asyncio.timeout(20):
        while not await _listens(pooler):  # noqa: ASYNC110 - the event is the pooler's
            await asyncio.sleep(0.02)
    async with create_database(pooler, max_connections=8, statement_cache_size=0) as database:
        yield database


class ListeningPastThePooler:
    """A database behind the pooler, whose listening takes a connection to the server itself.

    As a user has it who needs both: what is notified through the pooler is heard beside it.
    """

    def __init__(self, pooled: PostgresDatabase, direct: PostgresDatabase) -> None:
        self._pooled = pooled
        self.listen = direct.listen

    def __getattr__(self, name: str) -> Callable[..., object]:
        return getattr(self._pooled, name)


class TestPostgresDatabaseBehindAPoolerKeepsTheContract(DatabaseConformance):
    @pytest.fixture
    async def database(
        self, pooled: PostgresDatabase, database_dsns: DatabaseDsns
    ) -> AsyncIterator[ListeningPastThePooler]:
        async with create_database(database_dsns.runtime, max_connections=1) as direct:
            yield ListeningPastThePooler(pooled, direct)


async def test_tenants_stay_apart_on_shared_server_connections(pooled: PostgresDatabase):
    tenants = [f"tenant-{number}" for number in range(12)]
    insert = (
        "insert into conformance_items (tenant_id, id, body, embedding) values ($1, $2, $3, $4)"
    )

    async def live(tenant: str) -> None:
        for number in range(6):
            await pooled.execute_query(
                insert, tenant, str(number), tenant, [number, 1, 0], tenant_id=tenant
            )
            async with pooled.transaction(tenant) as transaction:
                seen = await transaction.fetch("select distinct tenant_id from conformance_items")
                process = [
                    await transaction.fetch_value("select pg_backend_pid()") for _ in range(2)
                ]
            rows = await pooled.vector_search(
                "conformance_items", [1, 0, 0], columns=("tenant_id",), tenant_id=tenant
            )
            assert [row["tenant_id"] for row in seen] == [tenant]
            assert {row["tenant_id"] for row in rows} == {tenant}
            assert process[0] == process[1]

    await asyncio.gather(*(live(tenant) for tenant in tenants))


async def test_nothing_of_a_session_stays_on_the_server_connection(pooled: PostgresDatabase):
    for _ in range(4):
        async with pooled.transaction("acme") as transaction:
            await transaction.execute("set work_mem = '1234kB'")
            await transaction.execute("set motadata.tenant_id = 'acme'")
            await transaction.execute("create temporary table traces as select 1")
            await transaction.fetch("select pg_advisory_lock(42)")

    for _ in range(4):
        rows = await pooled.execute_query(
            "select current_setting('work_mem') as memory, to_regclass('pg_temp.traces') as traces,"
            " current_setting('motadata.tenant_id') as tenant",
            tenant_id="globex",
        )
        assert rows == [{"memory": "4MB", "traces": None, "tenant": "globex"}]


async def test_savepoints_and_bulk_inserts_work_behind_the_pooler(pooled: PostgresDatabase):
    rows = [("bulk", str(number), [number, 0, 0]) for number in range(2500)]

    async with pooled.transaction("bulk") as transaction:
        await transaction.insert_many("conformance_items", ("tenant_id", "id", "embedding"), rows)
        with pytest.raises(QueryError):
            await _delete_and_fail(transaction)

    counted = await pooled.execute_query(
        "select count(*) as n from conformance_items", tenant_id="bulk"
    )
    assert counted == [{"n": len(rows)}]


async def _delete_and_fail(transaction: Transaction) -> None:
    async with transaction.savepoint():
        await transaction.execute("delete from conformance_items")
        await transaction.execute("select nothing_of_that_name")


async def _listens(address: str) -> bool:
    try:
        connection = await asyncpg.connect(address, statement_cache_size=0)
    except OSError:
        return False
    await connection.close()
    return True
