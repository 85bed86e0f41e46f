"""A clock that moves only when told to."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count


class ManualClock:
    """Stands still until `advance`, which wakes the sleepers it passes, in their order.

    clock = ManualClock()
    waiting = asyncio.create_task(clock.sleep(30))
    await clock.advance(30)
    assert waiting.done()
    """

    def __init__(self, start: float = 1_000.0) -> None:
        self._now = start
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = count()

    def now(self) -> float:
        """Return the current reading in seconds."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock has been moved on by `seconds`."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), future))
        await future

    async def advance(self, seconds: float) -> None:
        """Move on, letting each sleeper run at the moment for which it waits."""
        target = self._now + seconds
        await self._settle()
        while self._sleepers and self._sleepers[0][0] <= target:
            self._now, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                future.set_result(None)
            await self._settle()
        self._now = target
        await self._settle()

    @property
    def sleepers(self) -> int:
        """How many tasks wait for a later time."""
        return sum(not future.done() for _, _, future in self._sleepers)

    @staticmethod
    async def _settle() -> None:
        """Give every ready task its turns; a chain of awaits needs several."""
        for _ in range(20):
            await asyncio.sleep(0)
