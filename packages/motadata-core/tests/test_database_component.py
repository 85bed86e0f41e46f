"""The database takes its place in a platform, from addresses or from the embedded server."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from motadata.core.errors import ConfigurationError
from motadata.core.errors import ConnectionError as DatabaseConnectionError
from motadata.core.platform import ComponentSpec, create_platform
from motadata.core.testing.database import CONFORMANCE_MIGRATIONS
from motadata.core.testing.plugin import DatabaseDsns


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the account which root's server runs under can reach."""
    path = Path(tempfile.mkdtemp(prefix="motadata-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


class _Nothing:
    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None


WITH_TABLE = ComponentSpec(
    name="rows",
    open=lambda _: _Nothing(),
    requires=("database",),
    migrations=CONFORMANCE_MIGRATIONS,
)


async def test_without_an_address_an_embedded_server_is_migrated_and_opened(folder: Path):
    environment = {"MOTADATA_DATA_DIRECTORY": str(folder)}

    async with create_platform(environment, components=[WITH_TABLE]) as platform:
        rows = await platform.database.execute_query(
            "select count(*) as n from conformance_items", tenant_id="acme"
        )

    assert rows == [{"n": 0}]


async def test_addresses_of_both_roles_migrate_and_open(database_dsns: DatabaseDsns):
    environment = {
        "MOTADATA_DATABASE_URL": database_dsns.runtime,
        "MOTADATA_DATABASE_OWNER_URL": database_dsns.owner,
    }

    async with create_platform(environment, components=[WITH_TABLE]) as platform:
        rows = await platform.database.execute_query(
            "select current_user::text as role", tenant_id="acme"
        )

    assert rows == [{"role": database_dsns.runtime_role}]


async def test_address_without_a_role_is_refused(database_dsns: DatabaseDsns):
    environment = {
        "MOTADATA_DATABASE_URL": "postgresql://localhost/motadata",
        "MOTADATA_DATABASE_OWNER_URL": database_dsns.owner,
    }

    with pytest.raises(ConfigurationError, match="names no role"):
        async with create_platform(environment, components=[]):
            pass


async def test_settings_of_pools_and_statements_reach_the_database(database_dsns: DatabaseDsns):
    environment = {
        "MOTADATA_DATABASE_URL": database_dsns.runtime,
        "MOTADATA_DATABASE_TENANT_POOLS": "1",
        "MOTADATA_DATABASE_STATEMENT_CACHE_SIZE": "0",
    }

    async with (
        create_platform(environment, components=[]) as platform,
        platform.database.transaction("acme"),
    ):
        with pytest.raises(DatabaseConnectionError, match="pools of single tenants"):
            await platform.database.execute_query("select 1", tenant_id="globex")


@pytest.mark.parametrize("name", ["TENANT_POOLS", "STATEMENT_CACHE_SIZE"])
async def test_negative_setting_is_refused_by_name(name: str):
    environment = {
        "MOTADATA_DATABASE_URL": "postgresql://role@localhost/motadata",
        f"MOTADATA_DATABASE_{name}": "-1",
    }

    with pytest.raises(ConfigurationError, match=name):
        async with create_platform(environment, components=[]):
            pass
