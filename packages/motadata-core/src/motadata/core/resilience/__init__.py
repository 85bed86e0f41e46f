"""Guards around a call: deadlines, retries, circuit breakers, rate limits, bulkheads."""

from motadata.core.resilience.breaker import BreakerPolicy, CircuitBreaker, CircuitBreakers
from motadata.core.resilience.concurrency import AdaptiveLimit, Bulkhead
from motadata.core.resilience.deadline import deadline_scope, remaining, time_limit
from motadata.core.resilience.limiter import FairLimiter, RateLimiter, TenantLimiter, TokenBucket
from motadata.core.resilience.retry import RetryBudget, RetryPolicy, retry


__all__ = [
    "AdaptiveLimit",
    "BreakerPolicy",
    "Bulkhead",
    "CircuitBreaker",
    "CircuitBreakers",
    "FairLimiter",
    "RateLimiter",
    "RetryBudget",
    "RetryPolicy",
    "TenantLimiter",
    "TokenBucket",
    "deadline_scope",
    "remaining",
    "retry",
    "time_limit",
]
