"""Whole platforms on a real PostgreSQL, composed from what is installed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from motadata.core.platform import Platform, create_platform
from motadata.core.testing.plugin import DatabaseDsns


Rows = dict[str, list[str]]


@pytest.fixture(scope="session")
def samples() -> Path:
    """The sample knowledge base that the repository carries."""
    return Path(__file__).resolve().parent.parent / "samples" / "knowledge-base"


@pytest.fixture(scope="module")
def environment(database_dsns: DatabaseDsns) -> dict[str, str]:
    """Settings of a platform on the test module's own database."""
    return {
        "MOTADATA_DATABASE_URL": database_dsns.runtime,
        "MOTADATA_DATABASE_OWNER_URL": database_dsns.owner,
    }


@pytest_asyncio.fixture
async def platform(environment: dict[str, str]) -> AsyncIterator[Platform]:
    """Every installed component, open."""
    async with create_platform(environment) as platform:
        yield platform


@pytest.fixture
def all_rows(database_dsns: DatabaseDsns) -> Callable[[], Awaitable[Rows]]:
    """What every table of the SDK holds, past all isolation: what an administrator sees."""

    async def read() -> Rows:
        connection = await asyncpg.connect(database_dsns.administrator)
        try:
            tables = await connection.fetch(
                "select tablename from pg_tables where schemaname = 'motadata' order by 1"
            )
            names = [str(table["tablename"]) for table in tables]
            return {
                name: sorted(map(repr, await connection.fetch(f"select * from motadata.{name}")))
                for name in names
            }
        finally:
            await connection.close()

    return read
