"""The way of one call: whom it asks, in which order, and when it gives up."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Generic

from motadata.core.errors import (
    CircuitOpenError,
    ConfigurationError,
    ContentPolicyError,
    ContextLengthError,
    DeadlineExceededError,
    OverloadError,
    ProviderError,
    RateLimitError,
    SDKError,
)
from motadata.core.observability import counter, get_logger
from motadata.core.protocols.resilience import RetryBudget
from motadata.core.resilience import RetryPolicy
from motadata.core.tenancy import TenantId
from motadata.gateway._call import Call, Request, Result
from motadata.gateway.routing._hedge import first_answer
from motadata.gateway.routing._policy import Route, Target, as_targets
from motadata.gateway.routing._relay import Relay
from motadata.gateway.routing._requests import Asking


_PASSABLE: Final = (
    ProviderError,
    RateLimitError,
    CircuitOpenError,
    OverloadError,
    DeadlineExceededError,
    # A key that is refused, or a model that its provider does not know.
    ConfigurationError,
)
"""Errors of one model that say nothing about the others."""
_LEAST: Final = 0.001
_SHORTEST_IDLE: Final = 0.05

_log = get_logger("gateway")
_fallbacks = counter(
    "motadata.gateway.fallbacks",
    unit="{call}",
    description="Calls that another model answered than the one that was asked first.",
)
_retries = counter(
    "motadata.gateway.retries", unit="{call}", description="Rounds of asking models once more."
)


@dataclass(slots=True)
class Journey(Generic[Request, Result]):
    """What one call has tried and may still try.

    Attributes:
        call: The call as it came.
        asking: Sends its requests.
        route: Where it may go.
        targets: Whom it asks now, in their order.
        tenant: Whose it is.
        deadline: The reading of `time.monotonic` at which its time is over.
        retry: How often and how patiently models are asked again.
        budget: What retries may add to the load of a provider.
        wait: Waits between two rounds.
        chance: Draws from [0, 1).
        relay: Takes the parts of a streamed answer.
    """

    call: Call[Request]
    asking: Asking[Request, Result]
    route: Route
    targets: list[Target]
    tenant: TenantId
    deadline: float
    retry: RetryPolicy
    budget: Callable[[str], RetryBudget]
    wait: Callable[[float], Awaitable[None]]
    chance: Callable[[], float]
    relay: Relay | None = None
    _pending: deque[Target] = field(default_factory=deque)
    _failed: dict[str, SDKError] = field(default_factory=dict)
    _error: SDKError | None = None
    _round: int = 0
    _requests: int = 0
    _switched: set[type[SDKError]] = field(default_factory=set)

    async def run(self) -> tuple[Result, str]:
        """Return the answer, and the full name of the model that gave it.

        Raises:
            SDKError: The last error that says what was wrong, once nobody is left to ask.
        """
        self._pending.extend(self.targets)
        if self.route.hedge_after is not None and len(self.targets) > 1 and self.relay is None:
            hedged = await self._hedged(self.route.hedge_after)
            if hedged is not None:
                return hedged
        return await self._onwards()

    async def go_on(self, error: SDKError) -> tuple[Result, str]:
        """Go on after the only model was asked in vain; see `run`."""
        self._note(self.targets[0].model, error)
        return await self._onwards()

    async def _onwards(self) -> tuple[Result, str]:
        while True:
            if not self._pending:
                await self._next_round()
            target = self._pending.popleft()
            seconds = self._seconds(target)
            if seconds <= _LEAST:
                raise self._given_up()
            try:
                answer = await self.asking.ask(self.call, target.model, seconds, self.relay)
            except SDKError as error:
                self._note(target.model, error)
            else:
                return answer, target.model

    async def _hedged(self, after: float) -> tuple[Result, str] | None:
        first, second = self._pending.popleft(), self._pending.popleft()
        outcome = await first_answer(
            self.call,
            lambda call, target: self.asking.ask(call, target.model, self._seconds(target), None),
            (first, second),
            after=after,
        )
        if isinstance(outcome, tuple):
            answer, target = outcome
            return answer, target.model
        for target, error in outcome.items():
            self._note(target.model, error)
        if second not in outcome:
            self._pending.appendleft(second)
        return None

    def _note(self, model: str, error: SDKError) -> None:
        """Keep an error, and decide who is asked instead.

        Raises:
            SDKError: The error itself, when it is one of the request, not of the model.
        """
        self._failed[model] = error
        for kind, others in (
            (ContextLengthError, self.route.longer),
            (ContentPolicyError, self.route.policy),
        ):
            if isinstance(error, kind):
                if kind in self._switched or not others:
                    raise error
                self._switched.add(kind)
                self.targets = list(as_targets(others))
                self._pending = deque(self.targets)
                self._error, self._round = error, 0
                return
        if not isinstance(error, _PASSABLE):
            raise error
        if self._error is None or not isinstance(error, CircuitOpenError):
            self._error = error
        # What is set up wrongly stays so until somebody mends it.
        log = _log.warning if isinstance(error, ConfigurationError) else _log.info
        log(
            "model_failed", model=model, code=error.code, left=len(self._pending), round=self._round
        )

    async def _next_round(self) -> None:
        """Wait, and ask those again for whom that makes sense.

        Raises:
            SDKError: Nobody is left, the time is short, or the budget for retries is spent.
        """
        again = [item for item in self.targets if self._may_help(item.model)]
        # A round in which nobody was asked, since a provider had asked to wait, was none.
        asked = self.asking.requests > self._requests
        self._requests = self.asking.requests
        invited = any(isinstance(self._failed.get(t.model), RateLimitError) for t in again)
        self._round += asked or not invited
        if not asked and await self._forces(again):
            return
        if not again or self._round >= self.retry.attempts:
            raise self._given_up()
        ready = self.asking.ready_in
        soonest = min(ready.get(target.model, 0.0) for target in again)
        backoff = self.retry.wait(max(0, self._round - 1), chance=self.chance())
        pause = soonest + (backoff if asked else max(backoff, _SHORTEST_IDLE))
        if time.monotonic() + pause >= self._until():
            raise self._given_up()
        again = [item for item in again if ready.get(item.model, 0.0) <= pause]
        for target in again:
            invited = isinstance(self._failed.get(target.model), RateLimitError)
            if target.model in self.asking.sent and not invited:
                provider = target.model.partition("/")[0]
                if not await self.budget(provider).withdraw(tenant_id=self.tenant):
                    raise self._given_up()
                break
        _retries.add(1, tenant_id=self.tenant)
        await self.wait(pause)
        ready.clear()
        self._pending.extend(again)

    async def _forces(self, again: list[Target]) -> bool:
        """Ask one model although all are left alone, as far as the budget for retries allows.

        All at once may have looked unwell because of something between us and them.
        """
        closed = [t for t in again if isinstance(self._failed.get(t.model), CircuitOpenError)]
        if len(self.targets) == 1 or not closed or self.asking.forced is not None:
            return False
        target = min(closed, key=lambda item: self.asking.ready_in.get(item.model, 0.0))
        budget = self.budget(target.model.partition("/")[0])
        if not await budget.withdraw(tenant_id=self.tenant):
            return False
        self.asking.forced = target.model
        self._pending.append(target)
        return True

    def _may_help(self, model: str) -> bool:
        error = self._failed.get(model)
        return error is None or error.retryable

    def _until(self) -> float:
        """Return when the time is over: of a stream, the time for its next part."""
        if self.relay is None or not self.relay.said:
            return self.deadline
        return self.relay.heard + self.call.timeout

    def _seconds(self, target: Target) -> float:
        return target.seconds(self._until() - time.monotonic(), others=bool(self._pending))

    def _given_up(self) -> SDKError:
        if self._error is not None:
            return self._error
        message = f"The model {self.targets[0].model!r} did not answer in time."
        return ProviderError(message, remedy="Try again, or raise `timeout`.", retryable=True)


def count_fallback(tenant: TenantId) -> None:
    """Count a call that was answered by another model than the first one asked."""
    _fallbacks.add(1, tenant_id=tenant)
