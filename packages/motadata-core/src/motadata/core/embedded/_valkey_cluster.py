"""A real Redis-protocol cluster of this process."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from pydantic import SecretStr

from motadata.core.embedded._valkey_server import ValkeyServer, free_ports, make_password
from motadata.core.errors import ConfigurationError


if TYPE_CHECKING:
    from redis.asyncio import Redis


_FORM_TIMEOUT: Final = 30.0
_POLL: Final = 0.05
_SLOTS: Final = 16_384


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
        password = make_password()
        count = masters * (1 + replicas)
        extra = ["cluster-enabled yes", "cluster-config-file nodes.conf"]
        extra += ["cluster-node-timeout 1000", "repl-diskless-sync-delay 0"]
        self._servers = [
            ValkeyServer(
                directory.absolute() / f"n{number}", password=password, extra=extra, port=port
            )
            for number, port in enumerate(free_ports(count))
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

    def _of(self, port: int) -> ValkeyServer:
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
