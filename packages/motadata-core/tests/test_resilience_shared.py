"""What instances share: several of them in one process, each with its own connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from motadata.core.embedded import EmbeddedRedis
from motadata.core.errors import (
    CircuitOpenError,
    ConfigurationError,
    MissingExtraError,
    ProviderError,
    RateLimitError,
)
from motadata.core.protocols import Breakers, RateLimiter
from motadata.core.resilience import (
    BreakerPolicy,
    SharedLimiter,
    create_breakers,
    create_limiter,
    create_retry_budget,
)
from motadata.core.testing.lived_time import LivedTime


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def own_redis(tmp_path: Path) -> AsyncIterator[EmbeddedRedis]:
    """A server that the test may kill and halt."""
    async with EmbeddedRedis(tmp_path / "redis") as server:
        yield server


def url(server: EmbeddedRedis) -> str:
    return server.url.get_secret_value()


async def granted(limiter: RateLimiter, *, tenant: str = "acme", timeout: float = 0) -> bool:
    try:
        await limiter.acquire(timeout=timeout, tenant_id=tenant)
    except RateLimitError:
        return False
    return True


async def count_for(seconds: float, limiters: list[RateLimiter]) -> int:
    """Call all limiters as fast as a flood would, and return how many calls were let through."""
    until = time.monotonic() + seconds

    async def flood(limiter: RateLimiter) -> int:
        count = 0
        while time.monotonic() < until:
            for _ in range(20):
                count += await granted(limiter)
            await asyncio.sleep(0.002)
        return count

    return sum(await asyncio.gather(*(flood(limiter) for limiter in limiters)))


async def eventually(holds: Callable[[], bool], *, seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.01)


async def test_instances_together_admit_no_more_than_limit_and_burst(
    stack: AsyncExitStack, embedded_redis: EmbeddedRedis
) -> None:
    name = uuid4().hex
    limiters = [
        await stack.enter_async_context(
            create_limiter(200, 50, name=name, redis_url=url(embedded_redis))
        )
        for _ in range(4)
    ]

    began = time.monotonic()
    admitted = await count_for(1.0, limiters)
    lasted = time.monotonic() - began

    assert admitted <= 200 * lasted + 50
    assert admitted >= 0.4 * (200 * lasted + 50)


async def test_a_busy_instance_asks_the_server_once_in_ten_calls(
    stack: AsyncExitStack, embedded_redis: EmbeddedRedis
) -> None:
    limiter = create_limiter(1_000, 100, name=uuid4().hex, redis_url=url(embedded_redis))
    await stack.enter_async_context(limiter)
    assert isinstance(limiter, SharedLimiter)

    await asyncio.gather(*(limiter.acquire(timeout=10, tenant_id="acme") for _ in range(600)))

    assert limiter.server_calls <= 60


async def test_no_waiting_instance_starves_beside_others(
    stack: AsyncExitStack, embedded_redis: EmbeddedRedis
) -> None:
    name = uuid4().hex
    counts = [0, 0, 0]

    async def wait_all(number: int, limiter: RateLimiter) -> None:
        for _ in range(200):
            await limiter.acquire(timeout=60, tenant_id="acme")
            counts[number] += 1

    tasks = []
    for number in range(3):
        limiter = create_limiter(150, 10, name=name, redis_url=url(embedded_redis))
        await stack.enter_async_context(limiter)
        # In parallel, so that each instance always has calls waiting.
        tasks += [asyncio.create_task(wait_all(number, limiter)) for _ in range(20)]
    await eventually(lambda: sum(counts) >= 300)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert min(counts) >= 0.2 * max(counts)


async def test_two_tenants_keys_are_apart_on_the_server_and_named_by_their_tenant(
    stack: AsyncExitStack, own_redis: EmbeddedRedis
) -> None:
    limiter = create_limiter(0.1, 4, redis_url=url(own_redis))
    breakers = create_breakers(BreakerPolicy(minimum_calls=1, pause=60), redis_url=url(own_redis))
    budget = create_retry_budget(reserve=2, redis_url=url(own_redis))
    for guard in (limiter, breakers, budget):
        await stack.enter_async_context(guard)
    for tenant in ("acme", "acme-b"):
        assert await granted(limiter, tenant=tenant)
        with pytest.raises(ProviderError):
            await call(breakers, fails=True, tenant=tenant, dependency="openai/{acme}:*")
        assert await budget.withdraw(tenant_id=tenant)
    await stack.aclose()

    async with Redis.from_url(url(own_redis), decode_responses=True) as client:
        keys = sorted(await client.keys("*"))
        lives = [await client.ttl(key) for key in keys]

    assert {tuple(str(key).split(":")[:2]) for key in keys} == {
        (kind, f"{{{tenant}}}")
        for kind in ("breaker", "limit", "retry-budget")
        for tenant in ("acme", "acme-b")
    }
    assert len(keys) == 6
    assert all(life > 0 for life in lives)


async def test_a_total_limit_is_shared_by_all_tenants(
    stack: AsyncExitStack, embedded_redis: EmbeddedRedis
) -> None:
    limiter = create_limiter(
        0.05, 5, name=uuid4().hex, scope="total", redis_url=url(embedded_redis)
    )
    await stack.enter_async_context(limiter)

    count = sum([await granted(limiter, tenant=f"tenant-{number % 3}") for number in range(12)])

    assert count == 5


async def test_without_a_server_each_grants_its_share_and_uses_it_when_it_comes(
    stack: AsyncExitStack, own_redis: EmbeddedRedis
) -> None:
    await own_redis.stop()
    limiter = create_limiter(200, 20, redis_url=url(own_redis), expected_instances=2)
    await stack.enter_async_context(limiter)
    assert isinstance(limiter, SharedLimiter)

    began = time.monotonic()
    alone = await count_for(0.5, [limiter])
    lasted = time.monotonic() - began
    assert 10 <= alone <= 100 * lasted + 10

    await own_redis.start()
    async with Redis.from_url(url(own_redis)) as client, LivedTime() as lived:
        while not await client.keys("*"):
            await count_for(0.01, [limiter])
            assert lived.seconds < 1.0


async def test_neither_its_death_nor_its_return_is_a_jump(
    stack: AsyncExitStack, own_redis: EmbeddedRedis
) -> None:
    limiters: list[RateLimiter] = [
        await stack.enter_async_context(create_limiter(100, 40, redis_url=url(own_redis)))
        for _ in range(2)
    ]
    began = time.monotonic()
    admitted = await count_for(0.6, limiters)

    await own_redis.kill()
    admitted += await count_for(1.0, limiters)
    await own_redis.start()
    admitted += await count_for(1.5, limiters)
    lasted = time.monotonic() - began

    assert admitted <= 100 * lasted + 40
    assert admitted >= 0.3 * 100 * lasted


async def test_a_halted_server_holds_nobody_beyond_their_deadline(
    stack: AsyncExitStack, own_redis: EmbeddedRedis
) -> None:
    limiter = create_limiter(1_000, 10, redis_url=url(own_redis))
    await stack.enter_async_context(limiter)
    assert await granted(limiter)
    own_redis.pause()
    try:
        served, slowest, until = 0, 0.0, time.monotonic() + 20
        while served < 100 and time.monotonic() < until:
            began = time.monotonic()
            served += await granted(limiter, timeout=0.1)
            slowest = max(slowest, time.monotonic() - began)
    finally:
        own_redis.resume()

    assert served == 100
    # A halted server that is waited for would take half a second, and ever again.
    assert slowest < 5


async def call(
    breakers: Breakers, *, fails: bool, tenant: str = "acme", dependency: str = "provider"
) -> None:
    async with breakers.guard(dependency, tenant_id=tenant):
        if fails:
            raise ProviderError("The provider is down.", retryable=True)


async def refused(breakers: Breakers, *, fails: bool = False) -> bool:
    try:
        await call(breakers, fails=fails)
    except CircuitOpenError:
        return True
    except ProviderError:
        pass
    return False


async def two_breakers(
    stack: AsyncExitStack, server: EmbeddedRedis, policy: BreakerPolicy
) -> list[Breakers]:
    name = uuid4().hex
    return [
        await stack.enter_async_context(create_breakers(policy, name=name, redis_url=url(server)))
        for _ in range(2)
    ]


async def test_what_one_instance_learns_all_know(
    stack: AsyncExitStack, embedded_redis: EmbeddedRedis
) -> None:
    policy = BreakerPolicy(minimum_calls=10, pause=60)
    first, second = await two_breakers(stack, embedded_redis, policy)
    for _ in range(10):
        await refused(first, fails=True)
    assert await refused(first)

    async with asyncio.timeout(10):
        while not await refused(second):  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.02)


async def test_failures_of_several_instances_add_up(
    stack: AsyncExitStack, embedded_redis: EmbeddedRedis
) -> None:
    first, second = await two_breakers(
        stack, embedded_redis, BreakerPolicy(minimum_calls=10, pause=60)
    )
    for _ in range(6):
        await refused(first, fails=True)
        await refused(second, fails=True)

    async with asyncio.timeout(10):
        while not (await refused(first) and await refused(second)):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.02)


async def test_instances_share_their_probes_and_the_good_news(
    stack: AsyncExitStack, embedded_redis: EmbeddedRedis
) -> None:
    both = await two_breakers(stack, embedded_redis, BreakerPolicy(minimum_calls=4, pause=0.3))
    for _ in range(8):
        for breakers in both:
            await refused(breakers, fails=True)

    async with asyncio.timeout(20):
        while any([await refused(breakers) for breakers in both]):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.02)


async def test_breakers_work_alone_while_the_server_is_dead(
    stack: AsyncExitStack, own_redis: EmbeddedRedis
) -> None:
    await own_redis.kill()
    breakers = create_breakers(BreakerPolicy(minimum_calls=5, pause=60), redis_url=url(own_redis))
    await stack.enter_async_context(breakers)

    outcomes = [await refused(breakers, fails=True) for _ in range(20)]

    assert outcomes == [False] * 5 + [True] * 15


async def test_a_budget_is_shared_and_stands_alone_without_the_server(
    stack: AsyncExitStack, own_redis: EmbeddedRedis
) -> None:
    budgets = [
        await stack.enter_async_context(create_retry_budget(reserve=6, redis_url=url(own_redis)))
        for _ in range(2)
    ]
    taken = [await budget.withdraw(tenant_id="acme") for budget in budgets * 6]
    await own_redis.kill()
    alone = [await budgets[0].withdraw(tenant_id="globex") for _ in range(12)]

    assert sum(taken) == 6
    assert sum(alone) == 6


async def test_cancelled_calls_leave_neither_tokens_nor_answers_behind(
    stack: AsyncExitStack, embedded_redis: EmbeddedRedis
) -> None:
    limiter = create_limiter(3_000, 100, name=uuid4().hex, redis_url=url(embedded_redis))
    await stack.enter_async_context(limiter)
    began = time.monotonic()
    calls = [
        asyncio.create_task(granted(limiter, tenant=f"tenant-{number % 4}", timeout=30))
        for number in range(2_000)
    ]
    for number, one in enumerate(calls):
        if number % 50 == 0:
            await asyncio.sleep(0)
        if number % 2:
            one.cancel()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)

    done = [outcome for outcome in outcomes if outcome is True]
    assert len(done) >= 1_000
    # Two tenants' calls were cancelled; the other two had 500 calls each to wait for.
    assert time.monotonic() - began < 20


def test_an_address_that_is_none_is_refused_without_repeating_it() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        create_limiter(1, 1, redis_url="http://:s3cret@host")

    assert "s3cret" not in str(refusal.value)


def test_without_the_driver_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "redis.asyncio", None)

    with pytest.raises(MissingExtraError, match=r"motadata-core\[redis\]"):
        create_breakers(redis_url="redis://localhost")
