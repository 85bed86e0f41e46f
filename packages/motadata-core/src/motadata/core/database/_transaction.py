"""One tenant's transaction on one pooled connection."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final, TypeVar

from motadata.core.database._driver import Connection, driver_failures
from motadata.core.database._failures import translate
from motadata.core.errors import ConnectionError as DatabaseConnectionError
from motadata.core.errors import QueryError
from motadata.core.protocols.database import Row
from motadata.core.tenancy import TenantId


Result = TypeVar("Result")

_TRANSACTION_CONTROL: Final = re.compile(
    r"(?:\s|;|--[^\n]*(?:\n|$)|/\*.*?\*/)*"
    r"(?:abort|begin|commit|end|prepare\s+transaction|rollback(?!\s+(?:\w+\s+)?to\b)|start)\b",
    re.IGNORECASE | re.DOTALL,
)


class PostgresTransaction:
    """Statements of one tenant that commit together; made by `PostgresDatabase.transaction`."""

    def __init__(self, connection: Connection, tenant: TenantId, timeout: float) -> None:
        self._connection = connection
        self._tenant = tenant
        self._timeout = timeout
        self.failed = False
        self.closed = False

    async def execute(self, sql: str, *args: object) -> int:
        """Run one statement and return the number of rows that it touched.

        Raises:
            QueryError: The database refused it.
            ConnectionError: The connection broke.
        """

        async def run() -> str:
            if args:
                return await self._connection.execute(sql, *args, timeout=self._timeout)
            # Without arguments `execute` would send a script; a prepared statement is only one.
            statement = await self._connection.prepare(sql, timeout=self._timeout)
            await statement.fetch(timeout=self._timeout)
            return statement.get_statusmsg()

        words = (await self._run(sql, run)).rsplit(" ", 1)
        return int(words[-1]) if words[-1].isdigit() else 0

    async def execute_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Run one statement for each row of arguments, pipelined.

        Raises:
            QueryError: The database refused it for one row; none of the rows is kept.
            ConnectionError: The connection broke.
        """
        await self._run(sql, lambda: self._connection.executemany(sql, rows, timeout=self._timeout))

    async def fetch(self, sql: str, *args: object) -> list[Row]:
        """Run one statement and return its rows, each a dict by column.

        Raises:
            QueryError: The database refused it.
            ConnectionError: The connection broke.
        """
        records = await self._run(
            sql, lambda: self._connection.fetch(sql, *args, timeout=self._timeout)
        )
        return [dict(record.items()) for record in records]

    async def fetch_one(self, sql: str, *args: object) -> Row | None:
        """Run one statement and return its first row, or None.

        Raises:
            QueryError: The database refused it.
            ConnectionError: The connection broke.
        """
        record = await self._run(
            sql, lambda: self._connection.fetchrow(sql, *args, timeout=self._timeout)
        )
        return None if record is None else dict(record.items())

    async def fetch_value(self, sql: str, *args: object) -> object | None:
        """Run one statement and return the first column of its first row, or None.

        Raises:
            QueryError: The database refused it.
            ConnectionError: The connection broke.
        """
        record = await self._run(
            sql, lambda: self._connection.fetchrow(sql, *args, timeout=self._timeout)
        )
        return None if record is None else record[0]

    async def commit(self) -> None:
        """Commit, and leave a clean session behind; the database calls it when the block ends.

        Raises:
            QueryError: A statement failed before, or the database refuses to commit, for instance
                for a deferred constraint.
            ConnectionError: The connection broke. If that was while committing, nobody knows if
                the commit happened, and the error is not retryable.
        """
        self.closed = True
        if self.failed:
            message = "A statement of the transaction failed; all of it was rolled back."
            raise QueryError(
                message, remedy="Let its error leave the block.", tenant_id=self._tenant
            )
        try:
            # Fails when the pool took a broken connection away: nothing is sent, nothing committed.
            self._connection.is_in_transaction()
        except driver_failures() as error:
            raise translate(error, tenant_id=self._tenant) from error
        try:
            await self._connection.commit_and_clean(timeout=self._timeout)
        except driver_failures() as error:
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
        with suppress(*driver_failures()):
            self._connection.is_in_transaction()  # fails when the connection is gone
            await self._connection.roll_back_and_clean(timeout=self._timeout)

    async def _run(self, sql: str, call: Callable[[], Awaitable[Result]]) -> Result:
        self._check_usable(sql)
        try:
            result = await call()
            is_open = self._connection.is_in_transaction()
        except driver_failures() as error:
            self.failed = True
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
