from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motadata.core.errors import RateLimitError, TenantRequiredError
from motadata.core.resilience import FairLimiter, TenantLimiter, TokenBucket, deadline_scope
from motadata.core.testing.manual_clock import ManualClock


class Reading:
    """A clock whose reading the test sets."""

    def __init__(self) -> None:
        self.value = 500.0

    def now(self) -> float:
        return self.value

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


def test_a_bucket_grants_its_burst_at_once_and_then_its_rate() -> None:
    clock = Reading()
    bucket = TokenBucket(rate=10, burst=3, clock=clock)

    granted = [bucket.take() for _ in range(4)]

    assert granted == [True, True, True, False]
    assert bucket.wait() == pytest.approx(0.1)
    clock.value += 0.1
    assert bucket.take()


def test_a_call_larger_than_the_burst_can_never_pass() -> None:
    bucket = TokenBucket(rate=1, burst=5, clock=Reading())

    assert not bucket.take(6)
    assert bucket.wait(6) == float("inf")


@given(
    rate=st.floats(0.1, 1_000),
    burst=st.floats(1, 100),
    steps=st.lists(st.tuples(st.floats(0, 2), st.floats(0.1, 5)), max_size=60),
)
def test_no_window_ever_holds_more_than_burst_and_refill(
    rate: float, burst: float, steps: list[tuple[float, float]]
) -> None:
    clock = Reading()
    bucket = TokenBucket(rate, burst, clock=clock)
    grants: list[tuple[float, float]] = []

    for pause, cost in steps:
        clock.value += pause
        if bucket.take(cost):
            grants.append((clock.value, cost))

    for first, (begin, _) in enumerate(grants):
        for last in range(first, len(grants)):
            end = grants[last][0]
            taken = sum(cost for _, cost in grants[first : last + 1])
            assert taken <= burst + rate * (end - begin) + 1e-6 * (1 + rate)


def test_settling_an_estimate_gives_back_what_was_not_used() -> None:
    clock = Reading()
    bucket = TokenBucket(rate=1, burst=10, clock=clock)
    assert bucket.take(10)

    bucket.settle(-4)

    assert bucket.take(4)
    assert bucket.wait(1) == pytest.approx(1.0)


async def test_waiters_are_served_in_order_at_the_rate() -> None:
    clock = ManualClock()
    limiter = FairLimiter(rate=10, burst=1, clock=clock)
    served: list[int] = []

    async def call(number: int) -> None:
        await limiter.acquire(tenant_id="acme")
        served.append(number)

    tasks = [asyncio.create_task(call(number)) for number in range(4)]
    await clock.advance(0.0)
    assert served == [0]
    await clock.advance(0.2)
    assert served == [0, 1, 2]
    await clock.advance(0.1)
    assert served == [0, 1, 2, 3]
    await asyncio.gather(*tasks)


async def test_a_flood_of_one_tenant_does_not_stand_before_the_others() -> None:
    clock = ManualClock()
    limiter = FairLimiter(rate=10, burst=1, clock=clock)
    served: list[str] = []

    async def call(tenant: str) -> None:
        await limiter.acquire(tenant_id=tenant)
        served.append(tenant)

    tasks = [asyncio.create_task(call("flood")) for _ in range(100)]
    await clock.advance(0.0)
    tasks += [asyncio.create_task(call("quiet")) for _ in range(3)]
    await clock.advance(0.75)

    assert served.count("quiet") == 3
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await limiter.__aexit__(None, None, None)


async def test_a_call_that_cannot_be_served_in_time_is_refused_at_once() -> None:
    clock = ManualClock()
    limiter = FairLimiter(rate=1, burst=1, clock=clock)
    await limiter.acquire(tenant_id="acme")

    with pytest.raises(RateLimitError) as refused:
        await limiter.acquire(tenant_id="acme", timeout=0.5)

    assert refused.value.retry_after == pytest.approx(1.0)
    assert clock.sleepers == 0


async def test_the_surrounding_deadline_bounds_the_wait() -> None:
    limiter = FairLimiter(rate=1, burst=1, clock=ManualClock())
    await limiter.acquire(tenant_id="acme")

    with deadline_scope(0.2), pytest.raises(RateLimitError):
        await limiter.acquire(tenant_id="acme")


async def test_a_cancelled_waiter_costs_the_others_nothing() -> None:
    clock = ManualClock()
    limiter = FairLimiter(rate=1, burst=1, clock=clock)
    await limiter.acquire(tenant_id="acme")
    first = asyncio.create_task(limiter.acquire(tenant_id="acme"))
    second = asyncio.create_task(limiter.acquire(tenant_id="acme"))
    await clock.advance(0.0)

    first.cancel()
    await clock.advance(1.0)

    assert second.done()
    assert second.exception() is None
    assert limiter.waiting == 0


async def test_the_queue_is_bounded() -> None:
    limiter = FairLimiter(rate=1, burst=1, max_waiting=1, clock=ManualClock())
    await limiter.acquire(tenant_id="acme")
    waiting = asyncio.create_task(limiter.acquire(tenant_id="acme"))
    await asyncio.sleep(0)

    with pytest.raises(RateLimitError):
        await limiter.acquire(tenant_id="acme")

    await limiter.__aexit__(None, None, None)
    assert (await asyncio.gather(waiting, return_exceptions=True))[0].__class__ is (
        asyncio.CancelledError
    )


async def test_tenants_have_buckets_of_their_own() -> None:
    limiter = TenantLimiter(rate=1, burst=1, clock=ManualClock())
    await limiter.acquire(tenant_id="acme")

    await limiter.acquire(tenant_id="beta", timeout=0)

    with pytest.raises(RateLimitError):
        await limiter.acquire(tenant_id="acme", timeout=0)


async def test_the_number_of_tenants_kept_is_bounded() -> None:
    clock = ManualClock()
    limiter = TenantLimiter(rate=1, burst=1, max_tenants=10, clock=clock)
    for number in range(30):
        await limiter.acquire(tenant_id=f"tenant-{number}")
        await clock.advance(2.0)

    assert len(limiter._limiters) <= 10


async def test_nothing_is_granted_without_a_tenant() -> None:
    with pytest.raises(TenantRequiredError):
        await FairLimiter(rate=1, burst=1).acquire()
