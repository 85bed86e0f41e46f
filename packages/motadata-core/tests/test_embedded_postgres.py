"""The embedded server serves several processes, and outlives none of them."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import psutil
import pytest

from motadata.core.database import apply_migrations, create_database
from motadata.core.embedded import ADMINISTRATOR, OWNER, RUNTIME, EmbeddedPostgres
from motadata.core.errors import ConfigurationError
from motadata.core.errors import ConnectionError as DatabaseConnectionError


USER = """
import asyncio, sys
from motadata.core.embedded import EmbeddedPostgres

async def main():
    async with EmbeddedPostgres(sys.argv[1], durable=False):
        print("in", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
    print("out", flush=True)

asyncio.run(main())
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    """A folder that the account which root's server runs under can reach."""
    folder = Path(tempfile.mkdtemp(prefix="motadata-test-"))
    folder.chmod(0o755)
    yield folder / "postgres"
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def prepared() -> Iterator[Path]:
    """A data directory to copy, for making one takes longest."""
    folder = Path(tempfile.mkdtemp(prefix="motadata-test-"))
    folder.chmod(0o755)

    async def make() -> None:
        async with EmbeddedPostgres(folder / "postgres", durable=False):
            pass

    asyncio.run(make())
    yield folder / "postgres"
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def made(prepared: Path, directory: Path) -> Path:
    shutil.copytree(prepared, directory)
    for path in [*prepared.rglob("*"), prepared]:
        state = path.stat()
        os.chown(directory / path.relative_to(prepared), state.st_uid, state.st_gid)
    return directory


class User:
    """Another process that uses the server."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def enter(cls, directory: Path) -> User:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", USER, str(directory)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        user = cls(process)
        assert await user.said() == "in"
        return user

    async def said(self) -> str:
        assert self.process.stdout is not None
        async with asyncio.timeout(60):
            return (await self.process.stdout.readline()).decode().strip()

    async def leave(self) -> None:
        await self.process.communicate(b"\n")

    async def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        await self.process.communicate()


def _server(directory: Path) -> int | None:
    try:
        number = int((directory / "data" / "postmaster.pid").read_text().split("\n")[0])
    except FileNotFoundError:
        return None
    return number if psutil.pid_exists(number) else None


async def _until_stopped(directory: Path) -> None:
    async with asyncio.timeout(30):
        while _server(directory) is not None:  # noqa: ASYNC110 - the event is another process's
            await asyncio.sleep(0.02)


async def test_data_is_kept_between_runs(made: Path):
    async with EmbeddedPostgres(made) as server:
        await _execute(server.owner_dsn, "create table notes as select 'kept' as word")
    assert _server(made) is None

    async with EmbeddedPostgres(made) as server:
        connection = await asyncpg.connect(server.owner_dsn)
        word = await connection.fetchval("select word from notes")
        await connection.close()

    assert word == "kept"


async def test_two_users_in_one_process_share_the_server(made: Path):
    async with EmbeddedPostgres(made) as first:
        async with EmbeddedPostgres(made) as second:
            assert second.runtime_dsn == first.runtime_dsn
        assert (await first.health()).status == "ok"

    assert _server(made) is None


async def test_server_goes_with_the_last_of_two_processes(made: Path):
    first, second = await asyncio.gather(User.enter(made), User.enter(made))
    server = _server(made)

    await first.leave()
    assert _server(made) == server
    assert server is not None

    await second.leave()
    assert _server(made) is None


async def test_server_goes_on_when_one_of_two_processes_is_killed(made: Path):
    async with EmbeddedPostgres(made) as mine:
        other = await User.enter(made)

        await other.kill()

        connection = await asyncpg.connect(mine.runtime_dsn)
        assert await connection.fetchval("select 1") == 1
        await connection.close()
    assert _server(made) is None


async def test_server_stops_when_its_only_user_is_killed(made: Path):
    user = await User.enter(made)
    assert _server(made) is not None

    await user.kill()

    await _until_stopped(made)


async def test_user_who_comes_while_the_last_is_killed_gets_a_server(made: Path):
    for _ in range(3):
        user = await User.enter(made)
        await user.kill()
        async with EmbeddedPostgres(made) as server:
            await _execute(server.runtime_dsn, "select 1")


async def test_killed_server_recovers_what_was_committed(made: Path):
    async with EmbeddedPostgres(made) as server:
        await _execute(server.owner_dsn, "create table notes as select 'kept' as word")
        number = _server(made)
        assert number is not None
        os.kill(number, signal.SIGKILL)
        await asyncio.to_thread(psutil.wait_procs, [psutil.Process(number)], 5)

        async with EmbeddedPostgres(made) as again:
            connection = await asyncpg.connect(again.owner_dsn)
            assert await connection.fetchval("select word from notes") == "kept"
            await connection.close()


async def test_process_file_with_a_number_that_is_someone_elses_is_no_obstacle(made: Path):
    (made / "data" / "postmaster.pid").write_text(f"{os.getpid()}\n{made}/data\n1\n5432\n\n\n\n\n")

    async with EmbeddedPostgres(made) as server:
        await _execute(server.runtime_dsn, "select 1")


async def test_database_comes_back_when_the_server_does(made: Path):
    async with EmbeddedPostgres(made) as server:
        await apply_migrations(server.owner_dsn, [], runtime_role=server.runtime_role)
        async with create_database(server.runtime_dsn, timeout=5) as database:
            await database.execute_query("select 1", tenant_id="acme")

            await server.stop()
            with pytest.raises(DatabaseConnectionError) as caught:
                await database.execute_query("select 1", tenant_id="acme")
            sick = await database.health()
            await server.start()

            rows = await database.execute_query("select 1 as one", tenant_id="acme")
            assert (caught.value.retryable, sick.status, rows) == (True, "down", [{"one": 1}])


@pytest.mark.parametrize("role", [ADMINISTRATOR, OWNER, RUNTIME])
async def test_nobody_gets_in_without_the_password(made: Path, role: str):
    async with EmbeddedPostgres(made) as server:
        address = server.dsn(role)
        password = address.split("@", 1)[0].rsplit(":", 1)[1]

        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(address.replace(password, "guess"))


async def test_server_is_closed_to_other_accounts_and_to_the_network(made: Path):
    async with EmbeddedPostgres(made) as server:
        connection = await asyncpg.connect(server.runtime_dsn)
        addresses = await connection.fetchval("select current_setting('listen_addresses')")
        await connection.close()

        modes = {
            path.name: stat.S_IMODE(path.stat().st_mode)
            for path in (made / "data", made / "socket", made / "credentials.json")
        }

    assert addresses == ""
    assert modes == {"data": 0o700, "socket": 0o700, "credentials.json": 0o600}


async def test_roles_are_what_the_sdk_wants_of_them(made: Path):
    async with EmbeddedPostgres(made) as server:
        connection = await asyncpg.connect(server.administrator_dsn)
        rows = await connection.fetch(
            "select rolname, rolsuper, rolbypassrls, rolcreaterole from pg_roles"
            " where rolname = any ($1) order by 1",
            [OWNER, RUNTIME],
        )
        await connection.close()

    assert [tuple(row) for row in rows] == [
        (RUNTIME, False, False, False),
        (OWNER, False, False, False),
    ]


async def test_case_of_letters_beyond_ascii_is_known(made: Path):
    async with EmbeddedPostgres(made) as server:
        connection = await asyncpg.connect(server.owner_dsn)
        word = await connection.fetchval("select lower('ÄÉŠ')")
        words = await connection.fetchval("select to_tsvector('simple', 'the “Größe”')::text")
        await connection.close()

    assert word == "äéš"
    assert "'größe'" in words


async def test_log_holds_no_rows(made: Path):
    async with EmbeddedPostgres(made) as server:
        connection = await asyncpg.connect(server.owner_dsn)
        await connection.execute("create table notes (word text primary key)")
        for _ in range(2):
            with suppress(asyncpg.UniqueViolationError):
                await connection.execute("insert into notes values ($1)", "s3cret")
        await connection.close()

    assert "duplicate key" in (made / "server.log").read_text()
    assert "s3cret" not in (made / "server.log").read_text()


@pytest.mark.parametrize(
    "name", ["with space", "quo'te\"s", "$(touch x)`y`", "x" * 120, "ünï"], ids=lambda n: n[:9]
)
async def test_any_name_of_the_directory_will_do(made: Path, name: str):
    other = await asyncio.to_thread(made.rename, made.with_name(name))

    async with EmbeddedPostgres(other) as server:
        await _execute(server.runtime_dsn, "select 1")

    assert _server(other) is None


async def test_directory_that_is_not_to_be_kept_goes_with_the_last_user(made: Path):
    async with EmbeddedPostgres(made, keep=False):
        pass

    assert list(made.parent.iterdir()) == []


async def test_crash_while_the_data_directory_is_made_leaves_no_half_of_it(directory: Path):
    (directory / "data.unfinished" / "base").mkdir(parents=True)
    (directory / "credentials.json").write_text("{")

    async with EmbeddedPostgres(directory, durable=False) as server:
        await _execute(server.runtime_dsn, "select 1")

    assert not (directory / "data.unfinished").exists()


async def test_cancelled_start_leaves_no_server(made: Path):
    task = asyncio.create_task(EmbeddedPostgres(made).__aenter__())
    await asyncio.sleep(0)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert _server(made) is None


async def test_lost_passwords_are_an_error_that_says_where_they_were(made: Path):
    (made / "credentials.json").unlink()

    with pytest.raises(ConfigurationError, match=r"credentials\.json"):
        async with EmbeddedPostgres(made):
            pass
    assert _server(made) is None


async def test_addresses_are_known_only_while_the_server_is_in_use(made: Path):
    server = EmbeddedPostgres(made)

    with pytest.raises(ConfigurationError, match="async with"):
        server.runtime_dsn  # noqa: B018 - the property raises
    assert (await server.health()).status == "down"


async def test_starting_does_not_block_the_event_loop(directory: Path):
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(0.01)
            longest = max(longest, loop.time() - before)

    watcher = asyncio.create_task(watch())
    async with EmbeddedPostgres(directory, durable=False):
        pass
    watcher.cancel()

    assert longest < 0.5


async def _execute(dsn: str, sql: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(sql)
    await connection.close()
