"""Numbered SQL files are applied once, in order, whole or not at all."""

from __future__ import annotations

import asyncio
import re
import secrets
import sys
from collections.abc import AsyncIterator, Callable
from importlib import resources
from pathlib import Path

import asyncpg
import pytest

from motadata.core.database import apply_migrations, create_database
from motadata.core.embedded import ADMINISTRATOR, OWNER, EmbeddedPostgres
from motadata.core.errors import ConfigurationError, MigrationError
from motadata.core.errors import ConnectionError as DatabaseConnectionError
from motadata.core.testing.plugin import DatabaseDsns


GOOD = (
    "create table motadata.{0} (tenant_id text, id int, primary key (tenant_id, id));"
    " select motadata.isolate('motadata.{0}');"
)
BARE = "create table motadata.{0} (tenant_id text, id int, primary key (tenant_id, id));"

CORE = {
    entry.name: entry.read_text("utf-8")
    for entry in resources.files("motadata.core.migrations").iterdir()
    if entry.name.endswith(".sql")
}
CORE_FILES = sorted(CORE)
CORE_TABLES = set(re.findall(r"create table motadata\.(\w+)", "".join(CORE.values())))

Package = Callable[[dict[str, str]], str]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """Write a package of migrations that can be imported, or change it."""
    name = f"migrations_{secrets.token_hex(6)}"
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)

    def write(files: dict[str, str]) -> str:
        for file, text in files.items():
            (folder / file).write_text(text, "utf-8")
        return name

    yield write
    sys.modules.pop(name, None)


@pytest.fixture
async def empty(embedded_postgres: EmbeddedPostgres) -> AsyncIterator[DatabaseDsns]:
    """A database without any migration."""
    name = f"test_{secrets.token_hex(8)}"
    administrator = await asyncpg.connect(embedded_postgres.administrator_dsn)
    await administrator.execute(f"create database {name} owner {OWNER}")
    yield DatabaseDsns(
        owner=embedded_postgres.dsn(OWNER, database=name),
        runtime=embedded_postgres.dsn(embedded_postgres.runtime_role, database=name),
        administrator=embedded_postgres.dsn(ADMINISTRATOR, database=name),
        runtime_role=embedded_postgres.runtime_role,
    )
    await administrator.execute(f"drop database {name} with (force)")
    await administrator.close()


async def _tables(dsns: DatabaseDsns) -> set[str]:
    """Return the tables that are there besides core's own."""
    connection = await asyncpg.connect(dsns.owner)
    rows = await connection.fetch("select tablename from pg_tables where schemaname = 'motadata'")
    await connection.close()
    return {row["tablename"] for row in rows} - CORE_TABLES


async def _apply(dsns: DatabaseDsns, *packages: str) -> list[str]:
    applied = await apply_migrations(dsns.owner, packages, runtime_role=dsns.runtime_role)
    return [migration.name for migration in applied]


async def test_migrations_run_by_number_behind_those_of_core(empty: DatabaseDsns, package: Package):
    name = package({"0002_b.sql": GOOD.format("b"), "0001_a.sql": GOOD.format("a")})

    assert await _apply(empty, name) == [*CORE_FILES, "0001_a.sql", "0002_b.sql"]


async def test_migration_that_ran_does_not_run_again(empty: DatabaseDsns, package: Package):
    name = package({"0001_a.sql": GOOD.format("a")})
    await _apply(empty, name)

    package({"0002_b.sql": GOOD.format("b")})

    assert await _apply(empty, name) == ["0002_b.sql"]
    assert await _apply(empty, name) == []


async def test_runtime_role_can_use_what_was_migrated(empty: DatabaseDsns, package: Package):
    await _apply(empty, package({"0001_a.sql": GOOD.format("a")}))

    async with create_database(empty.runtime) as database:
        await database.execute_query("insert into a values ('acme', 1)", tenant_id="acme")
        rows = await database.execute_query("select id from a", tenant_id="acme")

    assert rows == [{"id": 1}]


async def test_many_at_once_apply_each_migration_once(empty: DatabaseDsns, package: Package):
    files = {f"{number:04}_t.sql": GOOD.format(f"t{number}") for number in range(1, 6)}
    name = package(files)

    runs = await asyncio.gather(*(_apply(empty, name) for _ in range(5)))

    assert sorted(name for run in runs for name in run) == sorted([*CORE_FILES, *files])


async def test_edited_migration_is_refused(empty: DatabaseDsns, package: Package):
    name = package({"0001_a.sql": GOOD.format("a")})
    await _apply(empty, name)

    package({"0001_a.sql": GOOD.format("a") + "-- edited"})

    with pytest.raises(MigrationError, match=r"'0001_a\.sql' .* was edited"):
        await _apply(empty, name)


