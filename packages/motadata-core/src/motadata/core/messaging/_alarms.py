"""Time limits of many waits that nearly all end before: one timer for those of a moment.

A timer of its own costs a wait two to four microseconds, more than anything else about it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Generic, TypeVar


Waiter = TypeVar("Waiter")

_A_SECOND: Final = 64
"""Moments a second: a limit is found up to 16 ms late."""

_SHORT: Final = 0.25
"""Seconds below which a limit is kept exactly."""

_FAR: Final = 64.0
"""Seconds above which the timer of a moment goes with its last wait; nearer ones are few."""


class Moment(set[Waiter]):
    """Those whose time is up together."""

    __slots__ = ("goes_with_last", "key", "timer")

    def __init__(self, key: int, timer: asyncio.TimerHandle, *, goes_with_last: bool) -> None:
        super().__init__()
        self.key = key
        self.timer = timer
        self.goes_with_last = goes_with_last


class Alarms(Generic[Waiter]):
    """Calls `ring` with each waiter whose time is up; of one event loop.

    Args:
        ring: Ends the wait; called on the event loop.
    """

    def __init__(self, ring: Callable[[Waiter], None]) -> None:
        self._ring = ring
        self._moments: dict[int, Moment[Waiter]] = {}
        self._own_keys = 0

    def add(self, waiter: Waiter, seconds: float) -> Moment[Waiter]:
        """Begin to wait; what is returned goes to `remove` when the wait is over."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        if seconds < _SHORT:
            # A key of its own: times of the loop are not negative.
            key = self._own_keys = self._own_keys - 1
            moment = None
        else:
            key = int(end * _A_SECOND) + 1
            end = key / _A_SECOND
            moment = self._moments.get(key)
        if moment is None:
            timer = loop.call_at(end, self._strike, key)
            moment = Moment(key, timer, goes_with_last=not _SHORT <= seconds <= _FAR)
            self._moments[key] = moment
        moment.add(waiter)
        return moment

    def remove(self, waiter: Waiter, moment: Moment[Waiter]) -> None:
        """End a wait; a second time does nothing."""
        moment.discard(waiter)
        if not moment and moment.goes_with_last:
            moment.timer.cancel()
            self._moments.pop(moment.key, None)

    def _strike(self, key: int) -> None:
        moment = self._moments.pop(key, None)
        for waiter in list(moment or ()):
            self._ring(waiter)
