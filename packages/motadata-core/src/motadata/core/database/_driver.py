"""The only door to asyncpg: importing it, and what of it we use, since it brings no types."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from types import ModuleType
from typing import Final, Protocol

from motadata.core.errors import MissingExtraError
from motadata.core.observability import adopt_logger


MINIMUM_PGVECTOR: Final = (0, 8, 4)
"""Older ones overflow a buffer and corrupt indexes."""


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

    async def prepare_reading(self) -> None:
        """Prepare the statements that bind a read; see `_reading`."""
        ...

    async def open_transaction(self, script: str, *, timeout: float) -> None:
        """Run the script that opens a transaction; see `_session`."""
        ...

    async def read_bound(
        self, binding: bytes, sql: str, args: Sequence[object], *, timeout: float
    ) -> list[Record] | None:
        """Run a statement bound to a tenant in one round trip, or None; see `_reading`."""
        ...

    async def commit_and_clean(self, check: str, *, timeout: float) -> None:
        """Commit and leave a clean session behind; see `_session`."""
        ...

    async def roll_back_and_clean(self, *, timeout: float) -> None:
        """Roll back and leave a clean session behind; see `_session`."""
        ...

    def check_answers(self) -> None:
        """Look at the server's answers before the driver does; see `_answers`."""
        ...

    def is_fit(self) -> bool:
        """Tell once whether the next user may have it as it is; see `_session`."""
        ...

    def is_in_transaction(self) -> bool:
        """Tell what the server said about it last."""
        ...

    async def add_listener(self, channel: str, callback: Callable[..., None]) -> None:
        """Call back for each notification on a channel."""
        ...

    async def remove_listener(self, channel: str, callback: Callable[..., None]) -> None:
        """Stop calling back."""
        ...

    def add_termination_listener(self, callback: Callable[..., None]) -> None:
        """Call back when the connection is over."""
        ...

    def is_closed(self) -> bool:
        """Tell whether the connection is over."""
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
    # Its pool writes a traceback each time that it does not reach the server.
    adopt_logger("asyncpg", component="database")
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
        *damaged_answers(),
    )


def connection_failures() -> tuple[type[Exception], ...]:
    """Return what the driver raises when a connection cannot be had or breaks."""
    driver = load_driver()
    failures = (driver.PostgresError, driver.InterfaceError, driver.InternalClientError, OSError)
    return (*failures, *damaged_answers())


def damaged_answers() -> tuple[type[Exception], ...]:
    """Return what the driver's parser fails with where bytes were damaged on their way.

    It checks little, so that is nearly anything. Use it around calls of the driver only.
    """
    from asyncpg.pgproto.pgproto import BufferError as ShortOfBytes

    return (
        ShortOfBytes,
        struct.error,
        LookupError,
        AttributeError,
        AssertionError,
        UnicodeDecodeError,
        json.JSONDecodeError,
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
