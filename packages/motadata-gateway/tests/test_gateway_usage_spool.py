"""Rows that wait on disk: through outages, shutdowns and `kill -9`, once each."""

from __future__ import annotations

import asyncio
import signal
import stat
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motadata.core.database import PostgresDatabase, PostgresTransaction
from motadata.core.errors import ConfigurationError, GatewayError
from motadata.core.errors import ConnectionError as DatabaseConnectionError
from motadata.core.models import Completion, Usage
from motadata.core.protocols import CachePolicy, Database
from motadata.core.testing.plugin import DatabaseDsns
from motadata.gateway import Attribution, Call, ChatRequest
from motadata.gateway.usage import UsageLog, UsagePolicy
from motadata.gateway.usage import _spool as spool
from motadata.gateway.usage._spool import Folder, Line


POLICY = UsagePolicy(interval=0.01, closing=0.2)
COUNT = "select count(*) as n from motadata.gateway_call where tenant_id = $1"


class Unplugged:
    """A database whose cable can be pulled."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database
        self.down = False
        self.tries = 0
        self.tried = asyncio.Event()

    @asynccontextmanager
    async def transaction(
        self, tenant_id: str | None = None, *, timeout: float | None = None
    ) -> AsyncIterator[PostgresTransaction]:
        self.tries += 1
        self.tried.set()
        if self.down:
            raise DatabaseConnectionError("The cable is pulled.")
        async with self._database.transaction(tenant_id, timeout=timeout) as transaction:
            yield transaction


@pytest.fixture
def plug(database: PostgresDatabase) -> Unplugged:
    return Unplugged(database)


@pytest.fixture
def acme() -> str:
    return f"acme-{uuid4().hex}"


async def record(log: UsageLog, tenant: str, number: int = 0) -> None:
    async def proceed(call: Call[ChatRequest]) -> Completion:
        call.notes.spent = Usage(number)
        return Completion("", "m")

    policy: CachePolicy = "use"
    request = ChatRequest("p/m", (), None, None, ())
    attribution = Attribution(feature=str(number))
    call = Call(request, NotImplemented, 1.0, tenant, None, policy, attribution=attribution)
    await log.chat(call, proceed)


async def counted(database: Database, tenant: str) -> int:
    return int(str((await database.execute_query(COUNT, tenant, tenant_id=tenant))[0]["n"]))


async def until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - the condition is a file's or another process's
            await asyncio.sleep(0.01)


def as_database(plug: Unplugged) -> Database:
    return plug  # type: ignore[return-value]  # all of it that the log uses


def folders(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if path.is_dir())


def double_the_segment(directory: Path) -> None:
    [segment] = directory.glob("*/*.seg")
    segment.with_name("000000000009.seg").write_bytes(segment.read_bytes())


async def test_rows_of_an_outage_arrive_when_it_is_over(
    plug: Unplugged, database: Database, acme: str, tmp_path: Path
) -> None:
    plug.down = True
    async with UsageLog(as_database(plug), tmp_path, POLICY) as log:
        await record(log, acme)
        await asyncio.wait_for(plug.tried.wait(), 10)
        assert (await log.health()).status == "degraded"
        await record(log, acme)
        plug.down = False
        await asyncio.wait_for(log.flush(), 10)

        assert await counted(database, acme) == 2
        assert (await log.health()).status == "ok"


async def test_rows_that_shutdown_could_not_send_are_sent_by_the_next_start(
    plug: Unplugged, database: Database, acme: str, tmp_path: Path
) -> None:
    plug.down = True
    async with UsageLog(as_database(plug), tmp_path, POLICY) as log:
        for number in range(3):
            await record(log, acme, number)
    assert await counted(database, acme) == 0

    plug.down = False
    async with UsageLog(as_database(plug), tmp_path, POLICY):
        await until(lambda: len(folders(tmp_path)) == 1)
        assert await counted(database, acme) == 3
    assert folders(tmp_path) == []


async def test_rows_that_closing_could_not_send_are_sent_when_the_log_is_opened_again(
    plug: Unplugged, database: Database, acme: str, tmp_path: Path
) -> None:
    log = UsageLog(as_database(plug), tmp_path, POLICY)
    plug.down = True
    async with log:
        for number in range(3):
            await record(log, acme, number)
    plug.down = False
    async with log:
        await until(lambda: len(folders(tmp_path)) == 1)
        assert await counted(database, acme) == 3


async def test_flush_that_waits_ends_with_the_log(
    plug: Unplugged, acme: str, tmp_path: Path
) -> None:
    plug.down = True
    async with UsageLog(as_database(plug), tmp_path, POLICY) as log:
        await record(log, acme)
        flushing = asyncio.create_task(log.flush())
        await asyncio.wait_for(plug.tried.wait(), 10)
    with pytest.raises(GatewayError, match="ended before"):
        await asyncio.wait_for(flushing, 10)


async def test_calls_that_end_after_the_log_was_closed_are_sent_by_the_next_opening(
    database: Database, acme: str, tmp_path: Path
) -> None:
    let = asyncio.Event()

    async def proceed(_call: Call[ChatRequest]) -> Completion:
        await let.wait()
        return Completion("", "m")

    request = ChatRequest("p/m", (), None, None, ())
    log = UsageLog(database, tmp_path, POLICY)
    async with log:
        calls = [
            asyncio.create_task(
                log.chat(Call(request, NotImplemented, 1.0, acme, None, "use"), proceed)
            )
            for _ in range(3)
        ]
        await asyncio.sleep(0)
    let.set()
    await asyncio.gather(*calls)
    await until(lambda: len(folders(tmp_path)) > 0)
    async with log:
        await until(lambda: len(folders(tmp_path)) == 1)
        assert await counted(database, acme) == 3


async def test_call_for_which_the_disk_has_no_room_is_sent_by_the_next_opening(
    database: Database, acme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> int:
        raise OSError(28, "No space left on device")

    log = UsageLog(database, tmp_path, POLICY)
    with monkeypatch.context() as disk:
        disk.setattr(Folder, "append", full)
        async with log:
            await record(log, acme)
        await until(lambda: folders(tmp_path) == [])
    async with log:
        await asyncio.wait_for(log.flush(), 10)
        assert await counted(database, acme) == 1


async def test_segment_that_is_sent_twice_counts_once(
    plug: Unplugged, database: Database, acme: str, tmp_path: Path
) -> None:
    plug.down = True
    async with UsageLog(as_database(plug), tmp_path, POLICY) as log:
        await record(log, acme)
    double_the_segment(tmp_path)

    async with UsageLog(database, tmp_path, POLICY):
        await until(lambda: len(folders(tmp_path)) == 1)
    assert await counted(database, acme) == 1


async def test_instances_share_a_directory_without_taking_each_others_rows(
    plug: Unplugged, database: Database, acme: str, tmp_path: Path
) -> None:
    plug.down = True
    async with UsageLog(as_database(plug), tmp_path, POLICY) as first:
        await record(first, acme)
        await asyncio.wait_for(plug.tried.wait(), 10)
        async with UsageLog(database, tmp_path, POLICY) as second:
            await record(second, acme)
            await asyncio.wait_for(second.flush(), 10)
            assert await counted(database, acme) == 1
        plug.down = False
        await asyncio.wait_for(first.flush(), 10)
    assert await counted(database, acme) == 2


async def test_full_folder_drops_rows_counts_them_and_says_so(
    plug: Unplugged, acme: str, tmp_path: Path
) -> None:
    plug.down = True
    policy = UsagePolicy(interval=0.01, most_bytes=1000, most_queued=2, closing=0.0)
    async with UsageLog(as_database(plug), tmp_path, policy) as log:
        for number in range(5):
            await record(log, acme, number)
        assert (await log.health()).detail == "3 calls were not written down."


async def test_files_are_nobody_elses_to_read(plug: Unplugged, acme: str, tmp_path: Path) -> None:
    plug.down = True
    async with UsageLog(as_database(plug), tmp_path / "usage", POLICY) as log:
        await record(log, acme)
        await asyncio.wait_for(plug.tried.wait(), 10)
    found = [path for path in (tmp_path / "usage").rglob("*") if path.is_file()]

    assert {path.suffix for path in found} == {"", ".seg"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in found} == {0o600}


async def test_row_that_the_database_refuses_is_kept_aside_and_stops_nobody(
    database: Database, acme: str, tmp_path: Path
) -> None:
    left = Folder.create(tmp_path)
    left.append(left.segment(1), [Line(acme, b'{"call_id": "none"}')])
    left.close()
    async with UsageLog(database, tmp_path, POLICY) as log:
        await record(log, acme)
        await asyncio.wait_for(log.flush(), 10)
        await until(lambda: bool(list(tmp_path.glob("*/*.refused"))))

    assert await counted(database, acme) == 1


def leave_unfit(directory: Path, tenant: str, rows: int) -> int:
    """Leave rows that the database refuses as a dead instance would; return the bytes of one."""
    line = Line(tenant, b'{"call_id": "none"}')
    left = Folder.create(directory)
    left.append(left.segment(1), [line] * rows)
    left.close()
    return len(line.packed())


def set_aside(directory: Path) -> list[int]:
    return sorted(path.stat().st_size for path in directory.glob("*/*.refused"))


async def send_all(log: UsageLog, directory: Path) -> str:
    """Wait until no rows are left to send, and return what the health says."""
    await until(lambda: not list(directory.glob("*/*.seg")))
    return (await log.health()).detail


async def test_refused_rows_are_kept_up_to_a_limit_and_the_rest_is_counted(
    database: Database, acme: str, tmp_path: Path
) -> None:
    size = leave_unfit(tmp_path, acme, rows=5)
    policy = UsagePolicy(interval=0.01, closing=0.2, most_bytes=2 * size + 1)
    async with UsageLog(database, tmp_path, policy) as log:
        assert await send_all(log, tmp_path) == "3 calls were not written down."

    assert set_aside(tmp_path) == [2 * size]


async def test_refused_rows_of_dead_instances_count_towards_the_limit(
    database: Database, acme: str, tmp_path: Path
) -> None:
    size = leave_unfit(tmp_path, acme, rows=2)
    policy = UsagePolicy(interval=0.01, closing=0.2, most_bytes=3 * size)
    async with UsageLog(database, tmp_path, policy) as log:
        assert await send_all(log, tmp_path) == ""
    leave_unfit(tmp_path, acme, rows=2)
    async with UsageLog(database, tmp_path, policy) as log:
        assert await send_all(log, tmp_path) == "1 calls were not written down."

    assert set_aside(tmp_path) == [size, 2 * size]


async def test_full_set_of_refused_rows_stops_nobody(
    database: Database, acme: str, tmp_path: Path
) -> None:
    size = leave_unfit(tmp_path, acme, rows=9)
    policy = UsagePolicy(interval=0.01, closing=0.2, most_bytes=8 * size)
    async with UsageLog(database, tmp_path, policy) as log:
        await record(log, acme)  # before the rows that were left count as waiting
        await asyncio.wait_for(log.flush(), 10)
        assert await send_all(log, tmp_path) == "1 calls were not written down."

    assert await counted(database, acme) == 1


async def test_refused_rows_for_which_the_disk_has_no_room_are_given_up_and_stop_nobody(
    database: Database, acme: str, tmp_path: Path
) -> None:
    leave_unfit(tmp_path, acme, rows=3)
    [left] = folders(tmp_path)
    (left / "rows.refused").symlink_to("/dev/full")
    async with UsageLog(database, tmp_path, POLICY) as log:
        await record(log, acme)
        await asyncio.wait_for(log.flush(), 10)
        assert await send_all(log, tmp_path) == "3 calls were not written down."

    assert await counted(database, acme) == 1


async def test_disk_that_has_room_again_keeps_the_refused_rows(
    database: Database, acme: str, tmp_path: Path
) -> None:
    size = leave_unfit(tmp_path, acme, rows=3)
    [left] = folders(tmp_path)
    (left / "rows.refused").symlink_to("/dev/full")
    async with UsageLog(database, tmp_path, POLICY) as log:
        await until(lambda: bool(log._delivery.failing))
        (left / "rows.refused").unlink()
        await until(lambda: not log._delivery.failing)
        assert await send_all(log, tmp_path) == ""

    assert set_aside(tmp_path) == [3 * size]


@pytest.mark.parametrize(
    "wrong",
    [
        *({"interval": bad} for bad in (0, -1.0, float("nan"), float("inf"), "1", True, None)),
        *({"closing": bad} for bad in (-1.0, float("nan"), "1")),
        {"most_queued": float("nan")},
        {"timeout": float("nan")},
    ],
    ids=str,
)
def test_policy_that_cannot_work_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        UsagePolicy(**wrong)  # type: ignore[arg-type]  # that is the point


async def test_directory_that_cannot_be_written_is_refused(
    database: Database, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="usage log"):
        async with UsageLog(database, tmp_path / "file"):
            pass


@given(st.lists(st.tuples(st.from_regex(r"\A[A-Za-z0-9_-]{1,64}\Z"), st.text())), st.data())
def test_torn_segment_gives_the_lines_before_the_tear(
    tmp_path_factory: pytest.TempPathFactory, texts: list[tuple[str, str]], data: st.DataObject
) -> None:
    lines = [Line(tenant, repr(text).encode("utf-8", "replace")) for tenant, text in texts]
    packed = b"".join(line.packed() for line in lines)
    cut = data.draw(st.integers(0, len(packed)))
    path = tmp_path_factory.mktemp("torn") / "1.seg"
    path.write_bytes(packed[:cut])

    found = spool.read(path)
    assert list(found.lines) == lines[: len(found.lines)]
    assert len(found.lines) >= packed[:cut].count(b"\n")


VICTIM = """
import asyncio, itertools, sys, time
from pathlib import Path
from motadata.core.database import create_database
from motadata.core.models import Completion, Usage
from motadata.gateway import Attribution, Call, ChatRequest
from motadata.gateway.usage import UsageLog, UsagePolicy

