"""Work on pooled connections: a transaction block, or a read in one round trip."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from motadata.core.database._binding import ISOLATION_LEVELS, opening_script, read_binding
from motadata.core.database._driver import Connection, connection_failures, driver_failures
from motadata.core.database._failures import is_outdated, translate
from motadata.core.database._lending import LendingPool
from motadata.core.database._limits import Limit
from motadata.core.database._pools import Pools
from motadata.core.database._reads import Reads
from motadata.core.database._search import search_settings
from motadata.core.database._transaction import PostgresTransaction
from motadata.core.errors import ConnectionError as DatabaseConnectionError
from motadata.core.errors import QueryError
from motadata.core.observability import statement_call
from motadata.core.protocols.database import Isolation, Row


_RETRIES: Final = 1
_READ_ONLY: Final = "25006"
"""SQLSTATE of a statement that writes in a read-only transaction."""
_UNKNOWN_STATEMENT: Final = "26000"
"""SQLSTATE of a prepared statement that somebody deallocated."""


class Work:
    """What is done on the connections of an open database, each piece for one tenant.

    Args:
        pools: Where connections come from.
        search_path: Where unqualified names are looked up.
    """

    def __init__(self, pools: Pools, search_path: str) -> None:
        self.pools = pools
        self._search_path = search_path
        self._reads = Reads()

    async def query(
        self,
        limit: Limit,
        sql: str,
        args: Sequence[object],
        *,
        neighbours: int | None = None,
    ) -> list[Row]:
        """Run one statement alone; once more if a migration has outdated its prepared form."""
        if self._reads.is_read(sql):
            with statement_call(sql, tenant_id=limit.tenant):
                rows = await self._read(limit, sql, args, neighbours)
            if rows is not None:
                return rows
        settings = search_settings(neighbours) if neighbours is not None else {}
        try:
            async with self.transaction(limit, settings=settings) as transaction:
                return await transaction.fetch(sql, *args)
        except QueryError as error:
            if not is_outdated(error.__cause__):
                raise
        async with self.transaction(limit, settings=settings) as transaction:
            return await transaction.fetch(sql, *args)

    async def _read(
        self, limit: Limit, sql: str, args: Sequence[object], neighbours: int | None
    ) -> list[Row] | None:
        """Run one statement in a read-only transaction and one round trip.

        Returns:
            Its rows; None when it must run in a transaction block instead: the connection does not
            know it yet, it writes, or what broke broke without effect, for it only reads.
        """
        pool = await self.pools.take(limit.tenant)
        try:
            connection = await pool.acquire(tenant=limit.tenant, timeout=limit.of_server())
            try:
                binding = read_binding(
                    limit.tenant,
                    search_path=self._search_path,
                    timeout=limit.of_server(),
                    neighbours=neighbours,
                )
                records = await connection.read_bound(binding, sql, args, timeout=limit.seconds())
            except driver_failures() as error:
                limit.drop_if_silent(connection, error)
                await self._consider(error, limit, pool, sql)
                return None
            finally:
                await pool.release(connection, timeout=limit.seconds())
        finally:
            self.pools.give_back(limit.tenant)
        return None if records is None else [dict(record.items()) for record in records]

    async def _consider(self, error: Exception, limit: Limit, pool: LendingPool, sql: str) -> None:
        """Raise what a failed read means, unless another way may serve."""
        if getattr(error, "sqlstate", None) == _READ_ONLY:
            self._reads.writes(sql)
            return
        failure = translate(error, tenant_id=limit.tenant)
        if isinstance(failure, DatabaseConnectionError):
            if not failure.retryable:
                raise failure from error
        elif not is_outdated(error):
            raise failure from error
        state = getattr(error, "sqlstate", None)
        if isinstance(failure, DatabaseConnectionError) or state == _UNKNOWN_STATEMENT:
            # Gone, or without its prepared statements: the others in the pool are as old.
            await pool.expire()

    @asynccontextmanager
    async def transaction(
        self,
        limit: Limit,
        *,
        isolation: Isolation = "read_committed",
        settings: Mapping[str, str] | None = None,
    ) -> AsyncIterator[PostgresTransaction]:
        """Open a transaction, commit it when the block ends, roll it back when that fails."""
        if isolation not in ISOLATION_LEVELS:
            message = f"{isolation!r} is no isolation level."
            raise QueryError(message, remedy=f"Use one of {', '.join(ISOLATION_LEVELS)}.")
        pool = await self.pools.take(limit.tenant)
        try:
            connection = await self._begin(pool, limit, isolation, settings or {})
            transaction = PostgresTransaction(connection, limit.tenant, limit)
            try:
                yield transaction
                await transaction.commit()
            except Exception:
                await transaction.roll_back()
                raise
            finally:
                transaction.closed = True
                await pool.release(connection, timeout=limit.seconds())
        finally:
            self.pools.give_back(limit.tenant)

    async def _begin(
        self, pool: LendingPool, limit: Limit, isolation: Isolation, settings: Mapping[str, str]
    ) -> Connection:
        """Return a connection with an open transaction that is bound to the tenant."""
        retries = _RETRIES
        while True:
            connection = await pool.acquire(tenant=limit.tenant, timeout=limit.of_server())
            try:
                script = opening_script(
                    limit.tenant,
                    isolation=isolation,
                    search_path=self._search_path,
                    timeout=limit.of_server(),
                    settings=settings,
                )
                await connection.open_transaction(script, timeout=limit.seconds())
            except connection_failures() as error:
                limit.drop_if_silent(connection, error)
                await pool.release(connection, timeout=limit.seconds())
                failure = translate(error, tenant_id=limit.tenant)
                if not retries or not isinstance(failure, DatabaseConnectionError):
                    raise failure from error
                # The server went away while the connection lay idle. Nothing ran yet, so a fresh
                # one may try; the others in the pool are as old and go too.
                retries -= 1
                await pool.expire()
            except BaseException:
                await pool.release(connection, timeout=limit.seconds())
                raise
            else:
                return connection
