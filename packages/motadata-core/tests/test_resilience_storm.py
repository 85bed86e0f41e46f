"""Whatever is cancelled, whenever: places never leak, are never exceeded, and nobody hangs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motadata.core.errors import SDKError
from motadata.core.resilience import AdaptiveLimit, Bulkhead, FairLimiter, TenantLimiter
from motadata.core.testing.manual_clock import ManualClock
from motadata.core.testing.storm import storm


TENANTS = ("a", "b", "c")

Step = tuple[str, int]
STEPS = st.lists(
    st.tuples(st.sampled_from(["start", "start", "cancel", "finish", "turn"]), st.integers(0, 50)),
    max_size=80,
)


class Crowd:
    """Calls that come, hold their place until told to leave, and are cancelled at any moment."""

    def __init__(self, enter: Callable[[str], AbstractAsyncContextManager[None]]) -> None:
        self._enter = enter
        self.inside: dict[str, int] = dict.fromkeys(TENANTS, 0)
        self.calls: list[tuple[asyncio.Task[None], asyncio.Event]] = []

    async def _call(self, tenant: str, leave: asyncio.Event) -> None:
        async with self._enter(tenant):
            self.inside[tenant] += 1
            try:
                await leave.wait()
            finally:
                self.inside[tenant] -= 1

    async def step(self, kind: str, number: int) -> None:
        if kind == "start":
            leave = asyncio.Event()
            task = asyncio.create_task(self._call(TENANTS[number % len(TENANTS)], leave))
            self.calls.append((task, leave))
        elif kind == "turn":
            await asyncio.sleep(0)
        elif self.calls:
            task, leave = self.calls[number % len(self.calls)]
            task.cancel() if kind == "cancel" else leave.set()

    async def leave(self) -> None:
        for _, leave in self.calls:
            leave.set()
        async with asyncio.timeout(10):
            outcomes = await asyncio.gather(
                *(task for task, _ in self.calls), return_exceptions=True
            )
        for outcome in outcomes:
            assert outcome is None or isinstance(outcome, SDKError | asyncio.CancelledError)


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, limit=st.integers(1, 3), waiting=st.integers(0, 5))
def test_a_bulkheads_places_never_leak_and_are_never_exceeded(
    steps: list[Step], limit: int, waiting: int
) -> None:
    async def scenario() -> None:
        bulkhead = Bulkhead(limit, waiting=waiting)
        crowd = Crowd(lambda tenant: bulkhead.enter(tenant_id=tenant))
        for kind, number in steps:
            await crowd.step(kind, number)
            assert max(crowd.inside.values()) <= limit
        await crowd.leave()
        assert not bulkhead._running
        assert not bulkhead._lines

    asyncio.run(scenario())


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, limit=st.integers(1, 3), waiting=st.integers(0, 5))
def test_an_adaptive_limits_places_never_leak_and_are_never_exceeded(
    steps: list[Step], limit: int, waiting: int
) -> None:
    async def scenario() -> None:
        adaptive = AdaptiveLimit(initial=limit, largest=limit, waiting=waiting, longest_wait=30)
        crowd = Crowd(lambda tenant: adaptive.enter(tenant_id=tenant))
        for kind, number in steps:
            await crowd.step(kind, number)
            assert sum(crowd.inside.values()) <= adaptive.running <= limit
        await crowd.leave()
        assert adaptive.running == 0
        assert adaptive.waiting == 0

    asyncio.run(scenario())


@settings(max_examples=100, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["start", "start", "cancel", "pass", "turn"]), st.integers(0, 50)
        ),
        max_size=80,
    ),
    burst=st.integers(1, 5),
    waiting=st.integers(1, 10),
)
def test_a_limiters_tokens_never_leak_and_are_never_exceeded(
    steps: list[Step], burst: int, waiting: int
) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        limiter = FairLimiter(10, burst, max_waiting=waiting, clock=clock)
        tasks: list[asyncio.Task[None]] = []
        began = clock.now()

        def used() -> int:
            done = [task for task in tasks if task.done() and not task.cancelled()]
            return sum(task.exception() is None for task in done)

        for kind, number in steps:
            if kind == "start":
                call = limiter.acquire(tenant_id=TENANTS[number % len(TENANTS)])
                tasks.append(asyncio.create_task(call))
            elif kind == "pass":
                await clock.advance(number / 50)
            elif kind == "turn":
                await asyncio.sleep(0)
            elif tasks:
                tasks[number % len(tasks)].cancel()
            assert used() <= burst + 10 * (clock.now() - began) + 1e-6
        # All that still wait are served within the time that their tokens take.
        await clock.advance((waiting + burst + 1) / 10)
        assert all(task.done() for task in tasks)
        assert limiter.waiting == 0
        # Nothing is held back: the burst is there again.
        await clock.advance(burst / 10)
        for _ in range(burst):
            await limiter.acquire(timeout=0, tenant_id="a")

    asyncio.run(scenario())


@pytest.mark.parametrize("calls", [2_000, pytest.param(100_000, marks=pytest.mark.soak)])
async def test_half_of_all_calls_cancelled_in_flight_leave_nothing_behind(calls: int) -> None:
    bulkhead = Bulkhead(4, waiting=calls)
    adaptive = AdaptiveLimit(initial=8, largest=8, waiting=calls, longest_wait=60)
    limiter = TenantLimiter(rate=calls * 5, burst=10, max_waiting=calls)

    async def call(number: int) -> None:
        tenant = f"tenant-{number % 7}"
        await limiter.acquire(tenant_id=tenant)
        async with bulkhead.enter(tenant_id=tenant), adaptive.enter(tenant_id=tenant):
            await asyncio.sleep(0)

    report = await storm(call, calls=calls)

    assert report.share_cancelled == pytest.approx(0.5, abs=0.1)
    assert [one for one in report.failures if not isinstance(one, SDKError)] == []
    assert report.served > 0
    assert adaptive.running == adaptive.waiting == 0
    assert not bulkhead._running
    assert not bulkhead._lines
    assert all(limiter.waiting == 0 for limiter in limiter._limiters.values())
