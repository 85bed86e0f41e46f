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

    __slots__ = ("key", "timer")

    def __init__(self, key: int, timer: asyncio.TimerHandle) -> None:
        super().__init__()
        self.key = key
        self.timer = timer


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
        if seconds < _SHORT:
            # A key of its own: times of the loop are not negative.
            key = self._own_keys = self._own_keys - 1
            moment = self._open(key, loop.time() + seconds)
        else:
            key = int((loop.time() + seconds) * _A_SECOND) + 1
            known = self._moments.get(key)
            moment = self._open(key, key / _A_SECOND) if known is None else known
        moment.add(waiter)
        return moment

    def remove(self, waiter: Waiter, moment: Moment[Waiter]) -> None:
        """End a wait; a second time does nothing."""
        moment.discard(waiter)
        if not moment and (moment.key < 0 or self._is_far(moment)):
            moment.timer.cancel()
            self._moments.pop(moment.key, None)

    def _open(self, key: int, when: float) -> Moment[Waiter]:
        timer = asyncio.get_running_loop().call_at(when, self._strike, key)
        moment = self._moments[key] = Moment(key, timer)
        return moment

    def _is_far(self, moment: Moment[Waiter]) -> bool:
        return moment.timer.when() > asyncio.get_running_loop().time() + _FAR

    def _strike(self, key: int) -> None:
        moment = self._moments.pop(key, None)
        for waiter in list(moment or ()):
            self._ring(waiter)
