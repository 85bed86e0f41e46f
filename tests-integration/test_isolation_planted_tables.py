"""The isolation property finds the known mistakes around row-level security, each planted here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import asyncpg
import pytest

from motadata.core.errors import QueryError
from motadata.core.models import Health
from motadata.core.protocols.database import Metric, Row
from motadata.core.tenancy import resolve_tenant
from motadata.core.testing.isolation import Leak, TableSite, World, check_isolation
from motadata.core.testing.plugin import DatabaseDsns


# Each mistake is found within a minute; on a quiet machine it takes less than a second.
pytestmark = pytest.mark.timeout(60)

TENANT = "tenant_id = (select current_setting('motadata.tenant_id', true))"
ANY_CASE = "lower(tenant_id) = lower(current_setting('motadata.tenant_id', true))"
TABLE = """
  drop schema if exists planted cascade; create schema planted;
  create table planted.conformance_items (
    tenant_id text, id text, body text, embedding vector(3), primary key (tenant_id, id)
  );
  grant usage on schema planted to {role};
  grant select, insert, update, delete on planted.conformance_items to {role};
"""
SECURED = "alter table planted.conformance_items enable row level security;"
FORCED = f"{SECURED} alter table planted.conformance_items force row level security;"
POLICY = f"create policy p on planted.conformance_items using ({TENANT}) with check ({TENANT});"


@dataclass(frozen=True)
class Mistake:
    """How a table and the code around it are set up; the defaults are right."""

    script: str = f"{FORCED} {POLICY}"
    as_owner: bool = False
    session_level: bool = False
    leaves_open: bool = False


RIGHT = Mistake()
PLANTED = {
    "owner's role without FORCE": Mistake(f"{SECURED} {POLICY}", as_owner=True),
    "no row-level security": Mistake(""),
    "policy that checks no writing": Mistake(
        f"{FORCED} create policy p on planted.conformance_items using ({TENANT}) with check (true);"
    ),
    "policy of reading only, writing open": Mistake(
        f"{FORCED} create policy p on planted.conformance_items for select using ({TENANT});"
        " create policy w on planted.conformance_items for insert with check (true);"
        f" create policy u on planted.conformance_items for update using ({TENANT});"
        f" create policy d on planted.conformance_items for delete using ({TENANT});"
    ),
    "second policy that opens up": Mistake(
        f"{FORCED} {POLICY} create policy q on planted.conformance_items for select using (true);"
    ),
    "policy that compares without case": Mistake(
        f"{FORCED} create policy p on planted.conformance_items using ({ANY_CASE})"
        f" with check ({ANY_CASE});"
    ),
    "setting of the session on a pooled connection": Mistake(session_level=True),
    "transaction left open on a pooled connection": Mistake(leaves_open=True),
}


class CarelessDatabase:
    """A pool as one would write it in an afternoon, with at most one mistake."""

    def __init__(self, pool: asyncpg.Pool | HandMadePool, mistake: Mistake) -> None:
        self.pool = pool
        self.mistake = mistake
        self.bound: dict[int, str] = {}

    async def execute_query(
        self, sql: str, *args: object, tenant_id: str | None = None, timeout: float | None = None
    ) -> list[Row]:
        async with self.transaction(tenant_id) as transaction:
            return await transaction.fetch(sql, *args)

    @asynccontextmanager
    async def transaction(
        self, tenant_id: str | None = None, *, timeout: float | None = None
    ) -> AsyncIterator[CarelessTransaction]:
        tenant = resolve_tenant(tenant_id)
        async with self.pool.acquire() as connection:
            if self.mistake.session_level:
                await self._bind_session(connection, tenant)
                yield CarelessTransaction(connection)
            else:
                async with connection.transaction():
                    await self._bind(connection, tenant, local=True)
                    yield CarelessTransaction(connection)

    async def vector_search(
        self,
        table: str,
        vector: Sequence[float],
        *,
        limit: int = 10,
        columns: Sequence[str] = ("*",),
        filters: Mapping[str, object] | None = None,
        vector_column: str = "embedding",
        metric: Metric = "cosine",
        tenant_id: str | None = None,
    ) -> list[Row]:
        sql = f"select {', '.join(columns)} from {table} limit {limit}"
        return await self.execute_query(sql, tenant_id=tenant_id)

    async def health(self) -> Health:
        return Health("ok")

    async def _bind_session(self, connection: asyncpg.Connection, tenant: str) -> None:
        """Save a round trip where the connection was the tenant's last, as far as one remembers."""
        process = connection.get_server_pid()
        if self.bound.get(process) != tenant:
            self.bound[process] = tenant
            await asyncio.sleep(0)
            await self._bind(connection, tenant, local=False)

    async def _bind(self, connection: asyncpg.Connection, tenant: str, *, local: bool) -> None:
        await connection.execute(
            "select set_config('motadata.tenant_id', $1, $2)", str(tenant), local
        )


