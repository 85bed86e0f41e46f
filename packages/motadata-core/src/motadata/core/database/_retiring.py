"""Pools that have made room for others, until they are closed."""

from __future__ import annotations

import asyncio

from motadata.core.database._lending import LendingPool
from motadata.core.observability import get_logger
from motadata.core.resilience import context_without_deadline, time_limit


_log = get_logger("database")


class Retirement:
    """Closes pools in tasks of its own, so that no caller waits for a server that is silent.

    Args:
        most: How many pools may be closing at a time; they still hold connections.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._closing: set[asyncio.Task[None]] = set()

    def add(self, pool: LendingPool) -> None:
        """Begin to close a pool, which takes its timeout at most."""
        task = asyncio.create_task(pool.close(), context=context_without_deadline())
        self._closing.add(task)
        task.add_done_callback(self._closed)

    async def wait_for_room(self) -> None:
        """Return when no more pools are closing than may.

        Raises:
            DeadlineExceededError: The caller's deadline ended first.
        """
        async with time_limit(None, what="another tenant's pool to close"):
            while len(self._closing) > self._most:
                await asyncio.wait(self._closing, return_when=asyncio.FIRST_COMPLETED)

    async def close(self) -> None:
        """Wait until all of them are closed."""
        if self._closing:
            await asyncio.wait(self._closing)

    def _closed(self, task: asyncio.Task[None]) -> None:
        self._closing.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # The pool dropped its connections; nobody else is there to be told.
            _log.warning("tenant_pool_not_closed", kind=type(error).__name__)
