"""The contracts of the guards as tests: subclass and give the fixture that makes one.

    class TestMine(RateLimiterConformance):
        @pytest.fixture
        async def make_limiter(self) -> AsyncIterator[MakeLimiter]:
            async with AsyncExitStack() as stack:
                yield lambda rate, burst: stack.enter_async_context(mine(rate, burst))

Each guard that is made must be new: nobody has used its tokens, its window or its retries. The
tests use the tenants `acme` and `globex`. They run on real time, since a server's cannot be moved;
none depends on how fast the machine is, as long as a hundred calls take less than 20 s.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from motadata.core.errors import (
    CircuitOpenError,
    ConfigurationError,
    ProviderError,
    RateLimitError,
    TenantRequiredError,
)
from motadata.core.protocols import Breakers, RateLimiter, RetryBudget
from motadata.core.resilience import BreakerPolicy, deadline_scope, reserve
from motadata.core.tenancy import tenant_scope


MakeLimiter = Callable[[float, float], Awaitable[RateLimiter]]
"""Make an entered limiter from a rate a second of each tenant, and a burst."""

MakeBreakers = Callable[[BreakerPolicy], Awaitable[Breakers]]
"""Make entered breakers from a policy."""

MakeBudget = Callable[[float, float], Awaitable[RetryBudget]]
"""Make an entered budget from its ratio and its reserve."""

_PATIENCE = 20.0
_SLOW = 0.05  # tokens a second: none comes while a test runs


async def _granted(limiter: RateLimiter, calls: int, *, tenant: str = "acme") -> int:
    """Return how many of some calls that cannot wait are let through."""
    count = 0
    for _ in range(calls):
        try:
            await limiter.acquire(timeout=0, tenant_id=tenant)
        except RateLimitError:
            continue
        count += 1
    return count


class RateLimiterConformance:
    """What every implementation of `motadata.core.protocols.RateLimiter` must do."""

    @pytest.fixture
    def make_limiter(self) -> MakeLimiter:
        """Supply what makes the implementation."""
        message = "A subclass supplies the fixture `make_limiter`."
        raise NotImplementedError(message)

    async def test_burst_is_granted_at_once_and_no_more(self, make_limiter: MakeLimiter) -> None:
        limiter = await make_limiter(_SLOW, 10)

        assert await _granted(limiter, 20) == 10

    async def test_refusal_says_when_to_try_again(self, make_limiter: MakeLimiter) -> None:
        limiter = await make_limiter(_SLOW, 1)
        await limiter.acquire(tenant_id="acme")

        with pytest.raises(RateLimitError) as refused:
            await limiter.acquire(timeout=0, tenant_id="acme")

        assert refused.value.retry_after is not None
        assert refused.value.retry_after > 0
        assert refused.value.retryable
        assert refused.value.tenant_id == "acme"

    async def test_waiters_are_served_in_their_order(self, make_limiter: MakeLimiter) -> None:
        limiter = await make_limiter(40, 1)
        served: list[int] = []

        async def call(number: int) -> None:
            await limiter.acquire(timeout=_PATIENCE, tenant_id="acme")
            served.append(number)

        began = time.monotonic()
        await asyncio.gather(*(call(number) for number in range(9)))

        assert served == list(range(9))
        assert time.monotonic() - began >= 8 / 40 * 0.95

    async def test_tenants_do_not_share_tokens(self, make_limiter: MakeLimiter) -> None:
        limiter = await make_limiter(_SLOW, 5)
        await _granted(limiter, 10)

        assert await _granted(limiter, 10, tenant="globex") == 5

    async def test_late_answer_is_refused_at_once(self, make_limiter: MakeLimiter) -> None:
        limiter = await make_limiter(_SLOW, 1)
        await limiter.acquire(tenant_id="acme")
        began = time.monotonic()

        with deadline_scope(10.0), pytest.raises(RateLimitError):
            await limiter.acquire(tenant_id="acme")

        assert time.monotonic() - began < 5

    async def test_cost_takes_as_many_tokens(self, make_limiter: MakeLimiter) -> None:
        limiter = await make_limiter(_SLOW, 10)

        await limiter.acquire(cost=7, tenant_id="acme")

        assert await _granted(limiter, 10) == 3

    async def test_more_than_the_burst_never_passes(self, make_limiter: MakeLimiter) -> None:
        limiter = await make_limiter(1, 5)

        with pytest.raises(RateLimitError, match="never pass"):
            await limiter.acquire(cost=6, tenant_id="acme")

    @pytest.mark.parametrize("cost", [0, -1, float("nan"), float("inf")])
    async def test_cost_that_is_none_is_refused(
        self, make_limiter: MakeLimiter, cost: float
    ) -> None:
        limiter = await make_limiter(1, 5)

        with pytest.raises(ConfigurationError):
            await limiter.acquire(cost=cost, tenant_id="acme")

    async def test_settling_gives_back_what_was_not_used(self, make_limiter: MakeLimiter) -> None:
        limiter = await make_limiter(_SLOW, 10)

        async with reserve(limiter, 10, tenant_id="acme") as reservation:
            reservation.settle(4)

        assert await _granted(limiter, 20) == 6

    async def test_settling_a_debt_makes_later_calls_wait(self, make_limiter: MakeLimiter) -> None:
        limiter = await make_limiter(_SLOW, 10)

        async with reserve(limiter, 2, tenant_id="acme") as reservation:
            reservation.settle(10)

        assert await _granted(limiter, 5) == 0

    async def test_cancelled_call_takes_nothing(self, make_limiter: MakeLimiter) -> None:
        limiter = await make_limiter(20, 1)
        await limiter.acquire(tenant_id="acme")
        waiting = [
            asyncio.create_task(limiter.acquire(timeout=_PATIENCE, tenant_id="acme"))
            for _ in range(100)
        ]
        await asyncio.sleep(0)
        last = asyncio.create_task(limiter.acquire(timeout=_PATIENCE, tenant_id="acme"))
        await asyncio.sleep(0)

        for call in waiting:
            call.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

        # 100 tokens would take 5 s.
        async with asyncio.timeout(3):
            await last

    async def test_tenant_comes_from_the_scope(self, make_limiter: MakeLimiter) -> None:
        limiter = await make_limiter(_SLOW, 1)
        with tenant_scope("acme"):
            await limiter.acquire()

        assert await _granted(limiter, 1, tenant="acme") == 0
        assert await _granted(limiter, 1, tenant="globex") == 1

    async def test_nothing_is_granted_without_a_tenant(self, make_limiter: MakeLimiter) -> None:
        limiter = await make_limiter(1, 1)

        with pytest.raises(TenantRequiredError):
            await limiter.acquire()
        with pytest.raises(TenantRequiredError):
            limiter.settle(1)


class BreakersConformance:
    """What every implementation of `motadata.core.protocols.Breakers` must do."""

    policy = BreakerPolicy(minimum_calls=5, pause=0.3, longest_pause=0.6)

    @pytest.fixture
    def make_breakers(self) -> MakeBreakers:
        """Supply what makes the implementation."""
        message = "A subclass supplies the fixture `make_breakers`."
        raise NotImplementedError(message)

    async def test_failures_open_it_and_calls_are_refused(
        self, make_breakers: MakeBreakers
    ) -> None:
        breakers = await make_breakers(BreakerPolicy(minimum_calls=5, pause=60))

        ran = sum([await _call(breakers, fails=True) for _ in range(20)])

        assert ran == 5
        with pytest.raises(CircuitOpenError, match="Try again in"):
            async with breakers.guard("provider", tenant_id="acme"):
                pytest.fail("The block of a refused call ran.")

    async def test_successes_keep_it_closed(self, make_breakers: MakeBreakers) -> None:
        breakers = await make_breakers(self.policy)

        ran = sum([await _call(breakers, fails=number % 3 == 0) for number in range(60)])

        assert ran == 60

    async def test_tenants_and_dependencies_stand_apart(self, make_breakers: MakeBreakers) -> None:
        breakers = await make_breakers(BreakerPolicy(minimum_calls=5, pause=60))
        for _ in range(10):
            await _call(breakers, fails=True)

        assert await _call(breakers, fails=False, tenant="globex")
        assert await _call(breakers, fails=False, dependency="another")
        assert not await _call(breakers, fails=False)

    async def test_probe_closes_it_when_the_dependency_is_back(
        self, make_breakers: MakeBreakers
    ) -> None:
        breakers = await make_breakers(self.policy)
        for _ in range(10):
            await _call(breakers, fails=True)

        async with asyncio.timeout(_PATIENCE):
            while not await _call(breakers, fails=False):  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.02)
            for _ in range(20):
                while not await _call(breakers, fails=False):  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.02)

    async def test_probes_are_few_while_it_fails(self, make_breakers: MakeBreakers) -> None:
        breakers = await make_breakers(self.policy)
        for _ in range(10):
            await _call(breakers, fails=True)
        began, ran = time.monotonic(), 0

        while time.monotonic() - began < 1.0:
            ran += await _call(breakers, fails=True)
            await asyncio.sleep(0.005)

        # At 0.3 s and 0.9 s; a slow machine sees one more.
        assert 1 <= ran <= 3

    async def test_mistakes_of_the_caller_do_not_count(self, make_breakers: MakeBreakers) -> None:
        breakers = await make_breakers(self.policy)
        for _ in range(50):
            with pytest.raises(ProviderError):
                async with breakers.guard("provider", tenant_id="acme"):
                    raise ProviderError("No such model.", retryable=False)

        assert await _call(breakers, fails=False)

    async def test_cancelled_call_says_nothing(self, make_breakers: MakeBreakers) -> None:
        breakers = await make_breakers(self.policy)

        async def hang() -> None:
            async with breakers.guard("provider", tenant_id="acme"):
                await asyncio.Event().wait()

        calls = [asyncio.create_task(hang()) for _ in range(20)]
        await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

        assert await _call(breakers, fails=False)

    async def test_nothing_runs_without_a_tenant(self, make_breakers: MakeBreakers) -> None:
        breakers = await make_breakers(self.policy)

        with pytest.raises(TenantRequiredError):
            async with breakers.guard("provider"):
                pytest.fail("The block ran for nobody.")


class RetryBudgetConformance:
    """What every implementation of `motadata.core.protocols.RetryBudget` must do."""

    @pytest.fixture
    def make_budget(self) -> MakeBudget:
        """Supply what makes the implementation."""
        message = "A subclass supplies the fixture `make_budget`."
        raise NotImplementedError(message)

    async def test_reserve_is_all_there_is_without_calls(self, make_budget: MakeBudget) -> None:
        budget = await make_budget(0.1, 5)

        assert await _withdrawn(budget, 20) == 5

    async def test_calls_earn_their_part_of_retries(self, make_budget: MakeBudget) -> None:
        budget = await make_budget(0.1, 5)

        retries = 0
        for calls in range(1, 301):
            budget.deposit(tenant_id="acme")
            retries += await budget.withdraw(tenant_id="acme")
            assert retries <= max(5, calls * 0.1 + 1e-6)

        assert 29 <= retries <= 30

    async def test_what_was_advanced_is_earned_first(self, make_budget: MakeBudget) -> None:
        budget = await make_budget(0.1, 5)
        await _withdrawn(budget, 20)
        for _ in range(50):
            budget.deposit(tenant_id="acme")

        assert await _withdrawn(budget, 5) == 0
        for _ in range(11):
            budget.deposit(tenant_id="acme")
        assert await _withdrawn(budget, 5) == 1

    async def test_calls_that_succeed_earn_the_reserve(self, make_budget: MakeBudget) -> None:
        budget = await make_budget(0.1, 5)
        for _ in range(200):
            budget.deposit(tenant_id="acme")

        assert await _withdrawn(budget, 20) == 5
        for _ in range(11):
            budget.deposit(tenant_id="acme")
        assert await _withdrawn(budget, 20) == 1

    async def test_no_more_than_the_reserve_is_kept(self, make_budget: MakeBudget) -> None:
        budget = await make_budget(0.5, 5)
        for _ in range(100):
            budget.deposit(tenant_id="acme")

        assert await _withdrawn(budget, 20) == 5

    async def test_tenants_do_not_share_retries(self, make_budget: MakeBudget) -> None:
        budget = await make_budget(0.1, 5)
        await _withdrawn(budget, 20)

        assert await _withdrawn(budget, 20, tenant="globex") == 5

    async def test_no_retry_without_a_tenant(self, make_budget: MakeBudget) -> None:
        budget = await make_budget(0.1, 5)

        with pytest.raises(TenantRequiredError):
            budget.deposit()
        with pytest.raises(TenantRequiredError):
            await budget.withdraw()


async def _call(
    breakers: Breakers, *, fails: bool, dependency: str = "provider", tenant: str = "acme"
) -> bool:
    """Make one call and return whether it ran."""
    try:
        async with breakers.guard(dependency, tenant_id=tenant):
            _provider(fails=fails)
    except CircuitOpenError:
        return False
    except ProviderError:
        pass
    return True


def _provider(*, fails: bool) -> None:
    if fails:
        raise ProviderError("The provider is down.", retryable=True)


async def _withdrawn(budget: RetryBudget, calls: int, *, tenant: str = "acme") -> int:
    return sum([await budget.withdraw(tenant_id=tenant) for _ in range(calls)])
