"""Fixtures of a real PostgreSQL: one server a test run, one fresh database a test module."""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import pytest
import pytest_asyncio


if TYPE_CHECKING:
    from motadata.core.database import PostgresDatabase
    from motadata.core.embedded import EmbeddedPostgres

Result = TypeVar("Result")

_TEMPLATES: Final = pytest.StashKey[dict[tuple[str, ...], str]]()


@dataclass(frozen=True, slots=True, repr=False)
class DatabaseDsns:
    """The addresses of one database; they hold passwords.

    Attributes:
        owner: For the role that owns the tables: migrations and looking behind the scenes.
        runtime: For the role that the SDK runs as.
        administrator: For the superuser; no isolation applies to it.
        runtime_role: Name of the role that the SDK runs as.
    """

    owner: str
    runtime: str
    administrator: str
    runtime_role: str


@pytest.fixture(scope="session")
def embedded_postgres() -> Iterator[EmbeddedPostgres]:
    """One PostgreSQL server for the whole test run, xdist's workers included; gone afterwards."""
    from motadata.core.embedded import EmbeddedPostgres

    # Not pytest's own temporary folder: it is closed to the account that root's server runs under.
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or secrets.token_hex(8)
    directory = Path(tempfile.gettempdir()) / f"motadata-test-{run[:16]}"
    server = EmbeddedPostgres(directory, durable=False, keep=False)
    _run_apart(server.__aenter__())
    try:
        yield server
    finally:
        _run_apart(server.__aexit__(None, None, None))


@pytest.fixture(scope="session")
def migration_packages() -> tuple[str, ...]:
    """Import names of the packages whose migrations the database gets, core's being always there.

    Override it, with session or module scope, in a conftest or a test module.
    """
    return ()


@pytest.fixture(scope="module")
def database_dsns(
    embedded_postgres: EmbeddedPostgres,
    migration_packages: tuple[str, ...],
    request: pytest.FixtureRequest,
) -> Iterator[DatabaseDsns]:
    """Addresses of a fresh, migrated database, dropped when the module's tests are through."""
    templates = request.config.stash.setdefault(_TEMPLATES, {})
    packages = tuple(migration_packages)
    if packages not in templates:
        templates[packages] = _run_apart(_create_template(embedded_postgres, packages))
    name = f"test_{secrets.token_hex(8)}"
    _run_apart(_administer(embedded_postgres, _creation(name, templates[packages])))
    try:
        yield _dsns(embedded_postgres, name)
    finally:
        _run_apart(_administer(embedded_postgres, f'drop database "{name}" with (force)'))


@pytest_asyncio.fixture
async def database(database_dsns: DatabaseDsns) -> AsyncIterator[PostgresDatabase]:
    """The module's database, opened as the role that the SDK runs as."""
    from motadata.core.database import create_database

    async with create_database(database_dsns.runtime, max_connections=5) as opened:
        yield opened


async def _create_template(server: EmbeddedPostgres, packages: tuple[str, ...]) -> str:
    from motadata.core.database import apply_migrations

    name = f"template_{secrets.token_hex(8)}"
    await _administer(server, _creation(name, "template1"))
    dsns = _dsns(server, name)
    await apply_migrations(dsns.owner, packages, runtime_role=dsns.runtime_role)
    return name


def _dsns(server: EmbeddedPostgres, name: str) -> DatabaseDsns:
    from motadata.core.embedded import ADMINISTRATOR, OWNER

    return DatabaseDsns(
        owner=server.dsn(OWNER, database=name),
        runtime=server.dsn(server.runtime_role, database=name),
        administrator=server.dsn(ADMINISTRATOR, database=name),
        runtime_role=server.runtime_role,
    )


def _creation(name: str, template: str) -> str:
    from motadata.core.embedded import OWNER

    return f'create database "{name}" owner "{OWNER}" template "{template}"'


async def _administer(server: EmbeddedPostgres, statement: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(server.administrator_dsn, timeout=30, command_timeout=60)
    try:
        await connection.execute(statement)
    finally:
        await connection.close(timeout=5)


def _run_apart(work: Coroutine[object, object, Result]) -> Result:
    """Run a coroutine to its end on a loop of its own, away from that of the tests."""
    with ThreadPoolExecutor(max_workers=1) as executor:
        return executor.submit(asyncio.run, work).result()
