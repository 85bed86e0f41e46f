"""The only door to asyncpg: importing it, connecting, and teaching connections our types."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from functools import cache
from types import ModuleType
from typing import Final, Protocol

from motadata.core.errors import MissingExtraError


MINIMUM_PGVECTOR: Final = (0, 8, 4)
"""Older ones overflow a buffer and corrupt indexes."""


# What DISCARD ALL does, which may not stand beside another statement; prepared statements stay.
_CLEAN: Final = (
    "close all; set session authorization default; reset all; unlisten *;"
    " select pg_catalog.pg_advisory_unlock_all(); discard temp; discard sequences"
)


class Record(Protocol):
    """A row as the driver gives it: by position and by column."""

    def __getitem__(self, key: int | str) -> object:
        """Return one column."""
        ...

    def items(self) -> Iterator[tuple[str, object]]:
        """Return names and values."""
        ...


class Statement(Protocol):
    """A prepared statement."""

    async def fetch(self, *args: object, timeout: float | None = None) -> list[Record]:
        """Run it."""
        ...

    def get_statusmsg(self) -> str:
        """Return what the server said at the end of the last run, such as `UPDATE 3`."""
        ...


class Connection(Protocol):
    """What we use of the driver's connection, pooled or not; the driver brings no types."""

    async def execute(self, query: str, *args: object, timeout: float | None = None) -> str:
        """Run a script, or with arguments a statement, and return its status."""
        ...

    async def executemany(
        self, command: str, args: Iterable[Sequence[object]], *, timeout: float | None = None
    ) -> None:
        """Run a statement once for each row of arguments."""
        ...

    async def fetch(self, query: str, *args: object, timeout: float | None = None) -> list[Record]:
        """Run a statement and return its rows."""
        ...

    async def fetchrow(
        self, query: str, *args: object, timeout: float | None = None
    ) -> Record | None:
        """Run a statement and return its first row."""
        ...

    async def fetchval(self, query: str, *args: object) -> object:
        """Run a statement and return the first column of its first row."""
        ...

    async def prepare(self, query: str, *, timeout: float | None = None) -> Statement:
        """Prepare a statement."""
        ...

    async def set_type_codec(
        self,
        typename: str,
        *,
        schema: str = "public",
        encoder: Callable[[object], str | bytes],
        decoder: Callable[..., object],
        format: str = "text",  # noqa: A002 - the driver's name
    ) -> None:
        """Say how a type travels."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[object]:
        """Open a transaction or a savepoint."""
        ...

    async def commit_and_clean(self, *, timeout: float) -> None:
        """Commit and leave a clean session behind; see `connection_class`."""
        ...

    async def roll_back_and_clean(self, *, timeout: float) -> None:
        """Roll back and leave a clean session behind; see `connection_class`."""
        ...

    def is_in_transaction(self) -> bool:
        """Tell what the server said about it last."""
        ...

    async def close(self, *, timeout: float | None = None) -> None:
        """Say good-bye to the server."""
        ...

    def terminate(self) -> None:
        """Drop the connection without a word."""
        ...


class Pool(Protocol):
    """What we use of the driver's pool."""

    def __await__(self) -> Generator[object, None, object]:
        """Open the least number of connections."""
        ...

    async def acquire(self, *, timeout: float | None = None) -> Connection:
        """Take a connection."""
        ...

    async def release(self, connection: Connection, *, timeout: float | None = None) -> None:
        """Give a connection back."""
        ...

    def get_size(self) -> int:
        """Return how many connections are open."""
        ...

    async def expire_connections(self) -> None:
        """Replace every connection before its next use."""
        ...

    async def close(self) -> None:
        """Wait for connections to come back, and close them."""
        ...

    def terminate(self) -> None:
        """Drop all connections."""
        ...


