"""One computation for all who wait for the same key.

Each who waits has their own deadline: whose time is up leaves, the computation has as long as the
last of them, and ends with that one. What the cache does around it, such as to store what it came
to, has no deadline.
"""

from __future__ import annotations

import asyncio
import math
import time
from asyncio import AbstractEventLoop
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Final

from motadata.core.cache._key import CacheKey
from motadata.core.errors import CacheError
from motadata.core.observability import get_logger
from motadata.core.resilience import (
    SharedDeadline,
    context_without_deadline,
    remaining,
    time_limit,
)


_log = get_logger("cache")

_LAST_WORDS: Final = 5.0
"""Seconds that cancelled computations have to clean up when the cache closes."""

_of_who_waits: ContextVar[SharedDeadline] = ContextVar("motadata_cache_deadline")


async def timed(compute: Callable[[], Awaitable[object]]) -> object:
    """Compute, within a flight, with the deadline of who waits longest for it."""
    with _of_who_waits.get().scope():
        return await compute()


@dataclass(slots=True, eq=False)
class Flight:
    """A computation under way.

    Attributes:
        task: The computation.
        waiters: How many callers wait for it.
        tags: What its result will carry.
        valid: Whether what it returns may still be stored; an invalidation meanwhile forbids it,
            and so does the leaving of the last who waited.
        deadline: Of the computation: that of who waits longest.
        first_end: When the deadline of who began it is over; it may have been told that one only.
    """

    task: asyncio.Task[object]
    deadline: SharedDeadline
    first_end: float
    tags: tuple[str, ...] = ()
    waiters: int = 0
    valid: bool = True


class Flights:
    """The computations under way, by key and event loop (a task serves its own loop only)."""

    def __init__(self) -> None:
        self._lock: Final = Lock()
        self._flights: dict[CacheKey, dict[AbstractEventLoop, Flight]] = {}
        self._ending: set[asyncio.Task[object]] = set()

    async def join(
        self,
        key: CacheKey,
        compute: Callable[[], Awaitable[object]],
        store: Callable[[object], None],
        *,
        tags: tuple[str, ...] = (),
    ) -> object:
        """Return what the computation of `key` returns, starting it when none is under way.

        One that fails when the deadline of who began it is over may have failed for that: who has
        more time computes anew.

        Raises:
            CacheError: The computation asks for its own result, or was cancelled from within.
            DeadlineExceededError: The caller's deadline ended first.
        """
        loop = asyncio.get_running_loop()
        while True:
            with self._lock:
                flight = self._flights.get(key, {}).get(loop)
                if flight is None:
                    flight = _begin(compute, tags)
                    land = partial(self._land, key, loop, flight, store)
                    flight.task.add_done_callback(land)
                    self._flights.setdefault(key, {})[loop] = flight
                elif flight.task is asyncio.current_task():
                    message = f"The computation of the cache key {key.key[:80]!r} asks for itself."
                    raise CacheError(message, remedy="Compute one key from other keys only.")
            async with time_limit(None, what="the computation of a cached value"):
                await self._wait(key, loop, flight)
            if flight.task.cancelled():
                message = f"The computation of the cache key {key.key[:80]!r} was cancelled."
                raise CacheError(message, remedy="Call again.", retryable=True)
            has_failed = flight.task.exception() is not None
            if not has_failed or flight.first_end > time.monotonic() or remaining() == 0.0:
                return flight.task.result()

    async def close(self) -> None:
        """Wait until the computations of this loop that everybody left have cleaned up."""
        loop = asyncio.get_running_loop()
        ending = [task for task in list(self._ending) if task.get_loop() is loop]
        if ending:
            _, stubborn = await asyncio.wait(ending, timeout=_LAST_WORDS)
            if stubborn:
                _log.warning("computations_not_ended", number=len(stubborn))

    async def _wait(self, key: CacheKey, loop: AbstractEventLoop, flight: Flight) -> None:
        flight.waiters += 1
        try:
            with flight.deadline.waiting():
                await asyncio.wait((flight.task,))
        finally:
            flight.waiters -= 1
            if flight.waiters == 0 and not flight.task.done():
                self._remove(key, loop, flight)
                # Invalidations do not find it any more.
                flight.valid = False
                flight.task.cancel()
                self._ending.add(flight.task)
                flight.task.add_done_callback(self._ending.discard)
                # The caller's cancellation goes on when the computation has cleaned up, as it would
                # had the caller awaited the computation itself; but not beyond the deadline.
                await asyncio.wait((flight.task,), timeout=remaining())

    def invalidate(self, matches: Callable[[CacheKey], bool]) -> None:
        """Keep what is being computed for matching keys from being stored or joined any more."""
        with self._lock:
            for key in [key for key in self._flights if matches(key)]:
                for flight in self._flights.pop(key).values():
                    flight.valid = False

    def invalidate_tag(self, tenant: str, tag: str) -> None:
        """Like `invalidate`, for what one tenant computes that will carry a tag."""
        with self._lock:
            tagged = [
                key
                for key, flights in self._flights.items()
                if key.tenant == tenant and any(tag in flight.tags for flight in flights.values())
            ]
            for key in tagged:
                for flight in self._flights.pop(key).values():
                    flight.valid = False

    def invalidate_key(self, key: CacheKey) -> None:
        """Like `invalidate`, for one key."""
        if self._flights:
            with self._lock:
                for flight in self._flights.pop(key, {}).values():
                    flight.valid = False

    def _land(
        self,
        key: CacheKey,
        loop: AbstractEventLoop,
        flight: Flight,
        store: Callable[[object], None],
        _: asyncio.Task[object],
    ) -> None:
        self._remove(key, loop, flight)
        # Asking for the exception also tells asyncio that it is not lost when nobody waits.
        if not flight.task.cancelled() and flight.task.exception() is None and flight.valid:
            store(flight.task.result())

    def _remove(self, key: CacheKey, loop: AbstractEventLoop, flight: Flight) -> None:
        with self._lock:
            flights = self._flights.get(key)
            if flights is not None and flights.get(loop) is flight:
                del flights[loop]
                if not flights:
                    del self._flights[key]


def _begin(compute: Callable[[], Awaitable[object]], tags: tuple[str, ...]) -> Flight:
    deadline, left = SharedDeadline(), remaining()
    context = context_without_deadline()
    context.run(_of_who_waits.set, deadline)
    task = asyncio.get_running_loop().create_task(_run(compute), context=context)
    first_end = math.inf if left is None else time.monotonic() + left
    return Flight(task, deadline, first_end, tags)


async def _run(compute: Callable[[], Awaitable[object]]) -> object:
    return await compute()
