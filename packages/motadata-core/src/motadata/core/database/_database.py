"""The database as the SDK uses it: each operation for one tenant."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Final, Self, TypeVar

from motadata.core.database._audit import check_role_and_tables
from motadata.core.database._driver import connection_failures
from motadata.core.database._failures import unreachable
from motadata.core.database._limits import Limit
from motadata.core.database._notifications import Listeners
from motadata.core.database._pools import PoolOptions, open_pools
from motadata.core.database._repeating import repeat
from motadata.core.database._search import search_statement
from motadata.core.database._topics import Topic
from motadata.core.database._transaction import PostgresTransaction
from motadata.core.database._work import Work
from motadata.core.errors import ConfigurationError
from motadata.core.models import Health
from motadata.core.protocols.database import Isolation, Metric, Notification, Precision, Row
from motadata.core.resilience import time_limit
from motadata.core.tenancy import Identifier, TenantId, resolve_tenant


ResultT = TypeVar("ResultT")

_EF_SEARCH: Final = 100
"""Candidates that an index search keeps at least."""


class PostgresDatabase:
    """PostgreSQL for one tenant at a time; built by `create_database`.

    The text of a statement is code, as trusted as the program around it; what tenants write travels
    in its arguments.
    """

    def __init__(self, options: PoolOptions) -> None:
        self._options = options
        self._work: Work | None = None
        self._listeners = Listeners(options)

    def transaction(
        self,
        tenant_id: str | None = None,
        *,
        timeout: float | None = None,
        isolation: Isolation = "read_committed",
    ) -> AbstractAsyncContextManager[PostgresTransaction]:
        """Open a transaction in which only the tenant's rows exist.

        It commits when the block ends and rolls back when an exception leaves it, cancellation
        included. A statement that failed inside condemns it, even if the error was caught.

        Args:
            tenant_id: None means the tenant of the scope.
            timeout: Seconds for waiting for a connection and for each statement; a surrounding
                deadline that ends sooner counts.
            isolation: What it sees of others that run at the same time.

        Raises:
            TenantRequiredError: No tenant is given and none is in scope.
            ConnectionError: No connection was to be had in time, or it broke. When it broke while
                committing, or the deadline ended that, the error is not `retryable`: the change may
                be there.
            QueryError: The database refused to commit.
            DeadlineExceededError: The surrounding deadline is over, or ended a statement.
        """
        tenant = resolve_tenant(tenant_id)
        return self._opened().transaction(self._limit(tenant, timeout), isolation=isolation)

    async def run_transaction(
        self,
        work: Callable[[PostgresTransaction], Awaitable[ResultT]],
        *,
        tenant_id: str | None = None,
        timeout: float | None = None,
        isolation: Isolation = "read_committed",
        attempts: int = 3,
    ) -> ResultT:
        """Run `work` in a transaction and return its result; again when it is known not to count.

        The contract is that of `Database.run_transaction`.

        Raises:
            TenantRequiredError: No tenant is given and none is in scope.
            ConnectionError: The connection broke while committing: the change may be there, and
                the error is not `retryable`. Or the last attempt ended so.
            QueryError: The last attempt's, or one that another attempt would not heal.
            DeadlineExceededError: The surrounding deadline is over, or ended a statement.
        """
        tenant = resolve_tenant(tenant_id)

        async def attempt() -> ResultT:
            async with self.transaction(tenant, timeout=timeout, isolation=isolation) as opened:
                return await work(opened)

        return await repeat(attempt, attempts=attempts)

    @asynccontextmanager
    async def listen(
        self, topic: str, *, tenant_id: str | None = None
    ) -> AsyncIterator[AsyncIterator[Notification]]:
        """Listen to what the tenant's transactions `notify` about a topic, until the block ends.

        All listeners of a database share one connection beside the pool. At most 1000 notifications
        wait for a listener; when it is slower, one that says `missed` stands for the rest. It takes
        a connection to PostgreSQL itself: a pooler in transaction mode loses what it listens to.

        Raises:
            TenantRequiredError: No tenant is given and none is in scope.
            InvalidIdentifierError: The topic breaks the grammar.
            ConnectionError: The server is not reachable.
            DeadlineExceededError: The surrounding deadline is over; also while waiting for the next
                notification, after which one may go on waiting.
        """
        about = Topic(resolve_tenant(tenant_id), Identifier(topic))
        self._opened()
        async with self._listeners.listening(about) as notifications:
            yield notifications

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
            QueryError: The database refused the statement, or it took longer than `timeout`.
            DeadlineExceededError: The surrounding deadline is over, or ended the statement.
        """
        tenant = resolve_tenant(tenant_id)
        return await self._opened().query(self._limit(tenant, timeout), sql, args)

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
        precision: Precision = "full",
        tenant_id: str | None = None,
    ) -> list[Row]:
        """Return the rows nearest to `vector`, nearest first, each with its `distance`.

        The contract is that of `VectorStore.vector_search`. A filter that is None asks for NULL.

        Raises:
            TenantRequiredError: No tenant is given and none is in scope.
            ConnectionError: The server is not reachable.
            QueryError: A name is no SQL identifier, or the database refused.
            DeadlineExceededError: The surrounding deadline is over, or ended the statement.
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
            precision=precision,
        )
        limits = self._limit(tenant, None)
        return await self._opened().query(limits, sql, arguments, neighbours=max(_EF_SEARCH, limit))

    async def health(self) -> Health:
        """Say within two seconds whether the server answers; a pool in full use is `degraded`."""
        if self._work is None:
            return Health("down", detail="The database is not open; use it within `async with`.")
        return await self._work.pools.health()

    async def __aenter__(self) -> Self:
        """Connect, and refuse a role or tables that would not keep tenants apart.

        Raises:
            MissingExtraError: The extra `postgres` is not installed.
            ConfigurationError: The address is malformed, the role could bypass row-level security,
                a table is not isolated, or the vector extension is absent or too old.
            ConnectionError: The server is not reachable.
            DeadlineExceededError: The surrounding deadline is over.
        """
        if self._work is not None:
            message = "The database is open already."
            raise ConfigurationError(message, remedy="Share it, or create another one.")
        async with time_limit(None, what="the database to open"):
            self._work = await self._open()
        return self

    async def _open(self) -> Work:
        pools = await open_pools(self._options)
        try:
            async with pools.borrowed(self._options.timeout) as connection:
                search_path = await check_role_and_tables(connection)
        except connection_failures() as error:
            pools.terminate()
            raise unreachable(error) from error
        except BaseException:
            pools.terminate()
            raise
        return Work(pools, search_path)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for running transactions to end, then close; after the timeout, close regardless."""
        work, self._work = self._work, None
        if work is not None:
            try:
                await self._listeners.close()
            finally:
                await work.pools.close()

    def _limit(self, tenant: TenantId, timeout: float | None) -> Limit:
        return Limit(tenant, self._options.timeout if timeout is None else timeout)

    def _opened(self) -> Work:
        if self._work is None:
            message = "The database is not open."
            raise ConfigurationError(
                message, remedy="Use it within `async with create_database(…) as database:`."
            )
        return self._work


