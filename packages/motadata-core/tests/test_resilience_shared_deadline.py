"""The deadline of work that several callers wait for is that of whoever waits longest."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import Context

import pytest

from motadata.core.errors import DeadlineExceededError
from motadata.core.resilience import (
    SharedDeadline,
    context_without_deadline,
    deadline_scope,
    remaining,
    time_limit,
)


@contextmanager
def a_caller_waits(deadline: SharedDeadline, seconds: float | None) -> Iterator[None]:
    """Have a caller wait for the work who has so much time; the block is not the caller's."""
    waiting = deadline.waiting()

    def begin() -> None:
        with deadline_scope(seconds) if seconds is not None else nullcontext():
            waiting.__enter__()

    Context().run(begin)
    try:
        yield
    finally:
        waiting.__exit__(None, None, None)


def left_within(deadline: SharedDeadline) -> float:
    """Return what the work is told; infinity for no deadline."""
    with deadline.scope():
        seconds = remaining()
    return math.inf if seconds is None else seconds


async def wait_for(gate: asyncio.Event, deadline: SharedDeadline) -> str:
    with deadline.scope():
        async with time_limit(None, what="the gate"):
            await gate.wait()
    return "opened"


def test_it_moves_as_callers_come_and_go() -> None:
    deadline = SharedDeadline()

    with a_caller_waits(deadline, 60):
        first = left_within(deadline)
        with a_caller_waits(deadline, 600):
            second = left_within(deadline)
            with a_caller_waits(deadline, 6):
                third = left_within(deadline)
        last = left_within(deadline)

    assert 6 < last <= first <= 60 < third <= second <= 600


def test_there_is_none_while_somebody_has_none_or_nobody_waits() -> None:
    deadline = SharedDeadline()

    with a_caller_waits(deadline, 60), a_caller_waits(deadline, None):
        assert left_within(deadline) == math.inf
    assert left_within(deadline) == math.inf


def test_a_scope_within_counts_beside_the_one_that_moves() -> None:
    deadline = SharedDeadline()

    with a_caller_waits(deadline, 60), deadline.scope(), deadline_scope(600), deadline_scope(300):
        shortened, own = remaining(), remaining(6)
        with a_caller_waits(deadline, None):
            lengthened = remaining()

    assert shortened is not None
    assert lengthened is not None
    assert own is not None
    assert own <= 6 < shortened <= 60 < lengthened <= 300


async def test_a_wait_goes_on_when_a_caller_comes_who_has_more_time() -> None:
    deadline, gate, began = SharedDeadline(), asyncio.Event(), asyncio.Event()

    async def work() -> str:
        asyncio.get_running_loop().call_soon(began.set)
        return await wait_for(gate, deadline)

    with deadline_scope(0.05), deadline.waiting():
        waiting = asyncio.create_task(work(), context=context_without_deadline())
        await began.wait()
        with a_caller_waits(deadline, None):
            with pytest.raises(DeadlineExceededError):
                async with time_limit(None, what="the work"):
                    await asyncio.wait({waiting})
            gate.set()

            assert await waiting == "opened"


async def test_a_wait_ends_with_the_last_deadline() -> None:
    deadline = SharedDeadline()

    with a_caller_waits(deadline, 0.05), pytest.raises(DeadlineExceededError, match="the gate"):
        await wait_for(asyncio.Event(), deadline)


async def test_a_wait_has_its_own_limit_whoever_waits() -> None:
    deadline = SharedDeadline()

    with (
        a_caller_waits(deadline, 60),
        deadline.scope(),
        pytest.raises(DeadlineExceededError, match="an answer"),
    ):
        async with time_limit(0.05, what="an answer"):
            await asyncio.Event().wait()


def test_works_that_wait_for_each_other_give_each_other_no_time() -> None:
    one, other = SharedDeadline(), SharedDeadline()

    with a_caller_waits(one, 60):
        with one.scope():
            waits_for_other = other.waiting()
            waits_for_other.__enter__()
        with other.scope(), one.waiting():
            assert 6 < left_within(one) <= 60
            assert 6 < left_within(other) <= 60
        waits_for_other.__exit__(None, None, None)
