"""Time limits of many waits that nearly all end before: one timer of the loop for all of them.

A timer of its own costs a wait two to four microseconds, more than anything else about it, and
leaves a handle behind for the garbage collector.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Final, Generic, TypeVar


Waiter = TypeVar("Waiter")

_A_SECOND: Final = 256
"""Moments a second: a limit is found up to 4 ms late."""

_FEW: Final = 64
"""Moments that may be kept although nobody waits for them any more."""


class Alarms(Generic[Waiter]):
    """Calls `ring` with each waiter whose time is up; of one event loop.

    Args:
        ring: Ends the wait; called on the event loop, never within `add`.
    """

    __slots__ = ("_deserted", "_due", "_loop", "_moments", "_ring", "_timer", "_waiters")

    _loop: asyncio.AbstractEventLoop

    def __init__(self, ring: Callable[[Waiter], None]) -> None:
        self._ring = ring
        self._waiters: dict[int, set[Waiter]] = {}
        # A heap of the keys of `_waiters`.
        self._moments: list[int] = []
        # For how many of them nobody waits; the next one to wait often waits for the same.
        self._deserted = 0
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0

    def add(self, waiter: Waiter, seconds: float) -> int:
        """Begin to wait; what is returned goes to `remove` when the wait is over."""
        if self._timer is None:
            # Asked seldom: it is a system call.
            self._loop = asyncio.get_running_loop()
        moment = math.ceil((self._loop.time() + seconds) * _A_SECOND)
        waiters = self._waiters.get(moment)
        if waiters is None:
            self._waiters[moment] = {waiter}
            heappush(self._moments, moment)
            if self._timer is None or moment < self._due:
                self._wait_for(moment)
            return moment
        if not waiters:
            self._deserted -= 1
        waiters.add(waiter)
        return moment

    def remove(self, waiter: Waiter, moment: int) -> None:
        """End a wait; a second time does nothing."""
        waiters = self._waiters.get(moment)
        if waiters is None or waiter not in waiters:
            return
        waiters.remove(waiter)
        if not waiters:
            self._deserted += 1
            if self._deserted > _FEW + len(self._waiters) // 2:
                self._clear_out()

    def _clear_out(self) -> None:
        self._waiters = {moment: each for moment, each in self._waiters.items() if each}
        self._moments = list(self._waiters)
        heapify(self._moments)
        self._deserted = 0

    def _wait_for(self, moment: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = moment
        self._timer = self._loop.call_at(moment / _A_SECOND, self._strike)

    def _strike(self) -> None:
        self._timer = None
        # The loop may be early by the resolution of its clock.
        now = max(self._due, int(self._loop.time() * _A_SECOND))
        moments, rung = self._moments, list[Waiter]()
        while moments and (moments[0] <= now or not self._waiters[moments[0]]):
            waiters = self._waiters.pop(heappop(moments))
            self._deserted -= not waiters
            rung += waiters
        if moments:
            self._wait_for(moments[0])
        for waiter in rung:
            self._ring(waiter)
