"""What must be done on the server even if the caller who asked for it has left by then."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Final, TypeVar

from motadata.core.errors import CacheError, OverloadError
from motadata.core.observability import get_logger
from motadata.core.resilience import context_without_deadline, time_limit


_log = get_logger("cache")

_MOST_UNDER_WAY: Final = 10_000

Answer = TypeVar("Answer")


class Errands:
    """Runs invalidations in tasks of their own: a caller who leaves must not leave a stale value.

    Each ends by itself, for each call of a server has its timeout.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()
        self._is_closed = False

    async def run(self, work: Coroutine[object, object, Answer]) -> Answer:
        """Return what the work returns; when the caller is cancelled, it goes on without them.

        Raises:
            DeadlineExceededError: The caller's deadline ended first; the work goes on.
            OverloadError: 10,000 others are under way; this one was not begun.
            CacheError: The cache is closed; or whatever the work raises.
        """
        if self._is_closed:
            work.close()
            message = "The cache is closed."
            raise CacheError(message, remedy="Use it within its `async with`.")
        if len(self._tasks) >= _MOST_UNDER_WAY:
            work.close()
            message = f"{len(self._tasks)} invalidations wait for the cache's server."
            raise OverloadError(message, remedy="Invalidate by tag, or a whole tenant at once.")
        task = asyncio.create_task(work, context=context_without_deadline())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            async with time_limit(None, what="the cache"):
                await asyncio.wait((task,))
        except BaseException:
            task.add_done_callback(_report)
            raise
        return task.result()

    async def close(self) -> None:
        """Take nothing more, and wait for what is under way."""
        self._is_closed = True
        while self._tasks:
            await asyncio.wait(self._tasks)


def _report(task: asyncio.Task[object]) -> None:
    """Say that an invalidation failed, now that nobody is there to be told."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.warning("invalidation_failed", error=error)
