"""The database of core keeps the contract of every database."""

from __future__ import annotations

import pytest

from motadata.core.database import PostgresDatabase
from motadata.core.testing.database import CONFORMANCE_MIGRATIONS, DatabaseConformance


@pytest.fixture(scope="module")
def migration_packages() -> tuple[str, ...]:
    return (CONFORMANCE_MIGRATIONS,)


class TestPostgresDatabase(DatabaseConformance):
    @pytest.fixture
    def database(self, database: PostgresDatabase) -> PostgresDatabase:
        return database
