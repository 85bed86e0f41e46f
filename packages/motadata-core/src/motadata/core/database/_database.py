"""The pool, and the binding of each transaction to one tenant."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Final, Self

from motadata.core.database._audit import check_role_and_tables
from motadata.core.database._driver import (
    Connection,
    Pool,
    connection_class,
    connection_failures,
    load_driver,
    prepare_connection,
    quote_literal,
)
from motadata.core.database._failures import is_outdated, translate, unreachable
from motadata.core.database._search import SEARCH_SETTINGS, search_statement
from motadata.core.database._transaction import PostgresTransaction
from motadata.core.errors import ConfigurationError, QueryError
from motadata.core.errors import ConnectionError as DatabaseConnectionError
from motadata.core.models import Health
from motadata.core.protocols.database import Metric, Row
from motadata.core.tenancy import TenantId, resolve_tenant


_HEALTH_TIMEOUT: Final = 1.5
_GRACE: Final = 2.0
"""Seconds that the server has to report its own timeout before the driver gives up."""
_RETRIES: Final = 1


class PostgresDatabase:
    """PostgreSQL for one tenant at a time; built by `create_database`.

    The text of a statement is code, as trusted as the program around it; what tenants write travels
    in its arguments.
    """

    def __init__(
        self, dsn: str, *, max_connections: int, timeout: float, statement_cache_size: int
    ) -> None:
        self._dsn = dsn
        self._max_connections = max_connections
        self._timeout = timeout
        self._statement_cache_size = statement_cache_size
        self._search_path = ""
        self._pool: Pool | None = None

    def transaction(
        self, tenant_id: str | None = None, *, timeout: float | None = None
    ) -> AbstractAsyncContextManager[PostgresTransaction]:
        """Open a transaction in which only the tenant's rows exist.

        It commits when the block ends and rolls back when an exception leaves it, cancellation
        included. A statement that failed inside condemns it, even if the error was caught.

        Args:
            tenant_id: None means the tenant of the scope.
            timeout: Seconds for waiting for a connection and for each statement.

        Raises:
            TenantRequiredError: No tenant is given and none is in scope.
            ConnectionError: No connection was to be had in time, or it broke. When it broke while
                committing, the error is not `retryable`: the change may be there.
            QueryError: The database refused to commit.
        """
        return self._transaction(resolve_tenant(tenant_id), timeout)

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
        return await self._query(resolve_tenant(tenant_id), timeout, sql, args)

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
        settings = {**SEARCH_SETTINGS, "hnsw.ef_search": str(max(40, limit))}
        return await self._query(tenant, None, sql, arguments, settings)

    async def health(self) -> Health:
        """Say within two seconds whether the server answers; a pool in full use is `degraded`."""
        if self._pool is None:
            return Health("down", detail="The database is not open; use it within `async with`.")
        try:
            async with (
                asyncio.timeout(_HEALTH_TIMEOUT),
                self._borrowed(self._pool, _HEALTH_TIMEOUT / 2) as connection,
            ):
                await connection.fetchval("select 1")
        except TimeoutError:
            return Health("down", detail=f"No answer within {_HEALTH_TIMEOUT:g} s.")
        except DatabaseConnectionError as error:
            is_busy = isinstance(error.__cause__, TimeoutError)
            is_busy = is_busy and self._pool.get_size() >= self._max_connections
            return Health("degraded" if is_busy else "down", detail=str(error))
        except connection_failures() as error:
            return Health("down", detail=str(unreachable(error)))
        return Health("ok")

    async def __aenter__(self) -> Self:
        """Connect, and refuse a role or tables that would not keep tenants apart.

        Raises:
            MissingExtraError: The extra `postgres` is not installed.
            ConfigurationError: The address is malformed, the role could bypass row-level security,
                a table is not isolated, or the vector extension is absent or too old.
            ConnectionError: The server is not reachable.
        """
        if self._pool is not None:
            message = "The database is open already."
            raise ConfigurationError(message, remedy="Share it, or create another one.")
        pool = await self._connect()
        try:
            async with self._borrowed(pool, self._timeout) as connection:
                self._search_path = await check_role_and_tables(connection)
        except connection_failures() as error:
            pool.terminate()
            raise unreachable(error) from error
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

    async def _connect(self) -> Pool:
        driver = load_driver()
        try:
            pool: Pool = driver.create_pool(
                self._dsn,
                min_size=1,
                max_size=self._max_connections,
                init=prepare_connection,
                connection_class=connection_class(),
                command_timeout=self._timeout + _GRACE,
                timeout=self._timeout,
                statement_cache_size=self._statement_cache_size,
            )
            async with asyncio.timeout(self._timeout):
                await pool
        except ValueError:
            # Without its cause, which quotes the address and with it the password.
            message = "The database address is malformed."
            raise ConfigurationError(
                message, remedy="Write it as postgresql://role:password@host:port/database."
            ) from None
        except connection_failures() as error:
            raise unreachable(error) from error
        return pool

    @asynccontextmanager
    async def _borrowed(self, pool: Pool, timeout: float) -> AsyncIterator[Connection]:
        """Lend a connection that belongs to no tenant, for looking at the server itself."""
        connection = await _acquire(pool, None, timeout)
        try:
            yield connection
        finally:
            await _release(pool, connection, timeout)

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
            await transaction.commit()
        except Exception:
            await transaction.roll_back()
            raise
        finally:
            transaction.closed = True
            await _release(pool, connection, seconds)

    async def _query(
        self,
        tenant: TenantId,
        timeout: float | None,
        sql: str,
        args: Sequence[object],
        settings: Mapping[str, str] | None = None,
    ) -> list[Row]:
        """Run one statement alone; once more if a migration has outdated its prepared form."""
        try:
            async with self._transaction(tenant, timeout, settings) as transaction:
                return await transaction.fetch(sql, *args)
        except QueryError as error:
            if not is_outdated(error):
                raise
        async with self._transaction(tenant, timeout, settings) as transaction:
            return await transaction.fetch(sql, *args)

    async def _begin(
        self, pool: Pool, tenant: TenantId, timeout: float, settings: Mapping[str, str]
    ) -> Connection:
        """Return a connection with an open transaction that is bound to the tenant."""
        script = self._opening(tenant, timeout, settings)
        retries = _RETRIES
        while True:
            connection = await _acquire(pool, tenant, timeout)
            try:
                await connection.execute(script, timeout=timeout + _GRACE)
            except connection_failures() as error:
                await _release(pool, connection, timeout)
                failure = translate(error, tenant_id=tenant)
                if not retries or not isinstance(failure, DatabaseConnectionError):
                    raise failure from error
                # The server went away while the connection lay idle. Nothing ran yet, so a fresh
                # one may try; the others in the pool are as old and go too.
                retries -= 1
                await pool.expire_connections()
            except BaseException:
                await _release(pool, connection, timeout)
                raise
            else:
                return connection

    def _opening(self, tenant: TenantId, timeout: float, settings: Mapping[str, str]) -> str:
        """Return the script that opens a transaction: one round trip, nothing beyond its end."""
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

    def _open_pool(self) -> Pool:
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
        dsn: `postgresql://…` of a role that neither bypasses row-level security nor owns tables.
        max_connections: Most connections of the pool.
        timeout: Seconds for connecting, for waiting for a connection and for each statement.
        statement_cache_size: Prepared statements kept a connection; 0 keeps none.

    Raises:
        ConfigurationError: A number does not make a pool.
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


async def _acquire(pool: Pool, tenant: TenantId | None, timeout: float) -> Connection:
    try:
        return await pool.acquire(timeout=timeout)
    except TimeoutError as error:
        message = f"No database connection was to be had within {timeout:g} s."
        raise DatabaseConnectionError(
            message,
            remedy="Raise max_connections, hold transactions for a shorter time, or look whether"
            " the server answers.",
            tenant_id=tenant,
        ) from error
    except connection_failures() as error:
        raise unreachable(error, tenant_id=tenant) from error


async def _release(pool: Pool, connection: Connection, timeout: float) -> None:
    """Give a connection back; the pool rolls back what did not commit, and cleans the session."""
    try:
        await pool.release(connection, timeout=timeout)
    except connection_failures():
        # The pool has dropped the connection. What the transaction came to is decided already, and
        # an error of ours would hide the one that led here.
        pass
