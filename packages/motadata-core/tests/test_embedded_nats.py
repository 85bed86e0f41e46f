"""The embedded NATS server: closed to others, kept between runs, gone with its parent."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
from pathlib import Path

import pytest

from motadata.core.embedded import EmbeddedNats, EmbeddedNatsCluster, _nats_server
from motadata.core.errors import ConfigurationError, MissingExtraError
from motadata.core.messaging import NatsCredentials, create_message_bus
from motadata.core.testing.message_bus import Recorder, eventually


pytest.importorskip("nats")


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def test_server_listens_on_loopback_alone_and_its_files_are_closed_to_others(tmp_path: Path):
    directory = tmp_path / "nats"
    async with EmbeddedNats(directory) as server:
        assert server.url.startswith("nats://127.0.0.1:")
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert stat.S_IMODE((directory / "server.conf").stat().st_mode) == 0o600
        assert server.token.get_secret_value() not in f"{server.url}{server.token}"
        assert server.pid is not None
        assert runs(server.pid)
    assert server.pid is None


async def test_what_was_stored_is_there_in_the_next_run(tmp_path: Path):
    for number in range(2):
        async with EmbeddedNats(tmp_path) as server:
            credentials = NatsCredentials(token=server.token)
            async with create_message_bus(server.url, credentials=credentials) as bus:
                await bus.publish_event("ticket.opened", number, tenant_id="acme")
                if number:
                    recorder = Recorder()
                    await bus.consume(
                        "all", recorder, event_types=["ticket.opened"], tenant_id="acme"
                    )
                    assert await recorder.wait(2) == [0, 1]


async def test_second_server_on_a_directory_is_refused(tmp_path: Path):
    async with EmbeddedNats(tmp_path) as server:
        with pytest.raises(ConfigurationError, match="belongs to a running"):
            await EmbeddedNats(tmp_path).start()
        assert server.pid is not None
        assert runs(server.pid)
    async with EmbeddedNats(tmp_path):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux ends it")
async def test_server_ends_with_its_parent_however_that_ends(tmp_path: Path):
    script = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from motadata.core.embedded import EmbeddedNats\n"
        "async def main():\n"
        "    async with EmbeddedNats(Path(sys.argv[1])) as server:\n"
        "        print(server.pid, flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    assert runs(pid)
    os.kill(parent.pid, signal.SIGKILL)
    await parent.communicate()
    await eventually(lambda: not runs(pid))
    async with EmbeddedNats(tmp_path):
        pass


async def test_server_that_is_too_old_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    old = tmp_path / "nats-server"
    old.write_text("#!/bin/sh\necho 'nats-server: v2.12.1'\n")
    old.chmod(0o700)
    monkeypatch.setattr(_nats_server, "_find_binary", lambda: old)
    with pytest.raises(ConfigurationError, match=r"2\.12\.1; 2\.12\.3 or newer"):
        await EmbeddedNats(tmp_path / "data").start()


async def test_server_that_does_not_start_names_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    broken = tmp_path / "nats-server"
    broken.write_text(
        "#!/bin/sh\ncase $1 in --version) echo 'nats-server: v2.15.1';; *) exit 3;; esac\n"
    )
    broken.chmod(0o700)
    monkeypatch.setattr(_nats_server, "_find_binary", lambda: broken)
    with pytest.raises(ConfigurationError, match="log"):
        await EmbeddedNats(tmp_path / "data").start()


async def test_absent_wheel_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def absent(name: str) -> None:
        raise _nats_server.PackageNotFoundError(name)

    monkeypatch.setattr(_nats_server, "distribution", absent)
    with pytest.raises(MissingExtraError, match="embedded"):
        await EmbeddedNats(tmp_path).start()


async def test_start_and_stop_leave_the_loop_to_others(tmp_path: Path):
    gaps: list[float] = []

    async def tick() -> None:
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            await asyncio.sleep(0.005)
            now = loop.time()
            gaps.append(now - last)
            last = now

    ticking = asyncio.create_task(tick())
    async with EmbeddedNats(tmp_path):
        pass
    ticking.cancel()
    assert max(gaps) < 0.25


def test_cluster_of_one_is_refused(tmp_path: Path):
    with pytest.raises(ConfigurationError):
        EmbeddedNatsCluster(tmp_path, size=1)