def load_driver() -> ModuleType:
    """Import asyncpg.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import asyncpg
        import pgvector  # noqa: F401 - both come with the extra, both are needed
    except ImportError as error:
        name = error.name or "asyncpg"
        raise MissingExtraError(name, extra="postgres", distribution="motadata-core") from error
    module: ModuleType = asyncpg
    return module


def driver_failures() -> tuple[type[Exception], ...]:
    """Return what the driver raises for a server, a connection, a statement or an argument."""
    driver = load_driver()
    return (
        driver.PostgresError,
        driver.InterfaceError,
        driver.InternalClientError,
        OSError,  # TimeoutError is one
        ValueError,  # UnicodeError is one
        TypeError,
        OverflowError,
    )


def connection_failures() -> tuple[type[Exception], ...]:
    """Return what the driver raises when a connection cannot be had or breaks."""
    driver = load_driver()
    return (driver.PostgresError, driver.InterfaceError, driver.InternalClientError, OSError)


@cache
def connection_class() -> type:
    """Return the driver's connection, taught to commit and clean up in one round trip.

    What could outlive a transaction on its connection (settings, locks, temporary tables, a role)
    would otherwise meet the pool's next user, another tenant. Sent with COMMIT in one message,
    cleaning costs no round trip, and behind a pooler it reaches the server connection that did the
    work.
    """
    driver = load_driver()

    class CleanConnection(driver.Connection):  # type: ignore[misc, name-defined]  # it has no types
        """A connection that knows whether its session is clean already."""

        __slots__ = ("_is_clean",)

        async def commit_and_clean(self, *, timeout: float) -> None:
            """Commit, then clean the session."""
            await self.execute(f"commit; {_CLEAN}", timeout=timeout)
            self._is_clean = True

        async def roll_back_and_clean(self, *, timeout: float) -> None:
            """Roll back, then clean the session."""
            await self.execute(f"rollback; {_CLEAN}", timeout=timeout)
            self._is_clean = True

        async def reset(self, *, timeout: float | None = None) -> None:
            """Make it fit for the next user; the pool calls this when a connection comes back."""
            is_clean, self._is_clean = getattr(self, "_is_clean", False), False
            if self.is_in_transaction():
                await self.execute(f"rollback; {_CLEAN}", timeout=timeout)
            elif not is_clean:
                await self.execute(_CLEAN, timeout=timeout)

    return CleanConnection


async def prepare_connection(connection: Connection) -> None:
    """Let mappings and lists bind to `jsonb`, and sequences of numbers to `vector`.

    It runs in one transaction, for the look-ups take several round trips, and a pooler in
    transaction mode may serve each from another server connection otherwise.
    """
    async with connection.transaction():
        schema = await vector_schema(connection)
        for name in ("json", "jsonb"):
            await connection.set_type_codec(
                name, schema="pg_catalog", encoder=_encode_json, decoder=json.loads
            )
        if schema is not None:
            await connection.set_type_codec(
                "vector",
                schema=schema,
                encoder=_encode_vector,
                decoder=_decode_vector,
                format="binary",
            )


async def vector_schema(connection: Connection) -> str | None:
    """Return the schema that the vector extension lives in, or None when it is not installed."""
    name = await connection.fetchval(
        "select n.nspname::text from pg_catalog.pg_extension e"
        " join pg_catalog.pg_namespace n on n.oid = e.extnamespace where e.extname = 'vector'"
    )
    return None if name is None else str(name)


def quote_literal(text: str) -> str:
    """Return `text` as an SQL string literal; backslashes mean themselves."""
    return "'" + text.replace("'", "''") + "'"


def quote_name(name: str) -> str:
    """Return `name` as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _encode_json(value: object) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def _encode_vector(value: object) -> bytes:
    from pgvector import Vector

    if not isinstance(value, Sequence) and hasattr(value, "tolist"):
        value = value.tolist()  # NumPy arrays and their like
    if not isinstance(value, Sequence):
        message = "a vector is a sequence of numbers"
        raise ValueError(message)  # noqa: TRY004 - what the driver expects of a codec
    binary: bytes = Vector(list(value)).to_binary()
    return binary


def _decode_vector(data: bytes) -> list[float]:
    from pgvector import Vector

    numbers: list[float] = Vector.from_binary(data).to_list()
    return numbers
