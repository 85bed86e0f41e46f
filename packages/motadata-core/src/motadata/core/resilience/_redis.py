"""The connection to the server that instances share, and what is said over it.

A server that is away is asked again every half a second, by one call; all others hear at once that
it is away. A call runs to its end even if its caller is cancelled, so that no answer is left on a
connection for the next one.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine, Sequence
from contextvars import Context
from typing import TYPE_CHECKING, Final

from motadata.core._redis_connection import connect, is_address, require_driver
from motadata.core.clock import SYSTEM_CLOCK, Clock
from motadata.core.errors import ConfigurationError, ResilienceError
from motadata.core.resilience._checks import check_positive
from motadata.core.resilience._deadline import remaining
from motadata.core.resilience._scripts import Script


if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.cluster import RedisCluster


_RETRY_AFTER: Final = 0.5

_Task = asyncio.Task[None] | asyncio.Task[list[float]]


class ServerAwayError(ResilienceError):
    """The server does not answer; it goes on without. Never leaves this package."""


class SharedServer:
    """A Redis-protocol server, or a cluster, found out at the first call.

    Args:
        url: Its address.
        timeout: Seconds that one call may take, connecting included.
        max_connections: Most connections to each server.
        expected_instances: How many share it, as long as it has not said so.
        clock: What the time is.

    Raises:
        MissingExtraError: `redis` is not installed.
        ConfigurationError: The address is none; the message does not repeat it.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 0.5,
        max_connections: int = 16,
        expected_instances: int = 1,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        check_positive(timeout=timeout, max_connections=max_connections)
        check_positive(expected_instances=expected_instances)
        _check(url)
        self.instance = secrets.token_hex(8)
        self.expected_instances = expected_instances
        self.calls = 0
        self.returned_at = float("-inf")
        self._url = url
        self._timeout = timeout
        self._max_connections = max_connections
        self._clock = clock
        self._slots = asyncio.Semaphore(max_connections)
        self._connecting = asyncio.Lock()
        self._client: Redis | RedisCluster | None = None
        self._away_until: float | None = None
        self._probing = False
        self._running: set[_Task] = set()

    @property
    def worth_asking(self) -> bool:
        """Whether a call would reach out now: the server is there, or it is time to look."""
        if self._away_until is None:
            return True
        return not self._probing and self._clock.now() >= self._away_until

    async def run(self, script: Script, key: str, *arguments: str | float) -> list[float]:
        """Run a script and return the numbers that it answers.

        Raises:
            ServerAwayError: It did not run, or not in the time that the caller has.
        """
        if not self.worth_asking:
            raise ServerAwayError("The shared server is away.")
        is_probe = self._probing = self._away_until is not None
        work = self._run(script, key, arguments, is_probe=is_probe)
        task = asyncio.create_task(work, context=Context())
        self._keep(task)
        done, _ = await asyncio.wait([task], timeout=remaining(self._timeout * 1.2))
        if not done:
            raise ServerAwayError("The shared server did not answer in time.")
        return task.result()

    def spawn(self, work: Coroutine[object, object, None], *, name: str) -> asyncio.Task[None]:
        """Do something in the background, at the latest until `close`."""
        task = asyncio.create_task(work, name=name, context=Context())
        self._keep(task)
        return task

    async def close(self) -> None:
        """Let what runs come to its end, and close every connection."""
        while self._running:
            await asyncio.wait(list(self._running))
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _keep(self, task: _Task) -> None:
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: _Task) -> None:
        self._running.discard(task)
        if not task.cancelled():
            # Asking tells asyncio that the error is not lost when the caller was cancelled.
            task.exception()

    async def _run(
        self, script: Script, key: str, arguments: Sequence[str | float], *, is_probe: bool
    ) -> list[float]:
        from redis.exceptions import RedisError

        self.calls += 1
        try:
            async with asyncio.timeout(self._timeout), self._slots:
                client = self._client or await self._connect()
                answer = await _evaluate(client, script, key, arguments)
        except (RedisError, OSError, TimeoutError) as error:
            self._away_until = self._clock.now() + _RETRY_AFTER
            # The driver's words may quote a command: its kind is enough.
            message = f"The shared server failed ({type(error).__name__})."
            raise ServerAwayError(message) from error
        finally:
            if is_probe:
                self._probing = False
        if self._away_until is not None:
            self._away_until, self.returned_at = None, self._clock.now()
        return [float(word) for word in answer.split()]

    async def _connect(self) -> Redis | RedisCluster:
        async with self._connecting:
            if self._client is None:
                self._client = await connect(
                    self._url, timeout=self._timeout, max_connections=self._max_connections
                )
            return self._client


async def _evaluate(
    client: Redis | RedisCluster, script: Script, key: str, arguments: Sequence[str | float]
) -> bytes:
    from redis.exceptions import NoScriptError

    try:
        answer = await client.execute_command("EVALSHA", script.sha, 1, key, *arguments)
    except NoScriptError:
        answer = await client.execute_command("EVAL", script.text, 1, key, *arguments)
    assert isinstance(answer, bytes)
    return answer


def _check(url: str) -> None:
    require_driver()
    if not is_address(url):
        message = "The address of the shared server is not valid."
        raise ConfigurationError(message, remedy="Write it as redis://:password@host:6379.")
