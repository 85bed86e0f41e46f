"""A limit to how long a stream may be silent, which costs nothing for each part of it."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class SilenceLimit:
    """Ends its block with TimeoutError when one wait in it lasts longer than `seconds`.

    A timer for each wait would cost more than what is waited for. This one is set once, and looks
    when it is due how long the present wait has lasted.

        async with SilenceLimit(30.0) as silence:
            async for part in parts:
                silence.ended()
                await somebody.takes(part)  # as long as that takes
                silence.begins()

    Args:
        seconds: How long a wait may last; the first one begins with the block.
    """

    __slots__ = ("_limit", "_loop", "_seconds", "_since", "_timer")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._limit = asyncio.timeout(None)
        self._loop = asyncio.get_running_loop()
        self._since: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        """Begin to wait."""
        await self._limit.__aenter__()
        self.begins()
        self._look()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Raise TimeoutError when a wait lasted too long."""
        if self._timer is not None:
            self._timer.cancel()
        await self._limit.__aexit__(kind, error, traceback)

    def begins(self) -> None:
        """Note that a wait begins."""
        self._since = self._loop.time()

    def ended(self) -> None:
        """Note that what was waited for is there."""
        self._since = None

    def _look(self) -> None:
        now = self._loop.time()
        # While nothing is waited for, a wait that begins right after this look is the next due.
        due = (now if self._since is None else self._since) + self._seconds
        if due <= now:
            self._limit.reschedule(now)
        else:
            self._timer = self._loop.call_at(due, self._look)
