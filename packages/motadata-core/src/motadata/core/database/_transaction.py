"""One tenant's transaction on one pooled connection."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeVar

from motadata.core.database import _bulk as bulk
from motadata.core.database import _identifiers as identifiers
from motadata.core.database._binding import TENANT_CHANGED, closing_check
from motadata.core.database._driver import Connection, driver_failures
from motadata.core.database._failures import message_of, translate
from motadata.core.database._limits import Limit
from motadata.core.database._topics import Topic
from motadata.core.errors import ConnectionError as DatabaseConnectionError
from motadata.core.errors import QueryError
from motadata.core.observability import statement_call
from motadata.core.protocols.database import Row
from motadata.core.tenancy import Identifier, TenantId


Result = TypeVar("Result")

_TRANSACTION_CONTROL: Final = re.compile(
    r"(?:\s|;|--[^\n]*(?:\n|$)|/\*.*?\*/)*"
    r"(?:abort|begin|commit|end|prepare\s+transaction|rollback(?!\s+(?:\w+\s+)?to\b)|start)\b",
    re.IGNORECASE | re.DOTALL,
)


class PostgresTransaction:
    """Statements of one tenant that commit together; made by `PostgresDatabase.transaction`."""

    def __init__(self, connection: Connection, tenant: TenantId, limit: Limit) -> None:
        self._connection = connection
        self._tenant = tenant
        self._limit = limit
        self._savepoints = 0
        self.failed = False
        self.closed = False

    async def execute(self, sql: str, *args: object) -> int:
        """Run one statement and return the number of rows that it touched.

        Raises:
            QueryError: The database refused it.
            ConnectionError: The connection broke.
            DeadlineExceededError: The surrounding deadline ended it.
        """

        async def run() -> str:
            if args:
                return await self._connection.execute(sql, *args, timeout=self._limit.seconds())
            # Without arguments `execute` would send a script; a prepared statement is only one.
            statement = await self._connection.prepare(sql, timeout=self._limit.seconds())
            await statement.fetch(timeout=self._limit.seconds())
            return statement.get_statusmsg()

        words = (await self._run(sql, run)).rsplit(" ", 1)
        return int(words[-1]) if words[-1].isdigit() else 0

    async def execute_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Run one statement for each row of arguments, pipelined.

        Raises:
            QueryError: The database refused it for one row; none of the rows is kept.
            ConnectionError: The connection broke.
            DeadlineExceededError: The surrounding deadline ended it; likewise.
        """
        await self._run(
            sql, lambda: self._connection.executemany(sql, rows, timeout=self._limit.seconds())
        )

    async def insert_many(
        self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]
    ) -> int:
        """Insert many rows, an array a column, and return how many there were.

        Args:
            table: Table or `schema.table`.
            columns: Names of columns, `tenant_id` among them.
            rows: Values in the order of the columns; consumed in batches of 2000.

        Raises:
            QueryError: A name is no SQL identifier, a row has another number of values, or the
                database refused; none of the rows is kept.
            ConnectionError: The connection broke.
            DeadlineExceededError: The surrounding deadline ended it; likewise.
        """
        one_by_one = bulk.single_insert(table, columns)
        types = await self.fetch(bulk.COLUMN_TYPES, identifiers.table(table))
        at_once = bulk.array_insert(table, columns, types)
        nested = bulk.nested_columns(columns, types)
        count = 0
        try:
            for batch in bulk.batches(rows, width=len(columns), tenant=self._tenant):
                if at_once is None:
                    await self.execute_many(one_by_one, batch)
                else:
                    await self.execute(at_once, *bulk.transposed(batch, nested))
                count += len(batch)
        except BaseException:
            self.failed = True  # whatever stopped it, part of the rows must not stay
            raise
        return count

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Open a part of the transaction that can fail alone; parts nest.

        When an exception leaves the block, what ran in it is undone, and the transaction goes on if
        the exception is caught outside. Cancellation ends the whole transaction.

        Raises:
            QueryError: A statement of the block failed and its error was caught inside: the block
                is undone.
            ConnectionError: The connection broke.
        """
        self._savepoints += 1
        name = f"motadata_{self._savepoints}"
        await self.fetch(f"savepoint {name}")
        try:
            yield
            self._refuse_if_failed("A statement of the savepoint failed; all of it was undone.")
            await self.fetch(f"release savepoint {name}")
        except Exception:
            await self._undo(name)
            raise

    async def notify(self, topic: str, payload: str = "") -> None:
        """Tell the tenant's listeners of a topic, once the transaction has committed.

        Args:
            topic: `[A-Za-z0-9_-]{1,64}`.
            payload: At most 7000 bytes of UTF-8, without NUL.

        Raises:
            InvalidIdentifierError: The topic breaks the grammar.
            QueryError: The payload does not fit.
            ConnectionError: The connection broke.
        """
        about = Topic(self._tenant, Identifier(topic))
        await self.fetch("select pg_notify($1, $2)", about.channel, about.pack(payload))

    async def fetch(self, sql: str, *args: object) -> list[Row]:
        """Run one statement and return its rows, each a dict by column.

        Raises:
            QueryError: The database refused it.
            ConnectionError: The connection broke.
            DeadlineExceededError: The surrounding deadline ended it.
        """
        records = await self._run(
            sql, lambda: self._connection.fetch(sql, *args, timeout=self._limit.seconds())
        )
        return [dict(record.items()) for record in records]

    async def fetch_one(self, sql: str, *args: object) -> Row | None:
        """Run one statement and return its first row, or None.

        Raises:
            QueryError: The database refused it.
            ConnectionError: The connection broke.
            DeadlineExceededError: The surrounding deadline ended it.
        """
        record = await self._run(
            sql, lambda: self._connection.fetchrow(sql, *args, timeout=self._limit.seconds())
        )
        return None if record is None else dict(record.items())

    async def fetch_value(self, sql: str, *args: object) -> object | None:
        """Run one statement and return the first column of its first row, or None.

        Raises:
            QueryError: The database refused it.
            ConnectionError: The connection broke.
            DeadlineExceededError: The surrounding deadline ended it.
        """
        record = await self._run(
            sql, lambda: self._connection.fetchrow(sql, *args, timeout=self._limit.seconds())
        )
        return None if record is None else record[0]

    async def commit(self) -> None:
        """Commit, and leave a clean session behind; the database calls it when the block ends.

        Raises:
            QueryError: A statement failed before, or the database refuses to commit, for instance
                for a deferred constraint.
            ConnectionError: The connection broke. If that was while committing, nobody knows if
                the commit happened, and the error is not retryable; also when a deadline ended it.
        """
        self.closed = True
        self._refuse_if_failed("A statement of the transaction failed; all of it was rolled back.")
        try:
            # Fails when the pool took a broken connection away: nothing is sent, nothing committed.
            self._connection.is_in_transaction()
        except driver_failures() as error:
            raise translate(error, tenant_id=self._tenant) from error
        try:
            check = closing_check(self._tenant)
            await self._connection.commit_and_clean(check, timeout=self._limit.seconds())
        except driver_failures() as error:
            self._limit.drop_if_silent(self._connection, error)
            if TENANT_CHANGED in message_of(error):
                message = "The transaction is no longer its tenant's; all of it was rolled back."
                raise QueryError(
                    message,
                    remedy="Leave the setting motadata.tenant_id to the SDK.",
                    tenant_id=self._tenant,
                ) from error
            failure = translate(error, tenant_id=self._tenant)
            if isinstance(failure, DatabaseConnectionError) or isinstance(error, TimeoutError):
                message = "The connection broke while the transaction committed."
                raise DatabaseConnectionError(
                    message,
                    remedy="Look whether the change is there before repeating it.",
                    tenant_id=self._tenant,
                    retryable=False,
                ) from error
            raise failure from error

    async def roll_back(self) -> None:
        """Roll back, and leave a clean session behind; what fails here, the pool does again."""
        self.closed = True
        try:
            self._connection.is_in_transaction()  # fails when the connection is gone
            await self._connection.roll_back_and_clean(timeout=self._limit.seconds())
        except driver_failures() as error:
            self._limit.drop_if_silent(self._connection, error)

    async def _undo(self, savepoint: str) -> None:
        """Return to a savepoint; where that fails, the transaction stays failed as a whole."""
        with suppress(*driver_failures()):
            script = f"rollback to savepoint {savepoint}; release savepoint {savepoint}"
            await self._connection.execute(script, timeout=self._limit.seconds())
            self.failed = not self._connection.is_in_transaction()

    async def _run(self, sql: str, call: Callable[[], Awaitable[Result]]) -> Result:
        self._check_usable(sql)
        with statement_call(sql, tenant_id=self._tenant):
            return await self._finish(call)

    async def _finish(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """Wait for a statement, and note what became of the transaction."""
        try:
            result = await call()
            is_open = self._connection.is_in_transaction()
        except driver_failures() as error:
            self.failed = True
            self._limit.drop_if_silent(self._connection, error)
            raise translate(error, tenant_id=self._tenant) from error
        except BaseException:
            self.failed = True
            raise
        if not is_open:
            # A procedure or a crafted statement ended it: what follows would run unbound.
            self.failed = True
            message = "The statement ended the transaction."
            raise QueryError(message, remedy=_CONTROL_REMEDY, tenant_id=self._tenant)
        return result

    def _refuse_if_failed(self, message: str) -> None:
        """Raise when a statement failed and its error was caught."""
        if self.failed:
            raise QueryError(
                message, remedy="Let its error leave the block.", tenant_id=self._tenant
            )

    def _check_usable(self, sql: str) -> None:
        if self.closed:
            message = "The transaction is over."
            raise QueryError(
                message, remedy="Use it within its `async with` block.", tenant_id=self._tenant
            )
        if self.failed:
            message = "The transaction failed at an earlier statement and is rolled back."
            raise QueryError(message, remedy="Start a new one.", tenant_id=self._tenant)
        if _TRANSACTION_CONTROL.match(sql):
            message = "A statement may not control the transaction."
            raise QueryError(message, remedy=_CONTROL_REMEDY, tenant_id=self._tenant)


_CONTROL_REMEDY: Final = "Leave BEGIN, COMMIT and ROLLBACK to `async with database.transaction():`."
