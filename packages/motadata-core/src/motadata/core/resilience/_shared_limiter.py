"""Rate limits that instances share through a server."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from motadata.core.resilience._limiter import FairLimiter
from motadata.core.resilience._redis import SharedServer
from motadata.core.resilience._tenant_limiter import TenantLimiter


class SharedLimiter:
    """A limiter whose tokens come from a server; made by `create_limiter`."""

    def __init__(self, limiter: FairLimiter | TenantLimiter, *, server: SharedServer) -> None:
        self._limiter = limiter
        self._server = server

    @property
    def server_calls(self) -> int:
        """How often the server was asked so far."""
        return self._server.calls

    async def acquire(
        self, *, cost: float = 1.0, timeout: float | None = None, tenant_id: str | None = None
    ) -> None:
        """See `RateLimiter.acquire`."""
        await self._limiter.acquire(cost=cost, timeout=timeout, tenant_id=tenant_id)

    def settle(self, difference: float, *, tenant_id: str | None = None) -> None:
        """See `RateLimiter.settle`."""
        self._limiter.settle(difference, tenant_id=tenant_id)

    async def __aenter__(self) -> Self:
        """Nothing to open: the server is reached at the first call."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Cancel the calls that still wait, and leave the server."""
        await self._limiter.__aexit__(kind, error, traceback)
        await self._server.close()