class HandMadePool:
    """Connections in a queue; one whose caller gave up comes back with its transaction open."""

    def __init__(self, connections: Sequence[asyncpg.Connection]) -> None:
        self.free: asyncio.Queue[asyncpg.Connection] = asyncio.Queue()
        for connection in connections:
            self.free.put_nowait(connection)

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[HandMadeConnection]:
        connection = await self.free.get()
        try:
            yield HandMadeConnection(connection)
        finally:
            self.free.put_nowait(connection)


class HandMadeConnection:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection
        self.is_mine = True

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        self.is_mine = self.connection.is_in_transaction()
        if not self.is_mine:
            await self.connection.execute("begin")
        try:
            yield
        except Exception:
            await self.connection.execute("rollback")
            raise
        await self.connection.execute("commit")

    async def execute(self, sql: str, *args: object) -> None:
        if not self.is_mine:
            await self.connection.execute(sql, *args)

    async def fetch(self, sql: str, *args: object) -> list[asyncpg.Record]:
        return await self.connection.fetch(sql, *args)


class CarelessTransaction:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection

    async def execute(self, sql: str, *args: object) -> int:
        await self.fetch(sql, *args)
        return 0

    async def fetch(self, sql: str, *args: object) -> list[Row]:
        try:
            return [dict(row) for row in await self.connection.fetch(sql, *args)]
        except asyncpg.PostgresError as error:
            message = f"{error} ({error.sqlstate})"
            raise QueryError(message, remedy="None.") from error


async def keep(connection: asyncpg.Connection) -> None:
    """Leave a returned connection as it is."""


@asynccontextmanager
async def planted_world(dsns: DatabaseDsns, mistake: Mistake) -> AsyncIterator[World]:
    owner = await asyncpg.connect(dsns.owner)
    dsn = dsns.owner if mistake.as_owner else dsns.runtime
    path = {"search_path": "planted, motadata, public"}
    async with AsyncExitStack() as stack:
        stack.push_async_callback(owner.close)
        stack.push_async_callback(owner.execute, "drop schema if exists planted cascade")
        await owner.execute(TABLE.format(role=dsns.runtime_role) + mistake.script)
        if mistake.leaves_open:
            connections = [await asyncpg.connect(dsn, server_settings=path) for _ in range(2)]
            for connection in connections:
                stack.push_async_callback(connection.close)
            pool = HandMadePool(connections)
        else:
            reset = keep if mistake.session_level else None
            pool = await stack.enter_async_context(
                asyncpg.create_pool(dsn, min_size=2, max_size=2, reset=reset, server_settings=path)
            )
        database = CarelessDatabase(pool, mistake)
        yield await stack.enter_async_context(World([TableSite(database)]))


def test_a_table_without_mistakes_passes(database_dsns: DatabaseDsns):
    check_isolation(lambda: planted_world(database_dsns, RIGHT), examples=10, operations=1_000)


@pytest.mark.parametrize("mistake", PLANTED.values(), ids=PLANTED)
def test_a_planted_mistake_around_a_table_is_found(database_dsns: DatabaseDsns, mistake: Mistake):
    with pytest.raises(Leak):
        check_isolation(lambda: planted_world(database_dsns, mistake), shrink=False)
