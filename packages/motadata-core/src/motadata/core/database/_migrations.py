"""Numbered SQL files, applied once each by the role that owns the tables."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import resources
from typing import Final

from motadata.core.database._audit import (
    check_vector_extension,
    describe,
    find_holes,
    search_path,
)
from motadata.core.database._driver import Connection, load_driver, quote_literal, quote_name
from motadata.core.database._failures import message_of, unreachable
from motadata.core.errors import ConfigurationError, MigrationError


CORE_MIGRATIONS: Final = "motadata.core.migrations"
_FILE_NAME: Final = re.compile(r"(\d{4})_[a-z0-9_]+\.sql", re.ASCII)
_LOCK_KEY: Final = 0x6D6F7461  # "mota"; one lock for all packages, so that runs queue up
_LOCK_TIMEOUT: Final = 120.0
_STATEMENT_TIMEOUT: Final = 3600.0

# The record of what ran holds no tenant's data and stays out of the tenants' schema.
_HISTORY: Final = """
create schema if not exists motadata_migrations;
create table if not exists motadata_migrations.applied (
  package text not null,
  name text not null,
  checksum text not null,
  applied_at timestamptz not null default now(),
  primary key (package, name)
)"""


@dataclass(frozen=True, slots=True)
class AppliedMigration:
    """A migration that this run applied.

    Attributes:
        package: Import name of the package that holds it.
        name: Its file name.
        checksum: SHA-256 of its text, hexadecimal.
    """

    package: str
    name: str
    checksum: str


@dataclass(frozen=True, slots=True)
class _Script:
    package: str
    name: str
    text: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


async def apply_migrations(
    owner_dsn: str, packages: Iterable[str], *, runtime_role: str
) -> list[AppliedMigration]:
    """Bring the database up to date, and prove that its tables are isolated.

    Each migration runs in a transaction of its own, under a lock that makes concurrent runs queue
    up; when one fails, those before it stay and a later run continues there. After each, the
    runtime role is granted what it needs and every table of the schema `motadata` is verified.

    Args:
        owner_dsn: Address of the role that owns the tables; it need not be a superuser where an
            administrator installed the vector extension.
        packages: Import names of packages that hold `NNNN_title.sql` files, in the order in which
            they depend on each other. Core's own come first in any case.
        runtime_role: Name of the role that the SDK runs as.

    Returns:
        What this run applied, in order; nothing when all was up to date.

    Raises:
        MissingExtraError: The extra `postgres` is not installed.
        ConfigurationError: A package is not there, or the vector extension is absent or too old.
        MigrationError: A file was edited after it ran, fails, or leaves a table without isolation.
        ConnectionError: The server is not reachable.
    """
    names = list(dict.fromkeys([CORE_MIGRATIONS, *packages]))
    scripts = await asyncio.to_thread(lambda: [_read(name) for name in names])
    async with _connected(owner_dsn) as connection:
        await _lock(connection)
        await _require_role(connection, runtime_role)
        known = await _history(connection)
        applied = []
        for group in scripts:
            for script in _pending(group, known):
                await _apply(connection, script, runtime_role)
                applied.append(AppliedMigration(script.package, script.name, script.checksum))
        async with connection.transaction():
            await _grant(connection, runtime_role)
            await _verify(connection, runtime_role, "The schema")
        return applied


def _read(package: str) -> list[_Script]:
    """Return the scripts of a package by number."""
    try:
        entries = [entry for entry in resources.files(package).iterdir() if entry.is_file()]
    except ModuleNotFoundError as error:
        message = f"The package of migrations {package!r} is not installed."
        raise ConfigurationError(message, remedy="Install it, or correct its name.") from error
    scripts: dict[str, _Script] = {}
    for entry in sorted(entries, key=lambda entry: entry.name):
        if not entry.name.endswith(".sql"):
            continue
        match = _FILE_NAME.fullmatch(entry.name)
        if match is None:
            message = f"{entry.name!r} in {package!r} is no name of a migration."
            raise MigrationError(message, remedy="Name it NNNN_title.sql, in small letters.")
        number = match.group(1)
        if number in scripts:
            message = f"{package!r} has two migrations of number {number}."
            raise MigrationError(message, remedy="Give the later one the next free number.")
        text = entry.read_text("utf-8").replace("\r\n", "\n")
        scripts[number] = _Script(package, entry.name, text)
    return list(scripts.values())


def _pending(scripts: list[_Script], known: dict[tuple[str, str], str]) -> list[_Script]:
    """Return the scripts that did not run yet; those that ran must be unchanged."""
    pending: list[_Script] = []
    for script in scripts:
        checksum = known.get((script.package, script.name))
        if checksum is None:
            pending.append(script)
        elif checksum != script.checksum:
            message = (
                f"The migration {script.name!r} of {script.package!r} was edited after it ran."
            )
            raise MigrationError(
                message, remedy="Restore it, and write the change as a new migration."
            )
        elif pending:
            message = (
                f"The migration {pending[0].name!r} of {script.package!r} is new,"
                f" but {script.name!r} ran already."
            )
            raise MigrationError(message, remedy="Give the new one a higher number.")
    return pending


@asynccontextmanager
async def _connected(owner_dsn: str) -> AsyncIterator[Connection]:
    driver = load_driver()
    try:
        connection = await driver.connect(
            owner_dsn, timeout=30.0, command_timeout=_STATEMENT_TIMEOUT
        )
    except (ValueError, driver.exceptions.ClientConfigurationError) as error:
        message = "The address of the owner role is malformed."
        raise ConfigurationError(
            message, remedy="Write it as postgresql://role:password@host:port/database."
        ) from error
    except (OSError, TimeoutError, driver.PostgresError, driver.InterfaceError) as error:
        raise unreachable(error) from error
    try:
        yield connection
    except (OSError, driver.PostgresConnectionError, driver.InterfaceError) as error:
        raise unreachable(error) from error
    except driver.PostgresError as error:
        message = f"The database refused: {message_of(error)}."
        raise MigrationError(message, remedy="Check the rights of the owner role.") from error
    finally:
        # Closing also gives the lock back. A server that does not answer gets five seconds.
        try:
            await connection.close(timeout=5.0)
        except (OSError, TimeoutError, driver.PostgresError, driver.InterfaceError):
            connection.terminate()


async def _lock(connection: Connection) -> None:
    driver = load_driver()
    try:
        await connection.execute(f"set lock_timeout = '{_LOCK_TIMEOUT:.0f}s'")
        await connection.fetchval("select pg_advisory_lock($1)", _LOCK_KEY)
    except driver.LockNotAvailableError as error:
        message = f"Another process has been applying migrations for {_LOCK_TIMEOUT:.0f} s."
        raise MigrationError(
            message, remedy="Wait for it or end it, then repeat.", retryable=True
        ) from error


async def _require_role(connection: Connection, runtime_role: str) -> None:
    found = await connection.fetchval("select 1 from pg_roles where rolname = $1", runtime_role)
    if found is None:
        message = f"The runtime role {runtime_role!r} does not exist."
        raise ConfigurationError(
            message,
            remedy="Have an administrator run: CREATE ROLE"
            f" {quote_name(runtime_role)} LOGIN NOSUPERUSER NOBYPASSRLS PASSWORD '…'.",
        )


async def _history(connection: Connection) -> dict[tuple[str, str], str]:
    async with connection.transaction():
        await connection.execute(_HISTORY)
    rows = await connection.fetch("select package, name, checksum from motadata_migrations.applied")
    return {(str(row["package"]), str(row["name"])): str(row["checksum"]) for row in rows}


async def _apply(connection: Connection, script: _Script, runtime_role: str) -> None:
    driver = load_driver()
    where = f"The migration {script.name!r} of {script.package!r}"
    try:
        async with connection.transaction():
            await _prepare(connection, script)
            before = await connection.fetchval("select pg_current_xact_id()::text")
            await connection.execute(script.text)
            after = await connection.fetchval("select pg_current_xact_id_if_assigned()::text")
            if before != after:
                message = f"{where} controls its transaction itself."
                raise MigrationError(message, remedy="Remove BEGIN, COMMIT and ROLLBACK from it.")
            await connection.execute(
                "insert into motadata_migrations.applied (package, name, checksum)"
                " values ($1, $2, $3)",
                script.package,
                script.name,
                script.checksum,
            )
            await _grant(connection, runtime_role)
            await _verify(connection, runtime_role, where)
    except (driver.PostgresConnectionError, driver.AdminShutdownError) as error:
        raise unreachable(error) from error
    except driver.PostgresError as error:
        message = f"{where} failed (SQLSTATE {error.sqlstate}): {message_of(error)}."
        raise MigrationError(
            message, remedy="Correct it and repeat; nothing of it was kept."
        ) from error


async def _prepare(connection: Connection, script: _Script) -> None:
    """Set where names are looked up; from core's first migration on, the extension is there."""
    if script.package == CORE_MIGRATIONS:
        await _install_vector(connection)
    path = search_path(await check_vector_extension(connection))
    await connection.execute(
        f"select set_config('search_path', {quote_literal(path)}, true),"
        " set_config('lock_timeout', '30s', true)"
    )


async def _install_vector(connection: Connection) -> None:
    driver = load_driver()
    try:
        async with connection.transaction():
            await connection.execute("create extension if not exists vector")
    except (driver.InsufficientPrivilegeError, driver.FeatureNotSupportedError) as error:
        message = f"The extension 'vector' cannot be installed: {message_of(error)}."
        raise ConfigurationError(
            message,
            remedy="Install pgvector 0.8.4 or later on the server, and have an administrator run"
            " CREATE EXTENSION vector in this database.",
        ) from error


async def _grant(connection: Connection, runtime_role: str) -> None:
    role = quote_name(runtime_role)
    await connection.execute(
        f"grant usage on schema motadata to {role};"
        f"grant select, insert, update, delete on all tables in schema motadata to {role};"
        f"grant usage, select on all sequences in schema motadata to {role}"
    )


async def _verify(connection: Connection, runtime_role: str, where: str) -> None:
    holes = await find_holes(connection, runtime_role)
    if holes:
        message = f"{where} would not keep tenants apart: {describe(holes)}."
        raise MigrationError(
            message,
            remedy="Put tenant_id first in the primary key and call motadata.isolate('table');"
            " run the SDK as a role that owns nothing.",
        )