def create_database(
    dsn: str,
    *,
    max_connections: int = 10,
    timeout: float = 30.0,
    statement_cache_size: int = 100,
    tenant_pools: int = 0,
) -> PostgresDatabase:
    """Return the database at `dsn`; entering it connects.

    No session state outlives a transaction, so it also works through PgBouncer in transaction mode:
    from PgBouncer 1.21 on with `max_prepared_statements` set, before with `statement_cache_size=0`.

    Args:
        dsn: `postgresql://…` of a role that neither bypasses row-level security nor owns tables.
        max_connections: Most connections of a pool.
        timeout: Seconds for connecting, for waiting for a connection and for each statement.
        statement_cache_size: Prepared statements kept a connection; 0 keeps none.
        tenant_pools: 0 makes one pool for all tenants. Above, each tenant has a pool of its own,
            at most so many at a time; the one that has been idle for longest makes room. A tenant
            then never waits for another's connections, for up to `tenant_pools` times
            `max_connections` of them in all, those of a quarter as many pools while they close, and
            one more to look after the server.

    Raises:
        ConfigurationError: A number does not make a pool.
    """
    numbers_fit = max_connections >= 1 and statement_cache_size >= 0 and tenant_pools >= 0
    if not numbers_fit or not timeout > 0:
        message = (
            f"max_connections={max_connections!r}, timeout={timeout!r},"
            f" statement_cache_size={statement_cache_size!r} and tenant_pools={tenant_pools!r} do"
            " not make a pool."
        )
        raise ConfigurationError(
            message, remedy="Pass at least 1, above 0, at least 0, and at least 0."
        )
    return PostgresDatabase(
        PoolOptions(
            dsn,
            max_connections=max_connections,
            timeout=timeout,
            statement_cache_size=statement_cache_size,
            tenant_pools=tenant_pools,
        )
    )
