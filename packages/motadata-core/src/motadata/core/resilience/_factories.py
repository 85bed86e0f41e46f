"""Make guards: in this process alone, or shared by all instances through a server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from motadata.core.clock import SYSTEM_CLOCK, Clock
from motadata.core.protocols.resilience import Breakers, RateLimiter, RetryBudget
from motadata.core.resilience._breaker import BreakerPolicy
from motadata.core.resilience._breakers import CircuitBreakers
from motadata.core.resilience._key import limit_key, total_limit_key
from motadata.core.resilience._leased_bucket import LeasedBucket
from motadata.core.resilience._limiter import FairLimiter
from motadata.core.resilience._redis import SharedServer
from motadata.core.resilience._retry_budget import LocalRetryBudget
from motadata.core.resilience._shared_breakers import SharedBreakers
from motadata.core.resilience._shared_limiter import SharedLimiter
from motadata.core.resilience._shared_retry_budget import SharedRetryBudget
from motadata.core.resilience._tenant_limiter import TenantLimiter
from motadata.core.tenancy import Identifier


def create_limiter(
    rate: float,
    burst: float,
    *,
    name: str = "default",
    scope: Literal["tenant", "total"] = "tenant",
    max_waiting: int = 1_000,
    max_tenants: int = 100_000,
    redis_url: str | None = None,
    expected_instances: int = 1,
    clock: Clock = SYSTEM_CLOCK,
) -> RateLimiter:
    """Make a rate limit.

    Args:
        rate: Tokens a second, of all instances together.
        burst: Tokens at once, of all instances together.
        name: What is limited; instances that use one name share one limit.
        scope: Each tenant has the rate to itself (`tenant`), or all share it fairly (`total`).
        max_waiting: How many calls may wait here, of each tenant or in all.
        max_tenants: How many tenants' buckets are kept here.
        redis_url: The server that instances share; None limits this process alone.
        expected_instances: Each grants this part of the rate before the server was ever reached.
        clock: What the time is.

    Raises:
        ConfigurationError: A number is not positive, or the address is none.
        InvalidIdentifierError: The name breaks the grammar of identifiers.
        MissingExtraError: An address was given, and `redis` is not installed.
    """
    limiter = Identifier(name)
    if redis_url is None:
        if scope == "total":
            return FairLimiter(rate, burst, max_waiting=max_waiting, clock=clock)
        return TenantLimiter(
            rate, burst, max_tenants=max_tenants, max_waiting=max_waiting, clock=clock
        )
    server = SharedServer(redis_url, expected_instances=expected_instances, clock=clock)

    def bucket(key: str) -> LeasedBucket:
        return LeasedBucket(rate, burst, key=key, server=server, clock=clock)

    if scope == "total":
        shared = FairLimiter.over(bucket(total_limit_key(limiter)), max_waiting=max_waiting)
        return SharedLimiter(shared, server=server)
    bucket("")  # says at once what is wrong with the numbers
    tenants = TenantLimiter.over(
        lambda tenant: bucket(limit_key(tenant, limiter)),
        max_tenants=max_tenants,
        max_waiting=max_waiting,
    )
    return SharedLimiter(tenants, server=server)


def create_breakers(
    policy: BreakerPolicy | None = None,
    *,
    name: str = "default",
    max_size: int = 100_000,
    counts_as_failure: Callable[[BaseException], bool] | None = None,
    redis_url: str | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> Breakers:
    """Make circuit breakers.

    Args:
        policy: When to open and how to come back.
        name: Instances that use one name share their breakers.
        max_size: How many breakers are kept here.
        counts_as_failure: Whether an error speaks against the dependency; see `CircuitBreakers`.
        redis_url: The server that instances share; None keeps them to this process.
        clock: What the time is.

    Raises:
        ConfigurationError: The size is no positive number, or the address is none.
        InvalidIdentifierError: The name breaks the grammar of identifiers.
        MissingExtraError: An address was given, and `redis` is not installed.
    """
    group = Identifier(name)
    if redis_url is None:
        return CircuitBreakers(
            policy, max_size=max_size, counts_as_failure=counts_as_failure, clock=clock
        )
    return SharedBreakers(
        group,
        policy,
        server=SharedServer(redis_url, clock=clock),
        max_size=max_size,
        counts_as_failure=counts_as_failure,
        clock=clock,
    )


def create_retry_budget(
    *,
    name: str = "default",
    ratio: float = 0.1,
    reserve: float = 10.0,
    total_reserve: float = 100.0,
    max_tenants: int = 100_000,
    redis_url: str | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> RetryBudget:
    """Make a retry budget; instances that use one server and one `name` share it.

    See `LocalRetryBudget` for the numbers; the reserve of all tenants is each instance's own.

    Raises:
        ConfigurationError: A number is not positive, or the address is none.
        InvalidIdentifierError: The name breaks the grammar of identifiers.
        MissingExtraError: An address was given, and `redis` is not installed.
    """
    budget = Identifier(name)
    if redis_url is None:
        return LocalRetryBudget(
            ratio=ratio, reserve=reserve, total_reserve=total_reserve, max_tenants=max_tenants
        )
    return SharedRetryBudget(
        budget,
        ratio=ratio,
        reserve=reserve,
        total_reserve=total_reserve,
        max_tenants=max_tenants,
        server=SharedServer(redis_url, clock=clock),
        clock=clock,
    )
