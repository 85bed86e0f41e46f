"""The embedded Redis-protocol server: closed to others, gone with its parent, one a directory."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as RefusedError

from motadata.core.cache import create_redis_cache
from motadata.core.embedded import EmbeddedRedis, EmbeddedRedisCluster, _valkey_server
from motadata.core.errors import ConfigurationError, MissingExtraError


_ONCE = Retry(NoBackoff(), 0)


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def client(server: EmbeddedRedis) -> Redis:
    return Redis.from_url(server.url.get_secret_value(), decode_responses=True)


async def test_server_listens_on_loopback_alone_and_its_files_are_closed_to_others(tmp_path: Path):
    directory = tmp_path / "redis"
    async with EmbeddedRedis(directory) as server:
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert stat.S_IMODE((directory / "server.conf").stat().st_mode) == 0o600
        assert server.pid is not None
        assert runs(server.pid)
        async with client(server) as raw:
            assert await raw.config_get("bind") == {"bind": "127.0.0.1"}
    assert server.pid is None


async def test_server_answers_only_those_who_know_the_password(tmp_path: Path):
    async with EmbeddedRedis(tmp_path) as server:
        password = server.url.get_secret_value().partition("@")[0].rpartition(":")[2]
        assert len(password) >= 32
        assert password not in f"{server.url}{server!r}"
        assert password not in (tmp_path / "log").read_text()
        async with Redis(port=server.port, retry=_ONCE) as stranger:
            with pytest.raises(AuthenticationError):
                await stranger.get("key")
        async with Redis(port=server.port, password="guessed", retry=_ONCE) as liar:
            with pytest.raises((AuthenticationError, RefusedError)):
                await liar.get("key")
        async with client(server) as raw:
            assert await raw.ping()


async def test_two_servers_of_one_machine_share_neither_port_password_nor_values(tmp_path: Path):
    async with EmbeddedRedis(tmp_path / "a") as one, EmbeddedRedis(tmp_path / "b") as other:
        assert one.port != other.port
        assert one.url != other.url
        async with create_redis_cache(one.url) as ours, create_redis_cache(other.url) as theirs:
            await ours.set("key", 1, tenant_id="acme")

            assert await theirs.get("key", tenant_id="acme") is None
        mixed = one.url.get_secret_value().replace(f":{one.port}", f":{other.port}")
        async with Redis.from_url(mixed, retry=_ONCE) as stranger:
            with pytest.raises((AuthenticationError, RefusedError)):
                await stranger.ping()


async def test_second_server_on_a_directory_is_refused(tmp_path: Path):
    async with EmbeddedRedis(tmp_path) as server:
        with pytest.raises(ConfigurationError, match="belongs to a running"):
            await EmbeddedRedis(tmp_path).start()
        assert server.pid is not None
        assert runs(server.pid)
    async with EmbeddedRedis(tmp_path):
        pass


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_restarted_server_has_its_address_again_and_nothing_of_what_it_held(
    tmp_path: Path, how: str
):
    async with EmbeddedRedis(tmp_path) as server:
        url, first = server.url, server.pid
        async with client(server) as raw:
            await raw.set("key", "value")
        await (server.stop() if how == "stop" else server.kill())
        assert server.pid is None
        assert first is not None
        assert not runs(first)
        await server.start()
        await server.start()

        assert server.url == url
        assert server.pid != first
        async with client(server) as raw:
            assert await raw.get("key") is None


async def test_halted_server_answers_nothing_until_it_goes_on_and_can_be_stopped(tmp_path: Path):
    async with EmbeddedRedis(tmp_path) as server, client(server) as raw:
        await raw.ping()
        server.pause()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await raw.ping()
        server.resume()
        async with client(server) as again:
            assert await again.ping()
        server.pause()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux ends it")
async def test_server_ends_with_its_parent_however_that_ends(tmp_path: Path):
    script = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from motadata.core.embedded import EmbeddedRedis\n"
        "async def main():\n"
        "    async with EmbeddedRedis(Path(sys.argv[1])) as server:\n"
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
    async with asyncio.timeout(10):
        while runs(pid):  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(0.01)
    async with EmbeddedRedis(tmp_path):
        pass


async def test_server_with_a_bound_forgets_what_was_used_least_recently(tmp_path: Path):
    async with EmbeddedRedis(tmp_path, max_bytes=4_000_000) as server, client(server) as raw:
        for number in range(60):
            await raw.set(f"k{number}", "x" * 100_000)

        # It looks at a few keys at a time, so which of the old ones go is up to chance.
        assert await raw.dbsize() < 45
        old = await raw.exists(*(f"k{number}" for number in range(20)))
        new = await raw.exists(*(f"k{number}" for number in range(40, 60)))
        assert old < new
        assert await raw.get("k59") is not None


async def test_server_that_does_not_start_names_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    broken = tmp_path / "valkey-server"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o700)
    monkeypatch.setattr(_valkey_server, "_find_binary", lambda: broken)
    with pytest.raises(ConfigurationError, match="log"):
        await EmbeddedRedis(tmp_path / "data").start()


async def test_absent_wheel_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def absent(name: str) -> None:
        raise _valkey_server.PackageNotFoundError(name)

    monkeypatch.setattr(_valkey_server, "distribution", absent)
    with pytest.raises(MissingExtraError, match="embedded"):
        await EmbeddedRedis(tmp_path).start()


@pytest.mark.parametrize(("masters", "replicas"), [(2, 1), (3, -1)])
def test_cluster_that_cannot_agree_is_refused(tmp_path: Path, masters: int, replicas: int):
    with pytest.raises(ConfigurationError):
        EmbeddedRedisCluster(tmp_path, masters=masters, replicas=replicas)
