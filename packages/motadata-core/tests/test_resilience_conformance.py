from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from uuid import uuid4

import pytest

from motadata.core.embedded import EmbeddedRedis, EmbeddedRedisCluster
from motadata.core.protocols import Breakers, RateLimiter, RetryBudget
from motadata.core.resilience import (
    BreakerPolicy,
    create_breakers,
    create_limiter,
    create_retry_budget,
)
from motadata.core.testing.resilience import (
    BreakersConformance,
    MakeBreakers,
    MakeBudget,
    MakeLimiter,
    RateLimiterConformance,
    RetryBudgetConformance,
)


@pytest.fixture(params=["process", "redis", "cluster"])
def redis_url(request: pytest.FixtureRequest) -> str | None:
    """The server that instances share, or None for one process alone."""
    if request.param == "process":
        return None
    name = "embedded_redis" if request.param == "redis" else "embedded_redis_cluster"
    server: EmbeddedRedis | EmbeddedRedisCluster = request.getfixturevalue(name)
    return server.url.get_secret_value()


class TestLimiters(RateLimiterConformance):
    @pytest.fixture
    async def make_limiter(self, redis_url: str | None) -> AsyncIterator[MakeLimiter]:
        async with AsyncExitStack() as stack:

            async def make(rate: float, burst: float) -> RateLimiter:
                made = create_limiter(rate, burst, name=uuid4().hex, redis_url=redis_url)
                return await stack.enter_async_context(made)

            yield make


class TestBreakers(BreakersConformance):
    @pytest.fixture
    async def make_breakers(self, redis_url: str | None) -> AsyncIterator[MakeBreakers]:
        async with AsyncExitStack() as stack:

            async def make(policy: BreakerPolicy) -> Breakers:
                made = create_breakers(policy, redis_url=redis_url, name=uuid4().hex)
                return await stack.enter_async_context(made)

            yield make


class TestRetryBudgets(RetryBudgetConformance):
    @pytest.fixture
    async def make_budget(self, redis_url: str | None) -> AsyncIterator[MakeBudget]:
        async with AsyncExitStack() as stack:

            async def make(ratio: float, reserve: float) -> RetryBudget:
                made = create_retry_budget(
                    name=uuid4().hex, ratio=ratio, reserve=reserve, redis_url=redis_url
                )
                return await stack.enter_async_context(made)

            yield make
