"""The connection to a Redis-protocol server or cluster; what the cache says over it.

Every call ends within a bounded time, and no connection is given up in the middle of an answer: a
call is not cancelled with the caller that waits for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

from motadata.core._redis_connection import connect, open_single, require_driver
from motadata.core.cache._redis_address import (
    host_and_port,
    split_address,
    with_host,
    without_login,
)
from motadata.core.cache._redis_calls import Asked, Packed, Reply, ServerUnavailableError, Word
from motadata.core.cache._redis_feed import ChangeFeed
from motadata.core.cache._redis_lanes import Lanes
from motadata.core.cache._redis_slots import Slots
from motadata.core.cache._redis_wire import Answers
from motadata.core.resilience import context_without_deadline, time_limit


if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.cluster import RedisCluster


Told = Callable[[list[Reply | ServerUnavailableError]], None]
"""Takes an answer or an error for each of what was asked."""


class RedisServer:
    """A server, or a cluster of them, found out at the first call.

    Args:
        url: The address; several hosts, separated by commas, name several servers of one cluster.
        timeout: Seconds that one call may take, connecting included.
        max_connections: Most connections to each server.
    """

    def __init__(self, url: str, *, timeout: float, max_connections: int) -> None:
        self._addresses = split_address(url)
        self._timeout = timeout
        self._max_connections = max_connections
        self._slots = Slots(max_connections)
        self._connecting = asyncio.Lock()
        self._client: Redis | RedisCluster | None = None
        self._lanes: Lanes | None = None
        self._distrusted_at = 0.0
        self._running: set[asyncio.Task[Reply]] = set()
        require_driver()

    @property
    def timeout(self) -> float:
        """Seconds that one call may take."""
        return self._timeout

    async def call(self, call: Asked) -> Reply:
        """Run one script or command; it runs to its end even if the caller is cancelled.

        Raises:
            ServerUnavailableError: The server did not run it, or not in time.
        """
        return await self._to_the_end(self._call(call))

    async def call_many(self, calls: Sequence[Asked]) -> list[Reply | ServerUnavailableError]:
        """Run scripts and commands in one round trip per server; each has its own answer or error.

        Raises:
            ServerUnavailableError: There is no server to run them.
        """
        async with self._guarded() as client:
            answers = await self._send(client, [call.by_name() for call in calls])
            unknown = [number for number, answer in enumerate(answers) if _lacks_the_script(answer)]
            if unknown:
                again = await self._send(client, [calls[number].by_text() for number in unknown])
                for number, answer in zip(unknown, again, strict=True):
                    answers[number] = answer
        return self._translated(answers)

    def begin(self, commands: Sequence[Packed], done: Told) -> bool:
        """Do what `call_many` does, without a task and for who does not wait.

        Args:
            commands: What is asked.
            done: Called with an answer or an error for each, and not before this returns.

        Returns:
            Whether anything was sent. It is not where the server is a cluster, or has to be
            connected to first, or as much is on its way as may be.
        """
        if self._lanes is None:
            return False
        count = len(commands)

        def end(outcome: Answers | Exception) -> None:
            done(self._translated(outcome if isinstance(outcome, list) else [outcome] * count))

        return self._lanes.begin(commands, end)

    async def _call(self, call: Asked) -> Reply:
        (answer,) = await self.call_many([call])
        if isinstance(answer, ServerUnavailableError):
            raise answer
        return answer

    async def ping(self) -> None:
        """Make sure that the server, or some server of the cluster, answers.

        Raises:
            ServerUnavailableError: None does.
            DeadlineExceededError: The caller's deadline ended first.
        """
        async with time_limit(None, what="the cache's server"), self._guarded() as client:
            await client.ping()

    def distrust_connections(self) -> None:
        """Open new connections, since an answer came that belongs to another question.

        Once a second at most: a value that is damaged on the server comes again and again.
        """
        now = time.monotonic()
        if self._lanes is not None and now - self._distrusted_at > 1.0:
            self._distrusted_at = now
            self._lanes.distrust()

    def partition(self, key: str) -> str:
        """Return the name of the server that holds a key, as far as it is known."""
        cluster = self._cluster()
        if cluster is None:
            return ""
        slot = cluster.keyslot(key)
        nodes = cluster.nodes_manager.slots_cache.get(slot)
        return str(nodes[0].name) if nodes else ""

    async def primaries(self) -> list[tuple[str, int]]:
        """Return where the servers are that hold values, of a single server too.

        Raises:
            ServerUnavailableError: There is none.
        """
        async with self._guarded():
            pass
        cluster = self._cluster()
        if cluster is not None:
            return sorted((node.host, int(node.port)) for node in cluster.get_primaries())
        return [host_and_port(self._addresses[0])]

    async def _send(
        self, client: Redis | RedisCluster, commands: Sequence[Sequence[Word]]
    ) -> list[Reply | Exception]:
        if self._lanes is not None:
            return await self._lanes.exchange(commands)
        return await _send_to_cluster(cast("RedisCluster", client), commands)

    async def _to_the_end(self, work: Coroutine[object, object, Reply]) -> Reply:
        # An answer that nobody reads would be read by the connection's next user.
        task = asyncio.create_task(work, context=context_without_deadline())
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Reply]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            # Asking tells asyncio that the error is not lost when the caller was cancelled.
            task.exception()

    async def close(self) -> None:
        """Let what runs come to its end, and close every connection."""
        if self._running:
            await asyncio.wait(self._running)
        client, self._client = self._client, None
        if self._lanes is not None:
            await self._lanes.close()
        if client is not None:
            await client.aclose()

    @asynccontextmanager
    async def changes(self, host: str, port: int) -> AsyncIterator[ChangeFeed]:
        """Listen to one server's announcements of keys that change.

        Raises:
            ServerUnavailableError: The server is away, or it broke off.
        """
        from redis.exceptions import RedisError

        client = open_single(
            with_host(self._addresses[0], host, port),
            timeout=self._timeout,
            max_connections=self._max_connections,
        )
        try:
            async with client, client.pubsub() as listener:
                feed = ChangeFeed(listener)
                async with asyncio.timeout(self._timeout):
                    await feed.start()
                yield feed
        except (RedisError, OSError, TimeoutError) as error:
            raise self._unavailable(error) from error

    @asynccontextmanager
    async def _guarded(self) -> AsyncIterator[Redis | RedisCluster]:
        from redis.exceptions import RedisError

        try:
            async with asyncio.timeout(self._timeout), self._slots:
                yield self._client or await self._connect()
        except (RedisError, OSError, TimeoutError) as error:
            raise self._unavailable(error) from error

    async def _connect(self) -> Redis | RedisCluster:
        from redis.asyncio import Redis
        from redis.exceptions import RedisError

        async with self._connecting:
            error: Exception = OSError("no address")
            for address in self._addresses:
                if self._client is not None:
                    return self._client
                try:
                    client = await connect(
                        address, timeout=self._timeout, max_connections=self._max_connections
                    )
                except (RedisError, OSError) as caught:
                    error = caught
                    continue
                if isinstance(client, Redis):
                    self._lanes = Lanes(client.connection_pool, self._slots, timeout=self._timeout)
                self._client = client
            if self._client is None:
                raise error
            return self._client

    def _cluster(self) -> RedisCluster | None:
        from redis.asyncio.cluster import RedisCluster

        return self._client if isinstance(self._client, RedisCluster) else None

    def _translated(
        self, answers: Sequence[Reply | Exception]
    ) -> list[Reply | ServerUnavailableError]:
        return [
            self._unavailable(answer) if isinstance(answer, Exception) else answer
            for answer in answers
        ]

    def _unavailable(self, error: BaseException) -> ServerUnavailableError:
        if isinstance(error, ServerUnavailableError):
            return error
        # The driver's words may quote a command, and with it a value: its kind is enough.
        hosts = ", ".join(without_login(address) for address in self._addresses)
        message = f"The cache's server at {hosts} failed ({type(error).__name__})."
        made = ServerUnavailableError(
            message, remedy="See that it runs, has memory left, and accepts the password."
        )
        made.__cause__ = error
        return made


async def _send_to_cluster(
    cluster: RedisCluster, commands: Sequence[Sequence[Word]]
) -> list[Reply | Exception]:
    """Run commands in one round trip per server; errors are among the answers."""
    from redis.exceptions import RedisError

    if len(commands) == 1:
        # Unlike a pipeline's, an error of this one makes the driver look where the servers are.
        try:
            return [await cluster.execute_command(*commands[0])]
        except (RedisError, OSError) as error:
            return [error]
    pipeline = cluster.pipeline()
    for command in commands:
        pipeline.execute_command(*command)
    return cast("list[Reply | Exception]", await pipeline.execute(raise_on_error=False))


def _lacks_the_script(answer: object) -> bool:
    from redis.exceptions import NoScriptError

    return isinstance(answer, NoScriptError)
