from __future__ import annotations

import asyncio
import threading
import time
import tracemalloc
from contextvars import copy_context

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motadata.core.errors import ConfigurationError, DeadlineExceededError, RateLimitError
from motadata.core.resilience import (
    AdaptiveLimit,
    BreakerPolicy,
    Bulkhead,
    CircuitBreakers,
    FairLimiter,
    RetryPolicy,
    TenantLimiter,
    check_deadline,
    context_without_deadline,
    deadline_scope,
    remaining,
    reserve,
    time_limit,
)
from motadata.core.resilience._fair_queue import FairQueue
from motadata.core.tenancy import TenantId, resolve_tenant, tenant_scope
from motadata.core.testing.manual_clock import ManualClock


@given(
    actions=st.lists(
        st.tuples(
            st.sampled_from(["push", "push", "serve", "remove"]),
            st.sampled_from("abc"),
            st.integers(0, 30),
        ),
        max_size=120,
    )
)
def test_a_fair_queue_serves_each_line_in_order_and_none_twice_as_much(
    actions: list[tuple[str, str, int]],
) -> None:
    queue: FairQueue[int] = FairQueue()
    lines: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    for number, (action, name, choice) in enumerate(actions):
        tenant = TenantId(name)
        if action == "push":
            queue.push(tenant, number, 1.0)
            lines[name].append(number)
        elif action == "remove" and lines[name]:
            item = lines[name].pop(choice % len(lines[name]))
            assert queue.remove(tenant, item)
            assert not queue.remove(tenant, item)
        elif action == "serve":
            head = queue.first()
            assert (head is None) == (not any(lines.values()))
            if head is not None:
                assert head[1] == lines[head[0]].pop(0)
                queue.pop()
        assert len(queue) == sum(map(len, lines.values()))
        assert queue.cost == pytest.approx(len(queue))


def test_lines_that_always_wait_are_served_alike_whatever_their_length() -> None:
    queue: FairQueue[int] = FairQueue()
    for number in range(1_000):
        queue.push(TenantId("flood"), number, 1.0)
    for number in range(20):
        queue.push(TenantId("quiet"), 10_000 + number, 1.0)

    served = []
    for _ in range(40):
        head = queue.first()
        assert head is not None
        served.append(str(head[0]))
        queue.pop()

    assert served.count("quiet") == 20


async def waits(limiter: FairLimiter, clock: ManualClock, calls: int) -> list[float]:
    """Return how long the calls of a tenant wait, all made at once."""
    began = clock.now()
    times: list[float] = []

    async def call() -> None:
        await limiter.acquire(tenant_id="quiet")
        times.append(clock.now() - began)

    tasks = [asyncio.create_task(call()) for _ in range(calls)]
    while not all(task.done() for task in tasks):
        await clock.advance(0.01)
    return times


async def test_a_flood_of_ten_thousand_at_most_doubles_the_waits_of_another_tenant() -> None:
    clock = ManualClock()
    alone = FairLimiter(rate=250, burst=1, clock=clock)
    await alone.acquire(tenant_id="quiet")
    flooded = FairLimiter(rate=250, burst=1, max_waiting=20_000, clock=clock)
    await flooded.acquire(tenant_id="flood")
    flood = [asyncio.create_task(flooded.acquire(tenant_id="flood")) for _ in range(10_000)]
    await asyncio.sleep(0)

    beside = await waits(flooded, clock, 100)
    by_itself = await waits(alone, clock, 100)

    assert sorted(beside)[98] <= 2 * sorted(by_itself)[98] + 0.02
    for call in flood:
        call.cancel()
    await asyncio.gather(*flood, return_exceptions=True)
    await flooded.__aexit__(None, None, None)


async def test_five_hundred_waiters_take_the_ideal_time_and_keep_their_order() -> None:
    clock = ManualClock()
    limiter = FairLimiter(rate=250, burst=50, clock=clock)
    served: list[tuple[float, int]] = []
    began = clock.now()

    async def call(number: int) -> None:
        await limiter.acquire(tenant_id="acme")
        served.append((clock.now() - began, number))

    tasks = [asyncio.create_task(call(number)) for number in range(500)]
    while len(served) < 500:
        await clock.advance(0.004)
    await asyncio.gather(*tasks)

    assert [number for _, number in served] == list(range(500))
    assert served[-1][0] == pytest.approx(1.80, rel=0.03)
    times = [at for at, _ in served]
    assert max(sum(start <= at < start + 0.1 for at in times) for start in times) <= 75


