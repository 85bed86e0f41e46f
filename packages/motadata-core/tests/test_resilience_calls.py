from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motadata.core.errors import (
    CircuitOpenError,
    ConfigurationError,
    DeadlineExceededError,
    OverloadError,
    ProviderError,
    RateLimitError,
)
from motadata.core.resilience import (
    AdaptiveLimit,
    BreakerPolicy,
    Bulkhead,
    CircuitBreakers,
    LocalRetryBudget,
    RetryPolicy,
    deadline_scope,
    remaining,
    retry,
    time_limit,
)
from motadata.core.testing.manual_clock import ManualClock


class Flaky:
    """Fails as often as it is told, then answers."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return "answer"


def down(*, retryable: bool = True) -> ProviderError:
    return ProviderError("The provider is down.", retryable=retryable)


def test_an_inner_deadline_can_only_shorten_the_outer_one() -> None:
    with deadline_scope(0.5):
        with deadline_scope(10):
            left = remaining()
        assert left is not None
        assert left <= 0.5
    assert remaining() is None


async def test_a_wait_ends_at_the_deadline_with_an_error_that_says_what_was_awaited() -> None:
    with deadline_scope(0.01), pytest.raises(DeadlineExceededError, match="a free connection"):
        async with time_limit(30, what="a free connection"):
            await asyncio.Event().wait()


async def test_a_retryable_error_is_tried_again_and_another_is_not() -> None:
    clock = ManualClock()
    flaky, broken = Flaky(down(), down()), Flaky(down(retryable=False))

    pending = asyncio.create_task(retry(flaky, clock=clock, chance=lambda: 0.5))
    await clock.advance(10)

    assert await pending == "answer"
    assert flaky.calls == 3
    with pytest.raises(ProviderError):
        await retry(broken, clock=clock)
    assert broken.calls == 1


async def test_a_retry_waits_as_long_as_the_provider_asks() -> None:
    clock = ManualClock()
    flaky = Flaky(RateLimitError("Slow down.", retry_after=7.0))

    pending = asyncio.create_task(retry(flaky, clock=clock))
    await clock.advance(6.9)
    assert flaky.calls == 1
    await clock.advance(0.2)

    assert await pending == "answer"


async def test_no_retry_outlasts_the_deadline() -> None:
    flaky = Flaky(RateLimitError("Slow down.", retry_after=7.0))

    with deadline_scope(1.0), pytest.raises(RateLimitError):
        await retry(flaky)

    assert flaky.calls == 1


async def test_the_budget_keeps_the_load_on_a_dead_dependency_near_once() -> None:
    budget, clock = LocalRetryBudget(ratio=0.1, reserve=10), ManualClock()
    calls = 0

    async def dead() -> None:
        nonlocal calls
        calls += 1
        raise down()

    async def caller() -> None:
        with pytest.raises(ProviderError):
            await retry(
                dead, policy=RetryPolicy(attempts=4), budget=budget, tenant_id="acme", clock=clock
            )

    everybody = asyncio.gather(*(caller() for _ in range(1_000)))
    await clock.advance(100)
    await everybody

    assert calls <= 1_000 * 1.1


@given(retry_number=st.integers(0, 2_000), chance=st.floats(0, 1, exclude_max=True))
def test_a_wait_never_exceeds_the_cap(retry_number: int, chance: float) -> None:
    assert 0 <= RetryPolicy(cap=10).wait(retry_number, chance=chance) <= 10


async def call(breakers: CircuitBreakers, *, fails: bool, tenant: str = "acme") -> None:
    async with breakers.guard("provider", tenant_id=tenant):
        if fails:
            raise down()


async def open_breaker(breakers: CircuitBreakers) -> None:
    for _ in range(10):
        with pytest.raises(ProviderError):
            await call(breakers, fails=True)


async def test_a_breaker_opens_on_failures_and_refuses_without_calling() -> None:
    breakers = CircuitBreakers(clock=ManualClock())
    await open_breaker(breakers)

    with pytest.raises(CircuitOpenError, match=r"Try again in 5\.0 s"):
        await call(breakers, fails=False)


async def test_one_tenants_failures_open_no_other_tenants_breaker() -> None:
    breakers = CircuitBreakers(clock=ManualClock())
    await open_breaker(breakers)

    await call(breakers, fails=False, tenant="beta")


async def test_one_probe_closes_it_again_and_a_failed_one_doubles_the_pause() -> None:
    clock = ManualClock()
    breakers = CircuitBreakers(clock=clock)
    await open_breaker(breakers)
    await clock.advance(5)
    with pytest.raises(ProviderError):
        await call(breakers, fails=True)
    await clock.advance(9.9)
    with pytest.raises(CircuitOpenError):
        await call(breakers, fails=False)

    await clock.advance(0.1)
    await call(breakers, fails=False)

    assert breakers.breaker("provider", tenant_id="acme").state == "closed"


async def test_only_the_probes_go_through_while_half_open() -> None:
    clock = ManualClock()
    breakers = CircuitBreakers(clock=clock)
    await open_breaker(breakers)
    await clock.advance(5)
    breaker = breakers.breaker("provider", tenant_id="acme")

    admitted = [breaker.admit() for _ in range(3)]

    assert admitted[0] is not None
    assert admitted[1:] == [None, None]
    breaker.abandon(admitted[0])
    assert breaker.admit() is not None


async def test_failures_leave_the_window() -> None:
    clock = ManualClock()
    breakers = CircuitBreakers(BreakerPolicy(window=10, minimum_calls=10), clock=clock)
    for _ in range(9):
        with pytest.raises(ProviderError):
            await call(breakers, fails=True)
    await clock.advance(11)

    with pytest.raises(ProviderError):
        await call(breakers, fails=True)

    assert breakers.breaker("provider", tenant_id="acme").state == "closed"


async def test_a_mistake_of_the_caller_does_not_speak_against_the_dependency() -> None:
    breakers = CircuitBreakers(clock=ManualClock())
    for _ in range(50):
        with pytest.raises(ProviderError):
            async with breakers.guard("provider", tenant_id="acme"):
                raise down(retryable=False)

    await call(breakers, fails=False)


async def test_the_number_of_breakers_is_bounded() -> None:
    breakers = CircuitBreakers(max_size=5, clock=ManualClock())
    for number in range(20):
        breakers.breaker("provider", tenant_id=f"tenant-{number}")

    assert len(breakers._breakers) == 5


async def test_a_bulkhead_holds_each_tenant_to_its_places() -> None:
    bulkhead, leave = Bulkhead(2), asyncio.Event()

    async def work() -> None:
        async with bulkhead.enter(tenant_id="acme"):
            await leave.wait()

    running = [asyncio.create_task(work()) for _ in range(2)]
    await asyncio.sleep(0)

    with pytest.raises(OverloadError):
        async with bulkhead.enter(tenant_id="acme"):
            pass
    async with bulkhead.enter(tenant_id="beta"):
        pass
    leave.set()
    await asyncio.gather(*running)
    assert bulkhead.running(tenant_id="acme") == 0
    assert not bulkhead._running


async def test_a_place_lost_to_cancellation_is_found_again() -> None:
    bulkhead = Bulkhead(1, waiting=10)

    async def work() -> None:
        async with bulkhead.enter(tenant_id="acme"):
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(work()) for _ in range(10)]
    for step in range(10):
        await asyncio.sleep(0)
        tasks[(step * 3) % 10].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert bulkhead.running(tenant_id="acme") == 0
    assert not bulkhead._lines


async def test_a_wait_for_a_place_is_bounded_by_its_timeout() -> None:
    bulkhead = Bulkhead(1, waiting=1)
    async with bulkhead.enter(tenant_id="acme"):
        with pytest.raises(DeadlineExceededError):
            async with bulkhead.enter(timeout=0.01, tenant_id="acme"):
                pass
    assert not bulkhead._lines


async def test_the_adaptive_limit_shrinks_when_calls_queue_up_and_grows_back() -> None:
    clock = ManualClock()
    limit = AdaptiveLimit(initial=50, clock=clock)

    async def work(latency: float) -> None:
        async with limit.enter(tenant_id="acme"):
            await clock.sleep(latency)

    async def load(latency: float) -> None:
        calls = [asyncio.create_task(work(latency)) for _ in range(limit.limit)]
        await clock.advance(latency)
        await asyncio.gather(*calls)

    await load(0.01)
    before = limit.limit
    for _ in range(5):
        await load(0.5)
    slow = limit.limit
    for _ in range(5):
        await load(0.01)

    assert slow < before / 2
    assert limit.limit > slow


async def test_the_adaptive_limit_refuses_at_once_beyond_itself() -> None:
    limit = AdaptiveLimit(initial=1)
    async with limit.enter(tenant_id="acme"):
        with pytest.raises(OverloadError):
            async with limit.enter(tenant_id="acme"):
                pass
    assert limit.running == 0


@pytest.mark.parametrize(
    "seconds",
    ["5", None, float("nan"), [5], 10**400],
    ids=["text", "nothing", "nan", "list", "beyond_floats"],
)
def test_a_deadline_that_is_no_number_is_refused(seconds: object) -> None:
    with pytest.raises(ConfigurationError, match="Give a number of seconds"):
        deadline_scope(seconds).__enter__()  # type: ignore[arg-type]  # that is the point

    assert remaining() is None
