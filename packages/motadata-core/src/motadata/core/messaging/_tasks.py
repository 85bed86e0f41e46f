"""The end of tasks: finished in time, or cancelled, but never left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from motadata.core.observability import get_logger
from motadata.core.resilience import remaining


_log = get_logger("messaging")

_LAST_WORDS: Final = 5.0
"""Seconds that a cancelled task has for its own cleaning up."""


async def finish(tasks: Iterable[asyncio.Task[None]], timeout: float) -> None:
    """Return when the tasks are done; cancel those that are not after `timeout` seconds.

    When the caller is cancelled, all of them are cancelled at once. When their deadline is over,
    nobody waits any more for what the tasks do about it.
    """
    pending = set(tasks)
    if not pending:
        return
    try:
        _, pending = await asyncio.wait(pending, timeout=remaining(timeout))
    finally:
        for task in pending:
            task.cancel()
    if pending:
        _, stubborn = await asyncio.wait(pending, timeout=remaining(_LAST_WORDS))
        _log.warning("handlers_cancelled", number=len(pending), stubborn=len(stubborn))
