"""Hands out a few places fairly: owner by owner in turn, and in order for each."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from motadata.core.errors import IngestionError


class Turns:
    """Places for which owners queue; one with thousands of files does not hold up the next.

    Args:
        places: How many there are.
        most_waiting: How many may wait altogether; beyond, callers are sent away.
    """

    def __init__(self, places: int, *, most_waiting: int) -> None:
        self._free = places
        self._most_waiting = most_waiting
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def turn(self, owner: str, *, timeout: float) -> AsyncIterator[None]:
        """Hold a place within the block.

        Args:
            owner: Whose turn it is to be, a tenant.
            timeout: Seconds to wait for a place.

        Raises:
            IngestionError: Too many wait already, or none became free in time; retryable.
        """
        await self._take(owner, timeout)
        try:
            yield
        finally:
            self._give_back()

    async def _take(self, owner: str, timeout: float) -> None:
        if self._free and not self._queues:
            self._free -= 1
            return
        if sum(map(len, self._queues.values())) >= self._most_waiting:
            message = f"{self._most_waiting} files wait for a reader process already."
            raise _busy(message)
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(owner, deque()).append(place)
        try:
            async with asyncio.timeout(timeout):
                await place
        except (TimeoutError, asyncio.CancelledError) as error:
            self._withdraw(owner, place)
            if isinstance(error, asyncio.CancelledError):
                raise
            message = f"No reader process was free within {timeout:g} seconds."
            raise _busy(message) from error

    def _withdraw(self, owner: str, place: asyncio.Future[None]) -> None:
        if place.done() and not place.cancelled():
            self._give_back()  # it was handed over in the moment in which its owner left
            return
        queue = self._queues.get(owner)
        if queue is not None and place in queue:
            queue.remove(place)
            if not queue:
                del self._queues[owner]

    def _give_back(self) -> None:
        while self._queues:
            owner, queue = self._queues.popitem(last=False)
            place = queue.popleft()
            if queue:
                self._queues[owner] = queue
            if not place.done():
                place.set_result(None)
                return
        self._free += 1


def _busy(message: str) -> IngestionError:
    return IngestionError(message, remedy="Try again later, or raise workers.", retryable=True)
