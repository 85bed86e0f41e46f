"""The pool, and the binding of each transaction to one tenant."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from motadata.core.database._audit import check_role_and_tables
from motadata.core.database._driver import load_driver, prepare_connection, quote_literal
from motadata.core.database._failures import translate, unreachable
from motadata.core.database._search import search_statement
from motadata.core.database._transaction import PostgresTransaction, finish
from motadata.core.errors import ConfigurationError, QueryError
from motadata.core.errors import ConnectionError as DatabaseConnectionError
from motadata.core.models import Health
from motadata.core.protocols.database import Metric, Row
from motadata.core.tenancy import TenantId, resolve_tenant


if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[asyncpg.Record]

# Sent with COMMIT or ROLLBACK in one message, so that leaving a clean session behind costs no round
# trip of its own, and so that behind a pooler it reaches the server connection that did the work.
_CLEAN: Final = "select pg_catalog.pg_advisory_unlock_all(); close all; unlisten *; reset all"
_HEALTH_TIMEOUT: Final = 1.5
_GRACE: Final = 2.0
"""Seconds that the server has to report its own timeout before the driver gives up."""


class PostgresDatabase:
    """PostgreSQL for one tenant at a time; built by `create_database`."""

    def __init__(
        self, dsn: str, *, max_connections: int, timeout: float, statement_cache_size: int
    ) -> None:
        self._dsn = dsn
        self._max_connections = max_connections
        self._timeout = timeout
        self._statement_cache_size = statement_cache_size
        self._search_path = "motadata, public"
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None

    @asynccontextmanager
    async def transaction(
        self, tenant_id: str | None = None, *, timeout: float | None = None
    ) -> AsyncIterator[PostgresTransaction]:
        """Open a transaction in which only the tenant's rows exist.

        It commits when the block ends and rolls back when an exception leaves it, cancellation
        included. A statement that failed inside condemns it, even if the error was caught.

        Args:
            tenant_id: None means the tenant of the scope.
            timeout: Seconds for waiting for a connection and for each statement.

        Raises:
            TenantRequiredError: No tenant is given and none is in scope.
            ConnectionError: No connection was free in time, or the server is not reachable.
            QueryError: The database refused to commit.
        """
        async with self._transaction(resolve_tenant(tenant_id), timeout) as transaction:
            yield transaction

    async def execute_query(
        self,
        sql: str,
        *args: object,
        tenant_id: str | None = None,
        timeout: float | None = None,
    ) -> list[Row]:
        """Run one statement in a transaction of its own and return its rows.

        Raises:
            TenantRequiredError: No tenant is given and none is in scope.
            ConnectionError: The server is not reachable.
            QueryError: The database refused the statement.
        """
        async with self._transaction(resolve_tenant(tenant_id), timeout) as transaction:
            return await transaction.fetch(sql, *args)

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
        """Return the rows nearest to `vector`, nearest first, each with its `distance`.

        The contract is that of `VectorStore.vector_search`. A filter that is None asks for NULL.

        Raises:
            TenantRequiredError: No tenant is given and none is in scope.
            ConnectionError: The server is not reachable.
            QueryError: A name is no SQL identifier, or the database refused.
        """
        tenant = resolve_tenant(tenant_id)
        sql, arguments = search_statement(
            table,
            vector,
            tenant=tenant,
            limit=limit,
            columns=columns,
            filters=filters or {},
            vector_column=vector_column,
            metric=metric,
        )
        # A generic plan, chosen without the tenant and the vector, is 20 to 30 times slower.
        settings = {
            "plan_cache_mode": "force_custom_plan",
            "hnsw.iterative_scan": "strict_order",
            "hnsw.ef_search": str(max(40, limit)),
        }
        async with self._transaction(tenant, None, settings) as transaction:
            return await transaction.fetch(sql, *arguments)

    async def health(self) -> Health:
        """Say whether the server answers, within two seconds."""
        if self._pool is None:
            return Health("down", detail="The database is not open; use it within `async with`.")
        try:
            async with asyncio.timeout(_HEALTH_TIMEOUT):
                async with self._pool.acquire() as connection:
                    await connection.fetchval("select 1")
        except TimeoutError:
            return Health("down", detail=f"No answer within {_HEALTH_TIMEOUT:g} s.")
        except (OSError, *_pool_failures()) as error:
            return Health("down", detail=str(unreachable(error)))
        return Health("ok")

    async def __aenter__(self) -> Self:
        """Connect, and refuse a role or tables that would not keep tenants apart.

        Raises:
            MissingExtraError: The extra `postgres` is not installed.
            ConfigurationError: The address is malformed, the role could bypass row-level security, a
                table is not isolated, or the vector extension is absent or too old.
            ConnectionError: The server is not reachable.
        """
        driver = load_driver()
        try:
            pool = driver.create_pool(
                self._dsn,
                min_size=1,
                max_size=self._max_connections,
                init=prepare_connection,
                reset=_reset,
                command_timeout=self._timeout + _GRACE,
                timeout=self._timeout,
                statement_cache_size=self._statement_cache_size,
            )
            async with asyncio.timeout(self._timeout):
                await pool
        except (ValueError, driver.exceptions.ClientConfigurationError) as error:
            message = "The database address is malformed."
            raise ConfigurationError(
                message, remedy="Write it as postgresql://role:password@host:port/database."
            ) from error
        except (OSError, TimeoutError, driver.PostgresError, driver.InterfaceError) as error:
            raise unreachable(error) from error
        try:
            async with pool.acquire(timeout=self._timeout) as connection:
                self._search_path = await check_role_and_tables(connection)
        except BaseException:
            pool.terminate()
            raise
        self._pool = pool
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for running transactions to end, then close; after the timeout, close regardless."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(self._timeout):
                await pool.close()
        except TimeoutError:
            pool.terminate()

    @asynccontextmanager
    async def _transaction(
        self, tenant: TenantId, timeout: float | None, settings: Mapping[str, str] | None = None
    ) -> AsyncIterator[PostgresTransaction]:
        seconds = self._timeout if timeout is None else timeout
        if not seconds > 0:
            message = f"The timeout {seconds!r} is not positive."
            raise QueryError(message, remedy="Pass seconds above 0.", tenant_id=tenant)
        pool = self._open_pool()
        connection = await self._begin(pool, tenant, seconds, settings or {})
        transaction = PostgresTransaction(connection, tenant, seconds + _GRACE)
        try:
            yield transaction
            if transaction.failed:
                message = "A statement of the transaction failed; all of it was rolled back."
                raise QueryError(message, remedy="Let its error leave the block.", tenant_id=tenant)
            transaction.closed = True
            await finish(connection, f"commit; {_CLEAN}", timeout=seconds + _GRACE, tenant=tenant)
        finally:
            transaction.closed = True
            await self._release(pool, connection)

    async def _begin(
        self,
        pool: asyncpg.Pool[asyncpg.Record],
        tenant: TenantId,
        timeout: float,
        settings: Mapping[str, str],
    ) -> Connection:
        """Return a connection with an open transaction that is bound to the tenant."""
        script = self._opening(tenant, timeout, settings)
        for attempt in (1, 2):
            connection = await self._acquire(pool, tenant, timeout)
            try:
                await connection.execute(script, timeout=timeout + _GRACE)
            except (OSError, *_pool_failures()) as error:
                await self._release(pool, connection)
                failure = translate(error, tenant_id=tenant)
                if attempt == 2 or not isinstance(failure, DatabaseConnectionError):  # noqa: PLR2004
                    raise failure from error
                # The server went away while the connection lay idle. Nothing ran yet, so a fresh
                # one may try; the others in the pool are as old and go too.
                await pool.expire_connections()
            except BaseException:
                await self._release(pool, connection)
                raise
            else:
                return connection
        raise AssertionError

    def _opening(self, tenant: TenantId, timeout: float, settings: Mapping[str, str]) -> str:
        local = {
            "motadata.tenant_id": str(tenant),
            "search_path": self._search_path,
            "statement_timeout": str(max(1, round(timeout * 1000))),
            **settings,
        }
        calls = ", ".join(
            f"pg_catalog.set_config({quote_literal(name)}, {quote_literal(value)}, true)"
            for name, value in local.items()
        )
        return f"begin; select {calls}"

    async def _acquire(
        self, pool: asyncpg.Pool[asyncpg.Record], tenant: TenantId, timeout: float
    ) -> Connection:
        try:
            return await pool.acquire(timeout=timeout)
        except TimeoutError as error:
            message = f"No database connection was free within {timeout:g} s."
            raise DatabaseConnectionError(
                message,
                remedy="Raise max_connections, or hold transactions for a shorter time.",
                tenant_id=tenant,
            ) from error
        except (OSError, *_pool_failures()) as error:
            raise unreachable(error, tenant_id=tenant) from error

    async def _release(self, pool: asyncpg.Pool[asyncpg.Record], connection: Connection) -> None:
        try:
            await pool.release(connection, timeout=self._timeout)
        except (OSError, TimeoutError, *_pool_failures()):
            # The pool has closed the connection; the outcome of the transaction is decided already.
            pass

    def _open_pool(self) -> asyncpg.Pool[asyncpg.Record]:
        if self._pool is None:
            message = "The database is not open."
            raise ConfigurationError(
                message, remedy="Use it within `async with create_database(…) as database:`."
            )
        return self._pool


def create_database(
    dsn: str,
    *,
    max_connections: int = 10,
    timeout: float = 30.0,
    statement_cache_size: int = 100,
) -> PostgresDatabase:
    """Return the database at `dsn`; entering it connects.

    No session state outlives a transaction, so it also works through PgBouncer in transaction mode:
    from PgBouncer 1.21 on with `max_prepared_statements` set, before with `statement_cache_size=0`.

    Args:
        dsn: `postgresql://…` of a role that can neither bypass row-level security nor own the tables.
        max_connections: Most connections of the pool.
        timeout: Seconds for connecting, for waiting for a connection and for each statement.
        statement_cache_size: Prepared statements kept a connection; 0 keeps none.

    Raises:
        ConfigurationError: A number is not positive.
    """
    if max_connections < 1 or not timeout > 0 or statement_cache_size < 0:
        message = (
            f"max_connections={max_connections!r}, timeout={timeout!r} and "
            f"statement_cache_size={statement_cache_size!r} do not make a pool."
        )
        raise ConfigurationError(message, remedy="Pass at least 1, above 0, and at least 0.")
    return PostgresDatabase(
        dsn,
        max_connections=max_connections,
        timeout=timeout,
        statement_cache_size=statement_cache_size,
    )


async def _reset(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Roll back what did not commit; a clean session was left behind by COMMIT itself."""
    if connection.is_in_transaction():
        await connection.execute(f"rollback; {_CLEAN}")


def _pool_failures() -> tuple[type[Exception], ...]:
    import asyncpg

    return (asyncpg.PostgresError, asyncpg.InterfaceError)
