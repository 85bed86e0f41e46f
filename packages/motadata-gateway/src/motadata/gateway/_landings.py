"""Shared calls that have just ended, for equal calls that looked into the response cache too early.

Between the end of a call and the moment when its answer is in the cache, an equal call would find
neither and be sent upstream. It is given the answer from here.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from typing import Final, Generic

from motadata.gateway._flights import Answer, Flight
from motadata.gateway._response_cache import KEEPABLE


_SECONDS: Final = 0.5
_MOST: Final = 1_000

Key = tuple[str, str, str]


class Landings(Generic[Answer]):
    """Keeps calls that ended with an answer that a cache may keep, for half a second."""

    def __init__(self) -> None:
        self._ended: OrderedDict[Key, tuple[float, Flight[Answer]]] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def keep(self, key: Key, flight: Flight[Answer]) -> None:
        """Keep a call that has just ended, if its answer is one that a cache may keep."""
        answer = flight.answer
        if answer is None or flight.notes.fallback_from is not None:
            return
        if getattr(answer, "finish_reason", "stop") not in KEEPABLE:
            return
        self._ended[key] = (time.monotonic() + _SECONDS, flight)
        if len(self._ended) > _MOST:
            self._ended.popitem(last=False)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_SECONDS, self._sweep)

    def get(self, key: Key) -> Flight[Answer] | None:
        """Return the call that has just ended, or None."""
        until, flight = self._ended.get(key, (0.0, None))
        return flight if time.monotonic() < until else None

    def clear(self) -> None:
        """Forget everything."""
        self._ended.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sweep(self) -> None:
        self._timer = None
        now = time.monotonic()
        for key in [key for key, (until, _) in self._ended.items() if until <= now]:
            del self._ended[key]
        if self._ended:
            self._timer = asyncio.get_running_loop().call_later(_SECONDS, self._sweep)
