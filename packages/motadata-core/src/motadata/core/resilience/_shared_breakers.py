"""Circuit breakers that instances share: what one learns about a dependency, all know.

Each instance keeps breakers of its own, by which it refuses when its own calls fail, and which are
all there is while the server is away. Beside them the server counts the outcomes of all instances.
An instance tells it of failures at once and of the rest every half a second while it calls, and is
told whether the shared breaker is open; neither makes a call wait. Only a probe asks first, so that
all instances together send no more probes than one would.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Final, Literal, Self

from motadata.core.clock import SYSTEM_CLOCK, Clock
from motadata.core.resilience._breaker import BreakerPolicy, CircuitBreaker
from motadata.core.resilience._breakers import CircuitBreakers, refusal, says_retryable
from motadata.core.resilience._key import breaker_key
from motadata.core.resilience._redis import ServerAwayError, SharedServer
from motadata.core.resilience._scripts import PROBE, RECORD
from motadata.core.tenancy import Identifier, TenantId, resolve_tenant


Outcome = Literal["closed", "open", "none"]

_REFRESH: Final = 0.5
"""Seconds after which what the server said is asked for again."""

_PROBE_LIFE: Final = 60.0
"""Seconds after which a probe that nobody heard of again no longer keeps others from probing."""


class View:
    """What an instance knows of one shared breaker, and what it has not told it yet."""

    __slots__ = ("calls", "failures", "key", "openings", "reporting", "told", "until")

    def __init__(self, key: str) -> None:
        self.key = key
        self.openings = 0
        self.until = 0.0
        self.told = float("-inf")
        self.calls = 0
        self.failures = 0
        self.reporting = False


class SharedBreakers:
    """Breakers by tenant and dependency that all instances share; made by `create_breakers`."""

    def __init__(
        self,
        name: str,
        policy: BreakerPolicy | None = None,
        *,
        server: SharedServer,
        max_size: int = 100_000,
        counts_as_failure: Callable[[BaseException], bool] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._name = Identifier(name)
        self._policy = policy or BreakerPolicy()
        self._server = server
        self._max_size = max_size
        self._is_failure = counts_as_failure or says_retryable
        self._clock = clock
        self._own = CircuitBreakers(self._policy, max_size=max_size, clock=clock)
        self._views: OrderedDict[tuple[TenantId, str], View] = OrderedDict()

    def guard(
        self, dependency: str, *, tenant_id: str | None = None
    ) -> AbstractAsyncContextManager[None]:
        """See `Breakers.guard`."""
        return _SharedGuard(self, dependency, resolve_tenant(tenant_id))

    async def __aenter__(self) -> Self:
        """Nothing to open: the server is reached at the first call."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Tell the server what is left to tell, and leave it."""
        await self._server.close()

    def own(self, dependency: str, tenant: TenantId) -> tuple[CircuitBreaker, View]:
        """Return this instance's breaker, and what it knows of the shared one."""
        key = (tenant, dependency)
        view = self._views.get(key)
        if view is None:
            view = self._views[key] = View(breaker_key(tenant, self._name, dependency))
            if len(self._views) > self._max_size:
                self._views.popitem(last=False)
        else:
            self._views.move_to_end(key)
        return self._own.breaker(dependency, tenant_id=tenant), view

    async def admit(self, view: View, dependency: str) -> int:
        """Return the number of the probe that a call may be, or 0 for a call as any other.

        Raises:
            CircuitOpenError: The shared breaker is open.
        """
        now = self._clock.now()
        if not view.openings:
            if now - view.told > _REFRESH:
                self._report(view)
            return 0
        if now < view.until:
            raise refusal(dependency, view.until - now)
        try:
            probe, wait = await self._server.run(
                PROBE, view.key, self._policy.probes, _PROBE_LIFE * 1000
            )
        except ServerAwayError:
            return 0
        if probe < 0:
            view.until = self._clock.now() + wait / 1000
            raise refusal(dependency, wait / 1000)
        if not probe:
            view.openings = 0
        return int(probe)

    def record(self, view: View, probe: int, outcome: Outcome) -> None:
        """Take note of how a call ended."""
        if probe:
            work = self._tell(view, probe=probe, outcome=outcome)
            self._server.spawn(work, name="motadata-breaker-probe")
        elif outcome != "none":
            view.calls += 1
            view.failures += outcome == "open"
            if outcome == "open":
                self._report(view)

    def failed(self, error: BaseException) -> bool:
        """Tell whether an error speaks against the dependency."""
        return self._is_failure(error)

    def _report(self, view: View) -> None:
        if not view.reporting and self._server.worth_asking:
            view.reporting = True
            self._server.spawn(self._report_all(view), name="motadata-breaker-report")

    async def _report_all(self, view: View) -> None:
        """Tell the server what there is to tell, and of failures that come meanwhile."""
        try:
            await self._tell(view)
            while view.failures and self._server.worth_asking:
                await self._tell(view)
        finally:
            view.reporting = False

    async def _tell(self, view: View, *, probe: int = 0, outcome: Outcome = "none") -> None:
        policy = self._policy
        calls, failures = view.calls, view.failures
        if not probe:
            view.calls = view.failures = 0
        try:
            openings, left = await self._server.run(
                RECORD,
                view.key,
                *(policy.window * 1000, policy.minimum_calls, policy.failure_ratio),
                *(policy.pause * 1000, policy.longest_pause * 1000),
                *(calls, failures, probe, outcome),
            )
        except ServerAwayError:
            # What it was to be told is lost to the others; this instance has counted it.
            return
        view.told = self._clock.now()
        view.openings, view.until = int(openings), view.told + left / 1000


class _SharedGuard:
    """One call through one breaker of this instance and the shared one."""

    __slots__ = ("_admission", "_breaker", "_breakers", "_dependency", "_probe", "_view")

    def __init__(self, breakers: SharedBreakers, dependency: str, tenant: TenantId) -> None:
        self._breakers = breakers
        self._dependency = dependency
        self._breaker, self._view = breakers.own(dependency, tenant)
        self._admission = self._probe = 0

    async def __aenter__(self) -> None:
        """Let the call through or refuse it."""
        admission = self._breaker.admit()
        if admission is None:
            raise refusal(self._dependency, self._breaker.retry_after)
        try:
            self._probe = await self._breakers.admit(self._view, self._dependency)
        except BaseException:
            self._breaker.abandon(admission)
            raise
        self._admission = admission

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Learn from the outcome."""
        if error is not None and not isinstance(error, Exception):
            self._breaker.abandon(self._admission)
            self._breakers.record(self._view, self._probe, "none")
            return
        failed = error is not None and self._breakers.failed(error)
        self._breaker.record(self._admission, failed=failed)
        self._breakers.record(self._view, self._probe, "open" if failed else "closed")
