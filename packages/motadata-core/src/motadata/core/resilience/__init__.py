"""Guards around a call: deadlines, retries, circuit breakers, rate limits, bulkheads.

    limiter = create_limiter(rate=50, burst=10)                          # in this process, or …
    limiter = create_limiter(rate=50, burst=10, redis_url="redis://…")   # shared by all instances
    async with limiter, breakers.guard("provider"):
        await limiter.acquire()

The contracts of what instances may share are in `motadata.core.protocols.resilience`.
"""

from motadata.core.resilience._adaptive import AdaptiveLimit
from motadata.core.resilience._alarms import Alarms
from motadata.core.resilience._breaker import BreakerPolicy, CircuitBreaker
from motadata.core.resilience._breakers import CircuitBreakers
from motadata.core.resilience._bulkhead import Bulkhead
from motadata.core.resilience._deadline import (
    check_deadline,
    context_without_deadline,
    deadline_scope,
    remaining,
    time_limit,
)
from motadata.core.resilience._ends import SharedDeadline
from motadata.core.resilience._factories import (
    create_breakers,
    create_limiter,
    create_retry_budget,
)
from motadata.core.resilience._limiter import FairLimiter
from motadata.core.resilience._reservation import Reservation, reserve
from motadata.core.resilience._retry import RetryPolicy, retry
from motadata.core.resilience._retry_budget import LocalRetryBudget
from motadata.core.resilience._shared_breakers import SharedBreakers
from motadata.core.resilience._shared_limiter import SharedLimiter
from motadata.core.resilience._shared_retry_budget import SharedRetryBudget
from motadata.core.resilience._tenant_limiter import TenantLimiter
from motadata.core.resilience._timeouts import block_timeout
from motadata.core.resilience._token_bucket import TokenBucket


__all__ = [
    "AdaptiveLimit",
    "Alarms",
    "BreakerPolicy",
    "Bulkhead",
    "CircuitBreaker",
    "CircuitBreakers",
    "FairLimiter",
    "LocalRetryBudget",
    "Reservation",
    "RetryPolicy",
    "SharedBreakers",
    "SharedDeadline",
    "SharedLimiter",
    "SharedRetryBudget",
    "TenantLimiter",
    "TokenBucket",
    "block_timeout",
    "check_deadline",
    "context_without_deadline",
    "create_breakers",
    "create_limiter",
    "create_retry_budget",
    "deadline_scope",
    "remaining",
    "reserve",
    "retry",
    "time_limit",
]
