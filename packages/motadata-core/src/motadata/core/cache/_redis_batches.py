"""Reads and writes of one turn of the event loop travel together."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import Final

from motadata.core.cache._key import RedisNames
from motadata.core.cache._redis_calls import DamagedAnswerError
from motadata.core.cache._redis_delivery import Answer, Counters, Delivery, OnFailure, Place
from motadata.core.cache._redis_reading import Outcome, Reading, Reads, Rest
from motadata.core.cache._redis_server import RedisServer
from motadata.core.cache._redis_writing import Entry, Writes, Writing
from motadata.core.errors import CacheError, OverloadError
from motadata.core.resilience import context_without_deadline


_MOST_WAITING: Final = 50_000
_MOST_FLYING: Final = 4
# What a batch costs by itself is as much as eight values, or the time that the server has for 25.
_WORTH_HALVING: Final = 48


class Batches:
    """Collects what is asked for in one turn of the loop, and sends it as one.

    Who asks gets a future; giving up on it disturbs nobody else. While four batches are on their
    way, what is asked for waits for the next one, and thus makes it longer.

    Args:
        server: Where to send them.
        quota: Most bytes of one tenant; 0 sets no limit.
        with_left: Whether reads ask for the time that values have left.
    """

    def __init__(self, server: RedisServer, *, quota: int, with_left: bool) -> None:
        self._server = server
        self._delivery = Delivery(on_damage=server.distrust_connections)
        self._reading = Reading(server, self._delivery, with_left=with_left)
        self._writing = Writing(server, self._delivery, quota=quota)
        self._reads: Reads = {}
        self._writes: Writes = {}
        # How many more may wait; none, once it is closed.
        self._room = _MOST_WAITING
        self._is_closed = False
        self._is_scheduled = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._flying: set[Future[None]] = set()

    @property
    def counters(self) -> Counters:
        """What was done."""
        return self._delivery.counters

    @property
    def on_failure(self) -> OnFailure | None:
        """Who is told where the server failed."""
        return self._delivery.on_failure

    @on_failure.setter
    def on_failure(self, told: OnFailure) -> None:
        self._delivery.on_failure = told

    def read(self, place: Place) -> Future[object]:
        """Ask for a value, which comes decoded; with its `Found` where the time left was asked for.

        Raises:
            OverloadError: 50,000 others wait already.
        """
        if self._room <= 0:
            raise self._refusal()
        self._room -= 1
        if not self._is_scheduled:
            self._schedule()
        answer: Future[object] = Future(loop=self._loop)
        waiting = self._reads.get(place.names)
        if waiting is None:
            waiting = self._reads[place.names] = {}
        if place in waiting:
            waiting[place].append(answer)
        else:
            waiting[place] = [answer]
        return answer

    def write(self, names: RedisNames, entry: Entry) -> Future[bool]:
        """Store a value; the answer tells whether its guard allowed it.

        Raises:
            OverloadError: 50,000 others wait already.
        """
        if self._room <= 0:
            raise self._refusal()
        self._room -= 1
        if not self._is_scheduled:
            self._schedule()
        answer: Future[bool] = Future(loop=self._loop)
        self._writes.setdefault(names, []).append((entry, answer))
        return answer

    async def close(self) -> None:
        """Wait for what is on its way, and take nothing more."""
        self._is_closed, self._room = True, 0
        while self._flying or self._is_scheduled:
            await (asyncio.wait(self._flying) if self._flying else asyncio.sleep(0))

    def _refusal(self) -> CacheError | OverloadError:
        if self._is_closed:
            message = "The cache is closed."
            return CacheError(message, remedy="Use it within its `async with`.")
        message = f"{_MOST_WAITING} requests wait for the cache's server."
        return OverloadError(message, remedy="Ask for less at once, or add servers.")

    def _schedule(self) -> None:
        # Asked once for many reads: it is a system call.
        self._loop = asyncio.get_running_loop()
        if len(self._flying) < _MOST_FLYING:
            self._is_scheduled = True
            self._loop.call_soon(self._take_off)

    def _take_off(self) -> None:
        self._is_scheduled = False
        reads, self._reads = self._reads, {}
        writes, self._writes = self._writes, {}
        self._room = 0 if self._is_closed else _MOST_WAITING
        if writes:
            self._fly(self._carry(reads, writes))
        elif reads:
            for half in _halves(reads):
                if not self._send(half):
                    self._fly(self._carry(half, {}))

    def _send(self, reads: Reads) -> bool:
        """Read without a task where that can be: one costs as much as five values."""
        parts = self._reading.parts(reads.items())
        flight: Future[None] = Future(loop=self._loop)

        def land(outcomes: Sequence[Outcome]) -> None:
            try:
                rest = self._reading.take(parts, outcomes)
                if rest:
                    # Before the flight ends, so that whoever closes sees this one.
                    self._fly(self._finish(reads, rest))
            except Exception as error:  # noqa: BLE001 - whatever it was, somebody waits
                self._refuse_all(reads, {})
                _report(error)
            flight.set_result(None)
            self._land(flight)
            if not self._is_scheduled:
                # Behind those who were just woken: what they ask for next need not wait for another
                # turn of the loop.
                self._schedule()

        # What fails from here on fails in `land`.
        if not self._server.begin(self._reading.commands(parts), land):
            return False
        self._flying.add(flight)
        return True

    def _fly(self, work: Coroutine[object, object, None]) -> None:
        # It is everybody's: the deadline of who happened to ask first is not.
        task = asyncio.get_running_loop().create_task(work, context=context_without_deadline())
        self._flying.add(task)
        task.add_done_callback(self._land)

    def _land(self, flight: Future[None]) -> None:
        self._flying.discard(flight)
        if not flight.cancelled() and (error := flight.exception()) is not None:
            _report(error)
        if (self._reads or self._writes) and not self._is_scheduled:
            self._take_off()

    async def _carry(self, reads: Reads, writes: Writes) -> None:
        with self._nobody_left_waiting(reads, writes):
            # Writes first: who sets and then gets in one turn finds what was set.
            if writes:
                await self._writing.write(writes)
            if reads:
                await self._reading.read(reads)

    async def _finish(self, reads: Reads, rest: Rest) -> None:
        with self._nobody_left_waiting(reads, {}):
            await self._reading.finish(rest)

    @contextmanager
    def _nobody_left_waiting(self, reads: Reads, writes: Writes) -> Iterator[None]:
        try:
            yield
        except Exception:
            # Whatever it was, it is no cancellation of those who wait.
            self._refuse_all(reads, writes)
            raise
        except BaseException:
            # Nobody waits for an answer that will not come.
            for waiting in reads.values():
                _cancel(chain.from_iterable(waiting.values()))
            for entries in writes.values():
                _cancel(future for _, future in entries)
            raise

    def _refuse_all(self, reads: Reads, writes: Writes) -> None:
        error = DamagedAnswerError()
        for names, waiting in reads.items():
            self._delivery.refuse(names, chain.from_iterable(waiting.values()), error)
        for names, entries in writes.items():
            self._writing.refuse(names, entries, error)


def _halves(reads: Reads) -> list[Reads]:
    """Cut many reads in two: the server works on one half while the other is decoded here."""
    count = sum(map(len, reads.values()))
    if count < _WORTH_HALVING:
        return [reads]
    first, second, room = Reads(), Reads(), (count + 1) // 2
    for names, waiting in reads.items():
        if len(waiting) <= room:
            first[names] = waiting
        elif room == 0:
            second[names] = waiting
        else:
            one_by_one = iter(waiting.items())
            first[names] = dict(islice(one_by_one, room))
            second[names] = dict(one_by_one)
        room = max(0, room - len(waiting))
    return [first, second]


def _report(error: BaseException) -> None:
    asyncio.get_running_loop().call_exception_handler(
        {"message": "A batch of the cache failed.", "exception": error}
    )


def _cancel(futures: Iterable[Future[Answer]]) -> None:
    for future in futures:
        future.cancel()
