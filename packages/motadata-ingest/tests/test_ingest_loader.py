"""The isolated loader: its contract, its processes, and what hostile files do to it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from motadata.core.errors import (
    ConfigurationError,
    DeadlineExceededError,
    FileTooLargeError,
    IngestionError,
    LoaderCrashedError,
    UnreadableFileError,
    UnsupportedFormatError,
)
from motadata.core.protocols import DocumentLoader
from motadata.core.resilience import deadline_scope
from motadata.core.testing.document_loader import DocumentLoaderConformance
from motadata.ingest import IsolatedLoader, Limits
from motadata.ingest._process import WorkerProcess


Maker = Callable[..., bytes]
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
SLOW = b"".join(b'"%d","a note, quoted","open"\n' % number for number in range(250_000))


class TestIsolatedLoader(DocumentLoaderConformance):
    @pytest.fixture
    async def loader(self) -> AsyncIterator[DocumentLoader]:
        async with IsolatedLoader() as opened:
            yield opened


def workers(loader: IsolatedLoader) -> list[WorkerProcess]:
    return [*loader._idle, *loader._busy]


def pid_of(worker: WorkerProcess) -> int:
    return worker._process.pid


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def proc(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


def network_of(pid: int) -> str:
    return str(Path(f"/proc/{pid}/ns/net").readlink())


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


async def until(condition: Callable[[], object], *, seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - another process can set no event of ours
            await asyncio.sleep(0.005)


async def test_all_formats_are_read_in_the_process(
    loader: IsolatedLoader, make_pdf: Maker, make_docx: Maker, paragraph: Callable[..., str]
):
    files = {
        "a.pdf": make_pdf([["Text here."]], outline=[("Text here.", 1)]),
        "a.docx": make_docx(paragraph("Text here.")),
        "a.html": b"<!doctype html><title>T</title><p>Text here.",
        "a.md": b"# Text here.",
        "a.csv": b"note\nText here.\n",
        "a.json": b'{"note": "Text here."}',
        "a.jsonl": b'{"note": "Text here."}\n{"note": "x"}\n',
        "a.txt": "Text here. Größe".encode("latin-1"),
    }

    for name, content in files.items():
        document = await loader.load(content, source=name)
        assert "Text here." in document.text, name


async def test_page_and_heading_travel_with_the_document(loader: IsolatedLoader, make_pdf: Maker):
    content = make_pdf([["One"], ["Two", "text"]], outline=[("Two", 2)], title="T")

    document = await loader.load(content, source="dir/a.pdf")

    last = document.sections[-1]
    assert (last.page, last.heading) == (2, "Two")
    assert document.text[last.start : last.end] == "Two\n\ntext"
    assert (document.title, document.source, document.document_id) == ("T", "dir/a.pdf", None)


async def test_huge_sparse_file_is_refused_without_reading(loader: IsolatedLoader, tmp_path: Path):
    path = tmp_path / "sparse.txt"
    with path.open("wb") as file:
        file.truncate(2**30)
    started = time.process_time()

    with pytest.raises(FileTooLargeError, match="1073741824"):
        await loader.load(path, source="sparse.txt")

    assert time.process_time() - started < 0.2


async def test_bytes_above_the_limit_are_refused():
    async with IsolatedLoader(limits=Limits(file_bytes=10)) as loader:
        with pytest.raises(FileTooLargeError, match="11"):
            await loader.load(b"x" * 11, source="a.txt")


async def test_pipes_devices_and_folders_are_refused_at_once(
    loader: IsolatedLoader, tmp_path: Path
):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    async with asyncio.timeout(5):
        for path in (pipe, Path("/dev/zero"), tmp_path):
            with pytest.raises(UnsupportedFormatError, match="not a file"):
                await loader.load(path, source="x.txt")


async def test_memory_hog_meets_its_limit():
    content = json.dumps([{"a": {"b": at}} for at in range(400_000)]).encode()
    limits = Limits(memory_bytes=160 * 2**20)
    async with IsolatedLoader(limits=limits, workers=1) as loader:
        with pytest.raises(LoaderCrashedError, match="memory"):
            await loader.load(content, source="hog.json")

        assert (await loader.load(b"Fine.", source="a.txt")).text == "Fine."


async def test_slow_file_is_ended_by_the_clock():
    async with IsolatedLoader(limits=Limits(seconds=0.4), workers=1) as loader:
        with pytest.raises(LoaderCrashedError, match=r"0\.4 seconds"):
            await loader.load(SLOW, source="slow.csv")

        assert (await loader.load(b"Fine.", source="a.txt")).text == "Fine."


@linux
async def test_death_of_the_reader_is_reported_and_the_next_file_is_read(loader: IsolatedLoader):
    (worker,) = workers(loader)
    reading = asyncio.create_task(loader.load(SLOW, source="slow.csv"))
    await until(lambda: children(pid_of(worker)))

    os.kill(children(pid_of(worker))[0], signal.SIGKILL)

    with pytest.raises(LoaderCrashedError, match="signal 9"):
        await reading
    assert (await loader.load(b"Fine.", source="a.txt")).text == "Fine."


@linux
async def test_process_that_died_while_idle_is_replaced(loader: IsolatedLoader):
    (worker,) = workers(loader)
    os.kill(pid_of(worker), signal.SIGKILL)
    await until(lambda: not worker.is_alive)

    assert (await loader.load(b"Fine.", source="a.txt")).text == "Fine."


@linux
async def test_reading_ends_with_the_deadline_of_its_caller(loader: IsolatedLoader):
    with deadline_scope(0.0), pytest.raises(DeadlineExceededError):
        await loader.load(b"Text.", source="a.txt")

    assert (await loader.load(b"Text.", source="a.txt")).text == "Text."


async def test_cancelling_kills_the_reading_process(loader: IsolatedLoader):
    (worker,) = workers(loader)
    reading = asyncio.create_task(loader.load(SLOW, source="slow.csv"))
    await until(lambda: children(pid_of(worker)))
    child = children(pid_of(worker))[0]

    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading

    await until(lambda: not is_running(child) and not is_running(pid_of(worker)))


@linux
async def test_leaving_the_context_ends_every_process_and_fails_what_is_read():
    async with IsolatedLoader() as loader:
        (worker,) = workers(loader)
        reading = asyncio.create_task(loader.load(SLOW, source="slow.csv"))
        await until(lambda: children(pid_of(worker)))
        child = children(pid_of(worker))[0]

    assert not is_running(pid_of(worker))
    await until(lambda: not is_running(child))
    with pytest.raises(LoaderCrashedError):
        await reading
    with pytest.raises(IngestionError, match="closed"):
        await loader.load(b"late", source="a.txt")


@linux
async def test_idle_process_goes_and_comes_back():
    async with IsolatedLoader(idle_seconds=0.05) as loader:
        (worker,) = workers(loader)
        await until(lambda: not is_running(pid_of(worker)))

        assert (await loader.load(b"Fine.", source="a.txt")).text == "Fine."


async def test_loader_works_outside_its_context_and_no_more_processes_run_than_asked():
    loader = IsolatedLoader(workers=2)

    documents = await asyncio.gather(
        *(loader.load(b"Text %d" % at, source="a.txt") for at in range(12))
    )

    assert len({document.text for document in documents}) == 12
    assert 1 <= len(workers(loader)) <= 2
    await loader.__aexit__(None, None, None)


@linux
async def test_process_holds_no_secret_of_its_owner(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("MOTADATA_TEST_SECRET", "hunter2")
    async with IsolatedLoader() as loader:
        environment = proc(pid_of(workers(loader)[0]), "environ")

    assert "hunter2" not in environment
    assert "HOME=" not in environment


@linux
async def test_process_has_its_own_network_limits_and_no_rights_over_files(loader: IsolatedLoader):
    worker = workers(loader)[0]
    pid = pid_of(worker)

    limits, status = proc(pid, "limits"), proc(pid, "status")

    assert f"Max address space         {2**30}" in limits
    assert "Max file size             0" in limits
    assert "NoNewPrivs:\t1" in status
    if "network" in worker.layers:
        assert network_of(pid) != network_of(os.getpid())


async def test_health_names_missing_layers(loader: IsolatedLoader):
    assert (await loader.health()).status in {"ok", "degraded"}

    loader._layers = frozenset({"memory", "fresh_process"})

    health = await loader.health()
    assert health.status == "degraded"
    assert "network" in health.detail


async def test_health_answers_before_anything_was_read():
    loader = IsolatedLoader()

    health = await loader.health()

    assert health.status in {"ok", "degraded"}
    await loader.__aexit__(None, None, None)


async def test_process_that_cannot_start_is_a_typed_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    loader = IsolatedLoader()

    with pytest.raises(LoaderCrashedError, match="cannot be started") as caught:
        await loader.load(b"x", source="a.txt")

    assert caught.value.retryable
    assert (await loader.health()).status == "down"


@pytest.mark.parametrize("options", [{"workers": 0}, {"idle_seconds": 0}])
def test_impossible_pools_are_refused(options: dict[str, int]):
    with pytest.raises(ConfigurationError):
        IsolatedLoader(**options)


async def test_event_loop_stays_free_while_a_large_file_is_read(
    loader: IsolatedLoader, tmp_path: Path
):
    path = tmp_path / "large.md"
    path.write_bytes(b"# Heading\n\nSome words in a line of text.\n\n" * 90_000)
    pauses: list[float] = []

    async def watch() -> None:
        while True:
            before = time.thread_time()  # whatever else the machine does meanwhile
            await asyncio.sleep(0.001)
            pauses.append(time.thread_time() - before)

    watcher = asyncio.create_task(watch())
    with pytest.raises(FileTooLargeError, match="headings"):
        await loader.load(path, source="large.md")
    plain = await loader.load(b"Some words in a line of text.\n" * 300_000, source="large.txt")
    watcher.cancel()

    assert len(plain.text) > 8_000_000
    assert max(pauses) < 0.05


async def test_document_of_one_tenant_is_not_in_the_memory_of_the_next(loader: IsolatedLoader):
    first = await loader.load(b"The secret of acme", source="a.txt")
    (worker,) = workers(loader)

    second = await loader.load(b"Something else", source="b.txt")

    assert (first.text, second.text) == ("The secret of acme", "Something else")
    assert "fresh_process" in worker.layers
    memory = Path(f"/proc/{pid_of(worker)}/mem")
    if sys.platform == "linux" and os.access(memory, os.R_OK):
        assert not contains(pid_of(worker), b"The secret of acme")


def contains(pid: int, needle: bytes) -> bool:
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights = line.split()[:2]
            if not rights.startswith("rw"):
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            try:
                memory.seek(start)
                if needle in memory.read(min(end - start, 64 * 2**20)):
                    return True
            except (OSError, OverflowError):
                continue
    return False


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    start=st.sampled_from([b"", b"%PDF-1.4\n", b"PK\x03\x04", b"<html>", b"[", b"\xff\xfe"]),
    rest=st.binary(min_size=1, max_size=300),
)
def test_any_bytes_come_back_as_a_document_or_a_typed_error(start: bytes, rest: bytes):
    async def read() -> None:
        loader = shared()
        try:
            assert (await loader.load(start + rest, source="upload")).text.strip()
        except LoaderCrashedError:
            raise
        except IngestionError:
            pass

    loop, shared = _shared_loader()
    loop.run_until_complete(read())


_KEPT: list[tuple[asyncio.AbstractEventLoop, IsolatedLoader]] = []


def _shared_loader() -> tuple[asyncio.AbstractEventLoop, Callable[[], IsolatedLoader]]:
    if not _KEPT:
        _KEPT.append((asyncio.new_event_loop(), IsolatedLoader(workers=1)))
    loop, loader = _KEPT[0]
    return loop, lambda: loader


@pytest.fixture(scope="module", autouse=True)
def _close_shared_loader() -> Iterator[None]:
    yield
    for loop, loader in _KEPT:
        loop.run_until_complete(loader.__aexit__(None, None, None))
        loop.close()
    _KEPT.clear()


@linux
def test_sandboxed_code_reaches_neither_files_nor_network(tmp_path: Path):
    """Run what an attacker would, in a process that has entered the sandbox."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    (tmp_path / "secret").write_text("s")
    code = f"""
import os, signal, socket
from motadata.ingest._sandbox import enter_sandbox
layers = enter_sandbox(parent=os.getppid(), memory_bytes=2**30)
def refused(action):
    try:
        action()
    except OSError:
        return True
    return False
assert "files" not in layers or refused(lambda: open({str(tmp_path / "secret")!r}))
assert "files" not in layers or refused(lambda: open({str(tmp_path / "new")!r}, "w"))
assert "files" not in layers or refused(lambda: os.listdir("/proc"))
assert "network" not in layers or refused(lambda: socket.create_connection(("127.0.0.1", {port})))
print(" ".join(layers))
"""
    import subprocess

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    listener.close()

    assert done.returncode == 0, done.stderr
    assert "memory" in done.stdout


async def test_unreadable_file_is_refused_by_kind(loader: IsolatedLoader):
    with pytest.raises(UnreadableFileError, match="damaged"):
        await loader.load(b"%PDF-1.7\n", source="x.pdf")


async def test_name_with_nul_is_a_typed_error(loader: IsolatedLoader):
    with pytest.raises(IngestionError):
        await loader.load(Path("a\0b"), source="x.pdf")
