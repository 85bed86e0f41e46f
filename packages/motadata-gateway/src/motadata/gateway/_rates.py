"""How much may go through in a minute, and the two limiters that see to it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from hashlib import blake2b
from types import TracebackType
from typing import Final, Literal, Self

from motadata.core.clock import SYSTEM_CLOCK, Clock
from motadata.core.errors import ConfigurationError
from motadata.core.protocols.resilience import RateLimiter
from motadata.core.resilience import create_limiter
from motadata.core.tenancy import TenantId


_MINUTE: Final = 60.0
_BURST: Final = 1 / 6
"""The part of a minute's allowance that may be used at once when nothing else is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How much may go through.

    Attributes:
        requests: A minute; None does not limit them.
        tokens: A minute, of prompts and answers together; None does not limit them.
        request_burst: At once, after a time without calls; None means a sixth of the minute's.
        token_burst: Likewise. A single call that needs more waits until as much is there, and those
            after it wait for the rest.

    Raises:
        ConfigurationError: A number is not positive, or a burst is that of nothing.
    """

    requests: float | None = None
    tokens: float | None = None
    request_burst: float | None = None
    token_burst: float | None = None

    def __post_init__(self) -> None:
        """Refuse what limits nothing, or everything."""
        for unit, rate, burst in (
            ("requests", self.requests, self.request_burst),
            ("tokens", self.tokens, self.token_burst),
        ):
            if any(number is not None and not number > 0 for number in (rate, burst)):
                message = f"{rate!r} {unit} a minute with a burst of {burst!r} is no rate."
                raise ConfigurationError(message, remedy="Give positive numbers.")
            if rate is None and burst is not None:
                message = f"There is a burst of {burst!r} {unit}, and no number of {unit} a minute."
                raise ConfigurationError(message, remedy="Give both, or neither.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """Where limits are kept.

    Attributes:
        redis_url: The server that instances share; None limits this process alone.
        expected_instances: Each grants this part of a rate before the server was ever reached.
        max_waiting: How many calls may wait, of each tenant or at each shared key.
        max_tenants: How many tenants' allowances are kept here.
        clock: What the time is.
    """

    redis_url: str | None = field(default=None, repr=False)
    expected_instances: int = 1
    max_waiting: int = 10_000
    max_tenants: int = 100_000
    clock: Clock = SYSTEM_CLOCK


class Meter:
    """One rate: of each tenant for itself, or of all together with fair parts.

    Args:
        rate: How much.
        name: What is limited; instances that use one name share it.
        scope: Whose it is.
        sharing: Where it is kept.
    """

    __slots__ = ("_requests", "_token_burst", "_tokens")

    def __init__(
        self, rate: Rate, name: str, *, scope: Literal["tenant", "total"], sharing: Sharing
    ) -> None:
        def limiter(unit: str, minute: float, burst: float) -> RateLimiter:
            digest = blake2b(name.encode(), digest_size=12).hexdigest()
            return create_limiter(
                minute / _MINUTE,
                burst,
                name=f"llm-{unit}-{digest}",
                scope=scope,
                max_waiting=sharing.max_waiting,
                max_tenants=sharing.max_tenants,
                redis_url=sharing.redis_url,
                expected_instances=sharing.expected_instances,
                clock=sharing.clock,
            )

        self._requests: RateLimiter | None = None
        self._tokens: RateLimiter | None = None
        self._token_burst = 0.0
        if rate.requests is not None:
            burst = rate.request_burst or max(1.0, rate.requests * _BURST)
            self._requests = limiter("requests", rate.requests, burst)
        if rate.tokens is not None:
            self._token_burst = rate.token_burst or max(1.0, rate.tokens * _BURST)
            self._tokens = limiter("tokens", rate.tokens, self._token_burst)

    async def take(self, tokens: float, *, end: float, tenant: TenantId) -> None:
        """Take one request and so many tokens, or nothing.

        Args:
            tokens: How many, by estimate.
            end: The reading of `time.monotonic` by which it must be.
            tenant: Whose call it is.

        Raises:
            RateLimitError: It would take longer.
        """
        requests, limiter = self._requests, self._tokens
        if requests is not None:
            await requests.acquire(timeout=max(0.0, end - time.monotonic()), tenant_id=tenant)
        if limiter is None or tokens <= 0:
            return
        at_once = min(tokens, self._token_burst)
        try:
            timeout = max(0.0, end - time.monotonic())
            await limiter.acquire(cost=at_once, timeout=timeout, tenant_id=tenant)
        except BaseException:
            if requests is not None:
                requests.settle(-1.0, tenant_id=tenant)
            raise
        if tokens > at_once:
            limiter.settle(tokens - at_once, tenant_id=tenant)

    def settle(self, difference: float, *, tenant: TenantId) -> None:
        """Correct the estimate of the tokens."""
        if self._tokens is not None and difference:
            self._tokens.settle(difference, tenant_id=tenant)

    def give_back(self, tokens: float, *, tenant: TenantId) -> None:
        """Undo `take`: nothing was sent."""
        if self._requests is not None:
            self._requests.settle(-1.0, tenant_id=tenant)
        self.settle(-tokens, tenant=tenant)

    async def __aenter__(self) -> Self:
        """Nothing to open."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Cancel the calls that still wait."""
        for limiter in (self._requests, self._tokens):
            if limiter is not None:
                await limiter.__aexit__(kind, error, traceback)
