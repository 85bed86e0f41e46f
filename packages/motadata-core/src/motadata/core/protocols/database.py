"""The contract of the database: every statement runs for exactly one tenant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol

from motadata.core.models import Health


Row = Mapping[str, object]
Metric = Literal["cosine", "l2", "inner_product"]


class Transaction(Protocol):
    """Statements of one tenant that commit together or not at all.

    Statements use PostgreSQL's placeholders (`$1`). A `Sequence[float]` binds to a `vector`, a
    mapping or list of plain values to `jsonb`.

    Raises:
        QueryError: The database refused the statement; the transaction is then rolled back.
        ConnectionError: The connection broke.
    """

    async def execute(self, sql: str, *args: object) -> int:
        """Run one statement and return the number of rows that it touched."""
        ...

    async def execute_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Run one statement for each row of arguments, pipelined."""
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
            tenant_id: None means the tenant of the scope.

        Raises:
            QueryError: A name is not an SQL identifier, or the database refused.
        """
        ...


class Database(VectorStore, Protocol):
    """PostgreSQL for one tenant at a time; row-level security sees to it."""

    def transaction(
        self, tenant_id: str | None = None, *, timeout: float | None = None
    ) -> AbstractAsyncContextManager[Transaction]:
        """Open a transaction in which only the tenant's rows exist.

        It commits when the block ends and rolls back when an exception leaves it, cancellation
        included.

        Args:
            tenant_id: None means the tenant of the scope.
            timeout: Seconds for waiting for a connection and for each statement.

        Raises:
            TenantRequiredError: No tenant is given and none is in scope.
            ConnectionError: No connection was free in time, or the server is not reachable.
        """
        ...

    async def execute_query(
        self,
        sql: str,
        *args: object,
        tenant_id: str | None = None,
        timeout: float | None = None,
    ) -> list[Row]:
        """Run one statement in a transaction of its own and return its rows."""
        ...

    async def health(self) -> Health:
        """Say whether the server answers."""
        ...
