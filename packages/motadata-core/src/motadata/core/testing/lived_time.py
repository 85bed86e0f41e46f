"""Time as this process lives it, so that a test can hold a promise of seconds on a busy machine."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final, Self


_TICK: Final = 0.005
_LONGEST_TICK: Final = 4 * _TICK


class LivedTime:
    """Counts seconds while its block runs, without those in which the event loop got no turn.

        async with LivedTime() as lived:
            await something()
        assert lived.seconds < 1.0

    It is no measure of code that blocks the loop, which it forgives as it forgives the machine.

    Attributes:
        seconds: How many there were so far.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin to count."""
        self._task = asyncio.create_task(self._count())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Count no longer."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _count(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await asyncio.sleep(_TICK)
            self.seconds += min(loop.time() - began, _LONGEST_TICK)
