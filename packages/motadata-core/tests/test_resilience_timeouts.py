"""Time limits that share one timer of the loop: none early, none left behind, and no other mark."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from motadata.core.resilience import Alarms, block_timeout
from motadata.core.resilience._timeouts import _alarms_of


SHORT = 0.01

Limit = Callable[[float | None], AbstractAsyncContextManager[None]]


def waiting() -> int:
    """Return how many blocks of the running loop have a limit."""
    alarms = _alarms_of(asyncio.get_running_loop())
    return sum(map(len, alarms._waiters.values()))


def marks() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


async def test_each_wait_ends_at_its_time_and_not_before() -> None:
    rung: dict[float, float] = {}
    done = asyncio.Event()

    def ring(seconds: float) -> None:
        rung[seconds] = time.monotonic()
        if len(rung) == len(limits):
            done.set()

    alarms: Alarms[float] = Alarms(ring)
    limits = (0.31, 0.3, 0.0, 0.05, 0.051, 0.24)
    began = time.monotonic()
    for seconds in limits:
        alarms.add(seconds, seconds)
    async with asyncio.timeout(5):
        await done.wait()

    assert all(seconds <= at - began + 0.001 for seconds, at in rung.items())
    assert sorted(rung) == sorted(limits)
    assert not alarms._moments
    assert alarms._timer is None


@pytest.mark.parametrize("seconds", [SHORT, 100.0])
async def test_a_wait_that_ended_is_forgotten(seconds: float) -> None:
    alarms: Alarms[int] = Alarms(lambda _: None)
    moments = [(number, alarms.add(number, seconds)) for number in range(100)]
    for number, moment in moments:
        alarms.remove(number, moment)
        alarms.remove(number, moment)

    assert not any(alarms._waiters.values())


async def test_waits_that_end_early_do_not_pile_up() -> None:
    alarms: Alarms[int] = Alarms(lambda _: None)
    alarms.add(-1, 5_000.0)
    for number in range(50_000):
        # As over a long time: each in a moment of its own.
        alarms.remove(number, alarms.add(number, 1_000.0 + number))

    assert sorted(alarms._moments) == sorted(alarms._waiters)
    assert len(alarms._moments) < 100
    assert sum(map(len, alarms._waiters.values())) == 1


async def test_a_wait_that_ended_is_not_rung_with_the_others_of_its_moment() -> None:
    rung: list[int] = []
    end = asyncio.Event()

    def ring(number: int) -> None:
        rung.append(number)
        end.set()

    alarms: Alarms[int] = Alarms(ring)
    moments = [alarms.add(number, 0.3) for number in range(4)]
    alarms.remove(1, moments[1])
    alarms.add(4, 0.35)
    async with asyncio.timeout(5):
        while 4 not in rung:
            end.clear()
            await end.wait()

    assert sorted(rung) == [0, 2, 3, 4]


@pytest.mark.parametrize("limit", [block_timeout, asyncio.timeout])
async def test_a_block_that_takes_too_long_is_cancelled(limit: Limit) -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError) as caught:
        async with limit(SHORT):
            await asyncio.sleep(60)

    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert time.monotonic() - began >= SHORT - 0.001
    assert marks() == waiting() == 0


@pytest.mark.parametrize("seconds", [None, math.inf, 60.0])
async def test_a_block_that_ends_in_time_leaves_nothing(seconds: float | None) -> None:
    async with block_timeout(seconds):
        await asyncio.sleep(0)

    assert marks() == waiting() == 0


@pytest.mark.parametrize("limit", [block_timeout, asyncio.timeout])
async def test_an_error_of_the_block_passes(limit: Limit) -> None:
    with pytest.raises(KeyError):
        async with limit(60.0):
            raise KeyError

    assert marks() == waiting() == 0


@pytest.mark.parametrize("limit", [block_timeout, asyncio.timeout])
async def test_who_is_cancelled_by_somebody_else_is_cancelled(limit: Limit) -> None:
    async def work() -> None:
        async with limit(60.0):
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert waiting() == 0


@pytest.mark.parametrize("limit", [block_timeout, asyncio.timeout])
async def test_a_cancellation_while_the_time_is_up_is_no_timeout(limit: Limit) -> None:
    async def work() -> None:
        async with limit(SHORT):
            try:
                await asyncio.sleep(60)
            finally:
                stopped.set()
                await asyncio.sleep(0)

    stopped = asyncio.Event()
    task = asyncio.create_task(work())
    await stopped.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("limit", [block_timeout, asyncio.timeout])
async def test_the_inner_limit_ends_the_inner_block_only(limit: Limit) -> None:
    async with limit(60.0):
        with pytest.raises(TimeoutError):
            async with limit(SHORT):
                await asyncio.sleep(60)
        await asyncio.sleep(0)

    assert marks() == waiting() == 0


@pytest.mark.parametrize("limit", [block_timeout, asyncio.timeout])
async def test_the_outer_limit_passes_through_the_inner_one(limit: Limit) -> None:
    async def inner() -> None:
        with pytest.raises(asyncio.CancelledError) as caught:
            async with limit(60.0):
                await asyncio.sleep(60)
        raise caught.value

    with pytest.raises(TimeoutError):
        async with limit(SHORT):
            await inner()

    assert marks() == waiting() == 0


async def test_a_block_that_swallows_the_end_of_its_time_leaves_no_mark() -> None:
    limit = block_timeout(SHORT)
    async with limit:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            answer = "late"

    assert answer == "late"
    assert limit.expired()
    assert marks() == waiting() == 0


def test_loops_of_threads_do_not_share_a_timer() -> None:
    seen: list[object] = []

    async def work() -> None:
        with pytest.raises(TimeoutError):
            async with block_timeout(SHORT):
                await asyncio.sleep(60)
        seen.append(_alarms_of(asyncio.get_running_loop()))

    threads = [threading.Thread(target=asyncio.run, args=(work(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    asyncio.run(work())
    asyncio.run(work())

    assert len(set(map(id, seen))) == len(seen) == 4
