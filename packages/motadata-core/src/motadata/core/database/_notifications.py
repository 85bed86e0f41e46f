"""Listening: one connection for all listeners of a database, restored when it breaks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final, Self

from motadata.core.database._driver import Connection, connection_failures, load_driver
from motadata.core.database._failures import unreachable
from motadata.core.database._pools import PoolOptions
from motadata.core.database._topics import Topic
from motadata.core.errors import ConfigurationError
from motadata.core.protocols.database import Notification
from motadata.core.resilience import context_without_deadline, time_limit


_WAITING: Final = 1000
"""Notifications that wait for one listener."""
_PING_EVERY: Final = 15.0
"""Seconds; how soon a connection that died without a word is noticed."""
_PATIENCE: Final = 5.0
_FIRST_WAIT: Final = 0.05
_LONGEST_WAIT: Final = 5.0


class _Listener:
    """What waits for one listener."""

    __slots__ = ("_missed", "_queue", "topic")

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self._missed = False
        self._queue: asyncio.Queue[Notification] = asyncio.Queue(_WAITING)

    def receive(self, packed: str) -> None:
        """Take what arrived on the topic's channel, if it is of the tenant and there is room."""
        payload = self.topic.unpack(packed)
        if payload is None:
            return
        if self._missed:
            self.miss()
        else:
            self._put(Notification(str(self.topic.name), payload))

    def miss(self) -> None:
        """Say that something may have been lost, as soon as there is room for it."""
        self._missed = True
        if not self._queue.full():
            self._missed = False
            self._put(Notification(str(self.topic.name), missed=True))

    def _put(self, notification: Notification) -> None:
        try:
            self._queue.put_nowait(notification)
        except asyncio.QueueFull:
            self._missed = True

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> Notification:
        """Return what arrives next; it may be called again when a deadline ended it.

        Raises:
            DeadlineExceededError: The caller's deadline ended first.
        """
        async with time_limit(None, what="a notification"):
            notification = await self._queue.get()
        if self._missed:
            self.miss()
        return notification


class Listeners:
    """The listeners of a database and the connection that they share, there while one listens."""

    def __init__(self, options: PoolOptions) -> None:
        self._options = options
        self._by_channel: dict[str, set[_Listener]] = {}
        self._connection: Connection | None = None
        self._heard: set[str] = set()
        self._broken = asyncio.Event()
        self._changes = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def listening(self, topic: Topic) -> AsyncIterator[AsyncIterator[Notification]]:
        """Listen to a topic while the block runs; when it begins, the server knows.

        Raises:
            ConnectionError: The server is not reachable.
            DeadlineExceededError: The caller's deadline ended first.
        """
        listener = _Listener(topic)
        async with time_limit(None, what="the database to listen"), self._changes:
            await self._add(listener)
        try:
            yield listener
        finally:
            self._remove(listener)

    async def close(self) -> None:
        """Stop listening."""
        async with self._changes:
            keeper, self._keeper = self._keeper, None
            if keeper is not None:
                keeper.cancel()
                await asyncio.wait([keeper])
            self._by_channel.clear()
            await self._disconnect()

    async def _add(self, listener: _Listener) -> None:
        channel = listener.topic.channel
        others = self._by_channel.setdefault(channel, set())
        others.add(listener)
        try:
            if self._connection is None or self._connection.is_closed():
                await self._connect()
            elif channel not in self._heard:
                await self._hear(self._connection, channel)
        except connection_failures() as error:
            self._remove(listener)
            raise unreachable(error, tenant_id=listener.topic.tenant) from error
        except BaseException:
            self._remove(listener)
            raise
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.create_task(
                self._keep(), name="motadata-listening", context=context_without_deadline()
            )

    def _remove(self, listener: _Listener) -> None:
        """Forget a listener; the server hears of it when the connection is looked after next."""
        channel = listener.topic.channel
        listeners = self._by_channel.get(channel, set())
        listeners.discard(listener)
        if not listeners:
            self._by_channel.pop(channel, None)
            self._broken.set()

    def _receive(self, _: object, __: int, channel: str, packed: object) -> None:
        for listener in self._by_channel.get(channel, ()):
            listener.receive(str(packed))

    async def _keep(self) -> None:
        """Look after the connection: ping it, restore it, drop it when nobody listens."""
        failures = 0
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_PING_EVERY):
                    await self._broken.wait()
            self._broken.clear()
            try:
                async with self._changes:
                    await self._look_after()
                failures = 0
            except connection_failures():
                # Shown to listeners by `missed` once it is back; until then there is but to wait.
                await self._disconnect()
                failures += 1
                wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** min(failures, 10))
                await asyncio.sleep(wait * (0.5 + random.random() / 2))  # noqa: S311 - no secret
                self._broken.set()

    async def _look_after(self) -> None:
        if not self._by_channel:
            await self._disconnect()
        elif self._connection is None or self._connection.is_closed():
            await self._connect()
            for listeners in self._by_channel.values():
                for listener in listeners:
                    listener.miss()
        else:
            for channel in self._heard - self._by_channel.keys():
                async with asyncio.timeout(_PATIENCE):
                    await self._connection.remove_listener(channel, self._receive)
                self._heard.discard(channel)
            async with asyncio.timeout(_PATIENCE):
                await self._connection.fetchval("select 1")

    async def _hear(self, connection: Connection, channel: str) -> None:
        async with asyncio.timeout(_PATIENCE):
            await connection.add_listener(channel, self._receive)
        self._heard.add(channel)

    async def _connect(self) -> None:
        """Connect and listen to every channel that has listeners."""
        await self._disconnect()
        driver = load_driver()
        try:
            connection: Connection = await driver.connect(
                self._options.dsn,
                timeout=self._options.timeout,
                command_timeout=_PATIENCE,
                statement_cache_size=0,
            )
        except ValueError:
            # Without its cause, which quotes the address and with it the password.
            message = "The database address is malformed."
            raise ConfigurationError(
                message, remedy="Write it as postgresql://role:password@host:port/database."
            ) from None
        try:
            connection.add_termination_listener(lambda _: self._broken.set())
            for channel in list(self._by_channel):
                await self._hear(connection, channel)
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        self._heard.clear()
        if connection is None:
            return
        try:
            await connection.close(timeout=_PATIENCE)
        except connection_failures():
            connection.terminate()
        except BaseException:
            connection.terminate()
            raise
