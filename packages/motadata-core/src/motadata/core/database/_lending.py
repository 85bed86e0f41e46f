"""The driver's pool, with a short way for connections that come and go often.

Taking a connection out of the driver's pool and giving it back costs two tasks and about as much
time as a small query. A connection that comes back clean therefore lies ready for the next user for
a moment, before it goes back to the driver's pool, which closes what stays idle.
"""

from __future__ import annotations

import asyncio
from typing import Final

from motadata.core.database._driver import Connection, Pool, connection_failures, driver_failures
from motadata.core.database._failures import unreachable
from motadata.core.errors import ConnectionError as DatabaseConnectionError
from motadata.core.errors import DeadlineExceededError
from motadata.core.resilience import context_without_deadline, remaining


_READY_FOR: Final = 2.0
"""Seconds between two looks at what lies ready; what no one took in between goes back."""


class LendingPool:
    """Lends connections; at most as many as the driver's pool may have, ready ones included."""

    def __init__(self, pool: Pool, *, timeout: float) -> None:
        self._pool = pool
        self._timeout = timeout
        self._ready: list[Connection] = []
        self._waiting = 0
        self._least_ready = 0
        self._timer: asyncio.TimerHandle | None = None
        self._returning: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Open the least number of connections."""
        await self._pool

    def size(self) -> int:
        """Return how many connections are open."""
        return self._pool.get_size()

    async def acquire(self, *, tenant: str | None, timeout: float) -> Connection:
        """Take a connection.

        Raises:
            DeadlineExceededError: The caller's deadline is over, or ended the wait for one.
            ConnectionError: None was to be had in time, or the server is not reachable.
        """
        if timeout <= 0:
            raise _no_time_left(tenant)
        while self._ready:
            connection = self._ready.pop()
            self._least_ready = min(self._least_ready, len(self._ready))
            if _is_alive(connection):
                return connection
        self._waiting += 1
        try:
            return await self._pool.acquire(timeout=timeout)
        except TimeoutError as error:
            if remaining() == 0.0:
                raise _no_time_left(tenant) from error
            message = f"No database connection was to be had within {timeout:.3g} s."
            raise DatabaseConnectionError(
                message,
                remedy="Raise max_connections, hold transactions for a shorter time, or look"
                " whether the server answers.",
                tenant_id=tenant,
            ) from error
        except driver_failures() as error:
            # All of them: no argument of a caller takes part, only the server's answers.
            raise unreachable(error, tenant_id=tenant) from error
        finally:
            self._waiting -= 1

    async def release(self, connection: Connection, *, timeout: float) -> None:
        """Give a connection back; what did not commit is rolled back, and the session cleaned."""
        is_wanted_ready = not self._waiting and self._timeout > 0
        if is_wanted_ready and _is_alive(connection) and connection.is_fit():
            self._ready.append(connection)
            self._look_later()
            return
        await self._give_back(connection, timeout)

    async def expire(self) -> None:
        """Replace every connection before its next use; who asks waits for none to close."""
        await self._pool.expire_connections()
        ready, self._ready = self._ready, []
        self._give_back_later(ready)

    async def close(self) -> None:
        """Wait for connections to come back and close; after the timeout, close regardless."""
        patience, self._timeout = self._timeout, 0.0  # from now on, nothing is kept ready
        if self._timer is not None:
            self._timer.cancel()
        try:
            async with asyncio.timeout(patience):
                await asyncio.gather(self._empty(), *self._returning)
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()
        except asyncio.CancelledError:
            self._pool.terminate()
            raise

    def terminate(self) -> None:
        """Drop all connections."""
        self._pool.terminate()

    async def _give_back(self, connection: Connection, timeout: float) -> None:
        try:
            await self._pool.release(connection, timeout=timeout)
        except connection_failures():
            # The pool has dropped the connection. What its transaction came to is decided already,
            # and an error of ours would hide the one that led here.
            pass

    async def _empty(self) -> None:
        ready, self._ready = self._ready, []
        await asyncio.gather(*(self._give_back(one, self._timeout or 1.0) for one in ready))

    def _look_later(self) -> None:
        if self._timer is None:
            self._least_ready = len(self._ready)
            self._timer = asyncio.get_running_loop().call_later(_READY_FOR, self._look)

    def _look(self) -> None:
        """Give back as many as lay ready all the time."""
        self._timer = None
        spare, self._ready = self._ready[: self._least_ready], self._ready[self._least_ready :]
        self._give_back_later(spare)
        if self._ready:
            self._look_later()

    def _give_back_later(self, connections: list[Connection]) -> None:
        for connection in connections:
            task = asyncio.create_task(
                self._give_back(connection, self._timeout or 1.0),
                context=context_without_deadline(),
            )
            self._returning.add(task)
            task.add_done_callback(self._returning.discard)


def _no_time_left(tenant: str | None) -> DeadlineExceededError:
    message = "The time that the caller allowed is over; there was no database connection yet."
    return DeadlineExceededError(
        message, remedy="Allow more time, or raise max_connections.", tenant_id=tenant
    )


def _is_alive(connection: Connection) -> bool:
    try:
        return not connection.is_closed()
    except connection_failures():
        return False  # the driver took it away when it broke