async def proceed(call):
    call.notes.spent = Usage(1)
    return Completion("", "m")

async def main(dsn, directory, tenant):
    request = ChatRequest("p/m", (), None, None, ())
    async with create_database(dsn) as database:
        async with UsageLog(database, Path(directory), UsagePolicy(interval=0.1)) as log:
            for number in itertools.count():
                by = Attribution(feature=str(number))
                call = Call(request, None, 1.0, tenant, None, "use", attribution=by)
                await log.chat(call, proceed)
                if number % 10 == 9:
                    print(number + 1, time.monotonic(), flush=True)
                    await asyncio.sleep(0.001)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_kill_loses_at_most_the_last_interval_and_the_rest_arrives_once(
    database_dsns: DatabaseDsns, database: Database, acme: str, tmp_path: Path
) -> None:
    victim = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", VICTIM, database_dsns.runtime, str(tmp_path), acme),
        stdout=asyncio.subprocess.PIPE,
    )
    assert victim.stdout is not None
    said: list[tuple[int, float]] = []
    async with asyncio.timeout(60):
        while not said or said[-1][1] - said[0][1] < 1.0:
            number, at = (await victim.stdout.readline()).split()
            said.append((int(number), float(at)))
    victim.send_signal(signal.SIGKILL)
    rest = await victim.stdout.read()
    await victim.wait()
    said += [(int(a), float(b)) for a, b in (each.split() for each in rest.splitlines()[:-1])]

    async with UsageLog(database, tmp_path, POLICY):
        await until(lambda: len(folders(tmp_path)) == 1)
    query = "select feature from motadata.gateway_call where tenant_id = $1 order by call_id"
    rows = await database.execute_query(query, acme, tenant_id=acme)
    arrived = [int(str(row["feature"])) for row in rows]

    end = said[-1][1]
    # The interval, and what the disk and a busy machine take to write.
    safe = max((number for number, at in said if at < end - 1.0), default=0)
    assert sorted(arrived) == list(range(len(arrived)))
    assert len(arrived) >= safe