async def test_line_endings_are_no_edit(empty: DatabaseDsns, package: Package):
    name = package({"0001_a.sql": GOOD.format("a") + "\n-- end\n"})
    await _apply(empty, name)

    package({"0001_a.sql": GOOD.format("a") + "\r\n-- end\r\n"})

    assert await _apply(empty, name) == []


async def test_new_migration_below_one_that_ran_is_refused(empty: DatabaseDsns, package: Package):
    name = package({"0002_b.sql": GOOD.format("b")})
    await _apply(empty, name)

    package({"0001_a.sql": GOOD.format("a")})

    with pytest.raises(MigrationError, match="higher number"):
        await _apply(empty, name)


async def test_failing_migration_leaves_nothing_and_is_tried_again(
    empty: DatabaseDsns, package: Package
):
    name = package({"0001_a.sql": GOOD.format("a"), "0002_b.sql": GOOD.format("b") + "select 1/0;"})
    with pytest.raises(MigrationError, match=r"'0002_b\.sql' .* failed \(SQLSTATE 22012\)"):
        await _apply(empty, name)
    assert await _tables(empty) == {"a"}

    package({"0002_b.sql": GOOD.format("b")})

    assert await _apply(empty, name) == ["0002_b.sql"]


async def test_migration_that_leaves_a_table_open_is_rolled_back(
    empty: DatabaseDsns, package: Package
):
    name = package({"0001_a.sql": GOOD.format("a"), "0002_open.sql": BARE.format("open")})

    with pytest.raises(MigrationError, match=r"'0002_open\.sql'.*'motadata\.open' does not enable"):
        await _apply(empty, name)

    assert await _tables(empty) == {"a"}


@pytest.mark.parametrize("control", ["commit; begin;", "rollback; begin;", "commit;", "rollback;"])
async def test_migration_that_controls_its_transaction_is_refused(
    empty: DatabaseDsns, package: Package, control: str
):
    name = package({"0001_a.sql": f"select 1; {control}"})

    with pytest.raises(MigrationError):
        await _apply(empty, name)

    with pytest.raises(MigrationError):
        await _apply(empty, name)


@pytest.mark.parametrize(
    "files",
    [{"1_a.sql": ""}, {"0001_A.sql": ""}, {"0001.sql": ""}, {"0001_a.sql": "", "0001_b.sql": ""}],
    ids="+".join,
)
async def test_names_that_give_no_order_are_refused(
    empty: DatabaseDsns, package: Package, files: dict[str, str]
):
    with pytest.raises(MigrationError, match=r"NNNN_title|number 0001"):
        await _apply(empty, package(files))


async def test_package_that_is_not_there_is_a_configuration_error(empty: DatabaseDsns):
    with pytest.raises(ConfigurationError, match=r"'nothing\.here'"):
        await _apply(empty, "nothing.here")


async def test_runtime_role_that_is_not_there_is_a_configuration_error(empty: DatabaseDsns):
    with pytest.raises(ConfigurationError, match='CREATE ROLE "no""body"'):
        await apply_migrations(empty.owner, [], runtime_role='no"body')


@pytest.mark.parametrize("which", ["owner", "superuser"])
async def test_runtime_role_that_isolation_would_not_bind_is_refused(
    empty: DatabaseDsns, package: Package, which: str
):
    role = {"owner": OWNER, "superuser": ADMINISTRATOR}[which]

    with pytest.raises(MigrationError, match=r"owner|superuser"):
        await apply_migrations(
            empty.owner, [package({"0001_a.sql": GOOD.format("a")})], runtime_role=role
        )


async def test_database_that_was_not_migrated_cannot_be_used_by_accident(
    embedded_postgres: EmbeddedPostgres, empty: DatabaseDsns
):
    administrator = await asyncpg.connect(empty.administrator)
    await administrator.execute("drop extension vector")
    await administrator.close()

    with pytest.raises(ConfigurationError, match="CREATE EXTENSION vector"):
        async with create_database(empty.runtime):
            pass
    with pytest.raises(ConfigurationError, match="administrator"):
        await _apply(empty)


async def test_too_old_extension_is_refused(empty: DatabaseDsns):
    await _apply(empty)
    administrator = await asyncpg.connect(empty.administrator)
    await administrator.execute(
        "update pg_extension set extversion = '0.8.3' where extname = 'vector'"
    )
    await administrator.close()

    with pytest.raises(ConfigurationError, match=r"'0\.8\.3'; 0\.8\.4 is needed"):
        async with create_database(empty.runtime):
            pass


async def test_server_that_is_not_there_is_a_connection_error(tmp_path: Path):
    with pytest.raises(DatabaseConnectionError):
        await apply_migrations(f"postgresql://u:p@/d?host={tmp_path}", [], runtime_role="r")
