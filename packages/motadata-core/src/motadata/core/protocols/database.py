"""The contract of the database: every statement runs for exactly one tenant."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from motadata.core.models import Health


Row = Mapping[str, object]
Metric = Literal["cosine", "l2", "inner_product"]
Precision = Literal["full", "half"]
Isolation = Literal["read_committed", "repeatable_read", "serializable"]
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Notification:
    """Word from another transaction of the same tenant that something happened.

    Attributes:
        topic: What it is about.
        payload: What the sender added.
        missed: True means that notifications before this one may have been lost, because the
            connection broke or the listener was too slow: look at the tables. Such a one has no
            payload and may come without any notification having been sent.
    """

    topic: str
    payload: str = ""
    missed: bool = False


class Transaction(Protocol):
    """Statements of one tenant that commit together or not at all.

    Statements use PostgreSQL's placeholders (`$1`). A `Sequence[float]` binds to a `vector`, a
    mapping or list of plain values to `jsonb`.

    Raises:
        QueryError: The database refused the statement, or it took longer than the transaction's
            `timeout`; the transaction is then rolled back.
        ConnectionError: The connection broke.
        DeadlineExceededError: The surrounding deadline ended the statement; likewise rolled back.
    """

    async def execute(self, sql: str, *args: object) -> int:
        """Run one statement and return the number of rows that it touched."""
        ...

    async def execute_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Run one statement for each row of arguments, pipelined."""
        ...

    async def insert_many(
        self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]
    ) -> int:
        """Insert many rows in few statements, and return how many there were.

        Args:
            table: Table or `schema.table`.
            columns: Names of columns, `tenant_id` among them.
            rows: Values in the order of the columns; consumed in batches.

        Raises:
            QueryError: A name is no SQL identifier, a row has another number of values, or the
                database refused; none of the rows is kept.
        """
        ...

    def savepoint(self) -> AbstractAsyncContextManager[None]:
        """Open a part of the transaction that can fail alone; parts nest.

        When an exception leaves the block, what ran in it is undone, and the transaction goes on if
        the exception is caught outside.
        """
        ...

    async def notify(self, topic: str, payload: str = "") -> None:
        """Tell the tenant's listeners of a topic, once the transaction has committed.

        Args:
            topic: `[A-Za-z0-9_-]{1,64}`.
            payload: At most 7000 bytes of UTF-8, without NUL.
        """
        ...

    async def fetch(self, sql: str, *args: object) -> list[Row]:
        """Run one statement and return its rows."""
        ...

    async def fetch_one(self, sql: str, *args: object) -> Row | None:
        """Run one statement and return its first row, or None."""
        ...

    async def fetch_value(self, sql: str, *args: object) -> object | None:
        """Run one statement and return the first column of its first row, or None."""
        ...


class VectorStore(Protocol):
    """Nearest-neighbour search within one tenant."""

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

        Args:
            table: Table or `schema.table`; it has columns `tenant_id` and `vector_column`.
            vector: As many numbers as the column has dimensions.
            limit: 1 to 1000.
            columns: What to return besides `distance`.
            filters: Columns that must equal the given values.
            vector_column: Where the vectors are; rows with NULL there are left out.
            metric: `cosine` distance, Euclidean (`l2`), or negative `inner_product`.
            precision: `half` compares in 16 bits, as an index of that precision does.
            tenant_id: None means the tenant of the scope.

        Raises:
            QueryError: A name is not an SQL identifier, or the database refused.
            DeadlineExceededError: The surrounding deadline is over, or ended the search.
        """
        ...


class Database(VectorStore, Protocol):
    """PostgreSQL for one tenant at a time; row-level security sees to it."""

    def transaction(
        self,
        tenant_id: str | None = None,
        *,
        timeout: float | None = None,
        isolation: Isolation = "read_committed",
    ) -> AbstractAsyncContextManager[Transaction]:
        """Open a transaction in which only the tenant's rows exist.

        It commits when the block ends and rolls back when an exception leaves it, cancellation
        included.

        Args:
            tenant_id: None means the tenant of the scope.
            timeout: Seconds for waiting for a connection and for each statement; a surrounding
                deadline that ends sooner counts.
            isolation: What it sees of others that run at the same time.

        Raises:
            TenantRequiredError: No tenant is given and none is in scope.
            ConnectionError: No connection was free in time, or the server is not reachable. Or the
                connection broke, or the deadline ended, while it committed: the change may be
                there, and the error is not `retryable`.
            DeadlineExceededError: The surrounding deadline is over, or ended a statement.
        """
        ...

    async def run_transaction(
        self,
        work: Callable[[Transaction], Awaitable[ResultT]],
        *,
        tenant_id: str | None = None,
        timeout: float | None = None,
        isolation: Isolation = "read_committed",
        attempts: int = 3,
    ) -> ResultT:
        """Run `work` in a transaction and return its result; again when it is known not to count.

        That is after a serialization failure, a deadlock, a lock that was not to be had, and a
        connection that broke before the commit was sent. What `work` does outside the transaction
        happens as often as it runs.

        Args:
            work: Gets the transaction.
            tenant_id: None means the tenant of the scope.
            timeout: As for `transaction`, for each attempt.
            isolation: As for `transaction`.
            attempts: At least 1; the first one counts.

        Raises:
            ConnectionError: The connection broke while committing: the change may be there, and
                the error is not `retryable`. Or the last attempt ended so.
            QueryError: The last attempt's, or one that another attempt would not heal.
            DeadlineExceededError: The surrounding deadline is over, or ended a statement.
        """
        ...

    def listen(
        self, topic: str, *, tenant_id: str | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Notification]]:
        """Listen to what the tenant's transactions `notify` about a topic, until the block ends.

        Notifications wake a listener up and are no record: after a broken connection comes one
        that says `missed`.

        Args:
            topic: `[A-Za-z0-9_-]{1,64}`.
            tenant_id: None means the tenant of the scope.

        Raises:
            ConnectionError: The server is not reachable.
        """
        ...

    async def execute_query(
        self,
        sql: str,
        *args: object,
        tenant_id: str | None = None,
        timeout: float | None = None,
    ) -> list[Row]:
        """Run one statement in a transaction of its own and return its rows.

        Args:
            sql: The statement.
            args: Its arguments.
            tenant_id: None means the tenant of the scope.
            timeout: As for `transaction`.

        Raises:
            QueryError: The database refused the statement, or it took longer than `timeout`.
            ConnectionError: As for `transaction`.
            DeadlineExceededError: The surrounding deadline is over, or ended the statement.
        """
        ...

    async def health(self) -> Health:
        """Say whether the server answers."""
        ...
