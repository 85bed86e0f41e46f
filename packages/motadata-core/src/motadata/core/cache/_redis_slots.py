"""How much may be on its way to a server at once."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType


class Slots:
    """A semaphore that can be taken without a coroutine, too; asyncio's cannot.

    A slot that becomes free goes to who has waited longest.

    Args:
        count: How many there are.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take(self) -> bool:
        """Take a slot unless that had to be waited for; tell whether it was taken."""
        # While somebody waits, none is free.
        if self._free == 0:
            return False
        self._free -= 1
        return True

    def give_back(self) -> None:
        """Free a slot."""
        while self._waiting:
            first = self._waiting.popleft()
            if not first.done():
                first.set_result(None)
                return
        self._free += 1

    async def __aenter__(self) -> None:
        """Wait for a slot."""
        if self.take():
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                # It was given just now.
                self.give_back()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Free it."""
        self.give_back()