async def test_a_full_queue_makes_room_for_a_tenant_that_has_less_waiting() -> None:
    limiter = FairLimiter(rate=0.1, burst=1, max_waiting=10, clock=ManualClock())
    await limiter.acquire(tenant_id="flood")
    flood = [asyncio.create_task(limiter.acquire(tenant_id="flood")) for _ in range(10)]
    await asyncio.sleep(0)

    quiet = asyncio.create_task(limiter.acquire(tenant_id="quiet"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert not quiet.done()
    assert isinstance(flood[-1].exception(), RateLimitError)
    assert not any(call.done() for call in flood[:-1])
    with pytest.raises(RateLimitError):
        await limiter.acquire(tenant_id="flood")
    await limiter.__aexit__(None, None, None)
    await asyncio.gather(quiet, *flood, return_exceptions=True)


async def test_nobody_waits_beyond_the_limit_by_which_it_was_let_in() -> None:
    clock = ManualClock()
    limiter = FairLimiter(rate=10, burst=1, clock=clock)
    await limiter.acquire(tenant_id="acme")

    with pytest.raises(RateLimitError):
        # The clock stands still, so the token that was promised never comes.
        await limiter.acquire(timeout=0.15, tenant_id="acme")

    assert limiter.waiting == 0


async def test_two_hundred_settled_calls_overshoot_by_no_more_than_one_estimates_error() -> None:
    clock = ManualClock()
    limiter = FairLimiter(rate=1_000, burst=2_000, clock=clock)
    under_way, used = 0, 0.0
    began = clock.now()

    async def call() -> None:
        nonlocal under_way, used
        async with reserve(limiter, 100, tenant_id="acme") as reservation:
            under_way += 1
            await clock.sleep(0.3)
            under_way -= 1
            used += 130
            reservation.settle(130)

    tasks = [asyncio.create_task(call()) for _ in range(200)]
    while not all(task.done() for task in tasks):
        await clock.advance(0.01)
        allowed = 2_000 + 1_000 * (clock.now() - began)
        # No call is let in on tokens that are known to be gone; those of the first burst were let
        # in before the first of them could tell.
        assert used + under_way * 100 <= allowed + 20 * 30
    await asyncio.gather(*tasks)

    assert used == 200 * 130
    assert used <= 2_000 + 1_000 * (clock.now() - began) + 30


async def test_an_adaptive_limit_gives_its_places_to_all_tenants_alike() -> None:
    limit = AdaptiveLimit(initial=1, largest=1, longest_wait=30)
    served: list[str] = []

    async def call(tenant: str) -> None:
        async with limit.enter(tenant_id=tenant):
            served.append(tenant)
            await asyncio.sleep(0)

    calls = [asyncio.create_task(call("flood")) for _ in range(100)]
    await asyncio.sleep(0)
    calls += [asyncio.create_task(call("quiet")) for _ in range(5)]
    await asyncio.gather(*calls)

    assert [place for place, tenant in enumerate(served) if tenant == "quiet"][-1] <= 12


async def test_a_timeout_of_the_block_itself_is_not_the_limits() -> None:
    with pytest.raises(TimeoutError) as raised:
        async with time_limit(None, what="an answer"):
            raise TimeoutError("from a driver")
    assert not isinstance(raised.value, DeadlineExceededError)


async def test_a_deadline_follows_tasks_threads_and_copied_contexts() -> None:
    seen: list[float | None] = []

    async def in_a_task() -> None:
        seen.append(remaining())

    with deadline_scope(5):
        await asyncio.create_task(in_a_task())
        seen.append(await asyncio.to_thread(remaining))
        thread = threading.Thread(
            target=copy_context().run, args=(lambda: seen.append(remaining()),)
        )
        thread.start()
        await asyncio.to_thread(thread.join)

    assert all(left is not None and 0 < left <= 5 for left in seen)
    assert len(seen) == 3


async def test_work_that_goes_on_without_its_caller_takes_all_but_the_deadline_along() -> None:
    seen: list[object] = []

    async def in_the_background() -> None:
        seen.extend((remaining(), resolve_tenant(None)))
        with deadline_scope(9):
            seen.append(remaining() is not None)

    with tenant_scope("acme"), deadline_scope(5):
        await asyncio.create_task(in_the_background(), context=context_without_deadline())
        left = remaining()

    assert seen == [None, "acme", True]
    assert left is not None
    assert left <= 5


def test_work_without_an_await_can_ask_whether_its_time_is_up() -> None:
    with deadline_scope(60):
        check_deadline(what="the reading of pages")
    with deadline_scope(0), pytest.raises(DeadlineExceededError, match="the reading of pages"):
        check_deadline(what="the reading of pages")


async def test_a_dependency_that_became_slow_fills_the_queue_with_less() -> None:
    clock = ManualClock()
    limit = AdaptiveLimit(initial=1, largest=1, longest_wait=1.0, clock=clock)

    async def call(seconds: float) -> None:
        async with limit.enter(tenant_id="acme"):
            await clock.sleep(seconds)

    async def call_quickly() -> None:
        for _ in range(100):
            await call(0.001)

    quick = asyncio.create_task(call_quickly())
    await clock.advance(1)
    await quick
    slow = [asyncio.create_task(call(0.1)) for _ in range(12)]
    await clock.advance(0.85)
    assert limit.waiting == 3
    late = [asyncio.create_task(call(0.1)) for _ in range(20)]
    await clock.advance(0)

    # One every tenth of a second, of which 0.7 may go by in the queue.
    assert 6 <= limit.waiting <= 8
    for task in (*slow, *late):
        task.cancel()
    await asyncio.gather(*slow, *late, return_exceptions=True)


@pytest.mark.parametrize(
    "make",
    [
        lambda: FairLimiter(0, 1),
        lambda: FairLimiter(1, float("nan")),
        lambda: TenantLimiter(1, -1),
        lambda: Bulkhead(0),
        lambda: AdaptiveLimit(initial=0),
        lambda: BreakerPolicy(failure_ratio=1.5),
        lambda: RetryPolicy(attempts=0),
    ],
)
def test_settings_that_cannot_work_are_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(ConfigurationError):
        make()


async def test_idle_guards_of_ten_thousand_tenants_stay_small() -> None:
    tenants = [TenantId(f"tenant-{number}") for number in range(2_000)]
    providers = [f"provider-{number}" for number in range(3)]
    breakers, limiter = CircuitBreakers(), TenantLimiter(10, 10)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for tenant in tenants:
            for provider in providers:
                async with breakers.guard(provider, tenant_id=tenant):
                    pass
        each_breaker = (tracemalloc.get_traced_memory()[0] - before) / 6_000
        before = tracemalloc.get_traced_memory()[0]
        for tenant in tenants:
            await limiter.acquire(tenant_id=tenant)
        each_limiter = (tracemalloc.get_traced_memory()[0] - before) / 2_000
    finally:
        tracemalloc.stop()

    assert each_breaker <= 1_024
    assert each_limiter <= 1_024


async def test_a_late_outcome_from_before_it_opened_does_not_open_it_again() -> None:
    clock = ManualClock()
    breakers = CircuitBreakers(BreakerPolicy(minimum_calls=1, pause=5), clock=clock)
    breaker = breakers.breaker("provider", tenant_id="acme")
    slow, quick = breaker.admit(), breaker.admit()
    assert slow is not None
    assert quick is not None
    breaker.record(quick, failed=True)
    await clock.advance(5)
    probe = breaker.admit()
    assert probe is not None

    breaker.record(slow, failed=True)
    breaker.record(probe, failed=False)

    assert breaker.state == "closed"


def test_time_is_not_spent_where_nobody_waits() -> None:
    began = time.process_time()
    queue: FairQueue[int] = FairQueue()
    for number in range(20_000):
        queue.push(TenantId("acme"), number, 1.0)
        queue.remove(TenantId("acme"), number)

    assert len(queue._heap) <= 1
    assert len(queue._lines) <= 1
    assert time.process_time() - began < 5
