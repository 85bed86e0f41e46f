"""Calls wait their turn: limits of tenants in front of routing, limits of keys behind it.

A call takes what it may use before it is sent, by an estimate, and settles afterwards. So calls
that run at the same time exceed a limit by no more than their estimates were wrong.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from motadata.core.errors import ConfigurationError, RateLimitError
from motadata.core.models import Completion, Embeddings
from motadata.core.resilience import remaining
from motadata.core.tenancy import TenantId, resolve_tenant
from motadata.gateway._call import Call, Proceed, Request
from motadata.gateway._charges import may_be_charged
from motadata.gateway._estimates import USUAL, Estimator
from motadata.gateway._rates import Meter, Rate, Sharing
from motadata.gateway._requests import ChatRequest, EmbeddingRequest


if TYPE_CHECKING:
    from motadata.gateway._keys import KeySource


_MOST_PLANS: Final = 1_000
_WAITED: Final = 0.001
"""Seconds; a shorter wait leaves a call's time limit as it is."""


class _Turns:
    """What limits of both kinds do: wait, pass the call on, settle.

    Attributes:
        counts_lost: Whether requests whose answers were lost on the way count as well.
    """

    counts_lost = False

    def __init__(self, estimator: Estimator | None, longest_wait: float) -> None:
        if not longest_wait > 0:
            message = f"longest_wait={longest_wait!r} is no number of seconds."
            raise ConfigurationError(message, remedy="Give a positive number.")
        self._estimator = estimator or USUAL
        self._longest_wait = longest_wait
        self._made: list[Meter] = []

    async def chat(
        self, call: Call[ChatRequest], proceed: Proceed[ChatRequest, Completion]
    ) -> Completion:
        """Wait for the turn, then pass the conversation on.

        Raises:
            RateLimitError: The turn would come too late; `retry_after` says when it would.
        """
        tenant = resolve_tenant(call.tenant_id)
        meters = await self._meters(call.provider.name, call.request.model, tenant)
        if not meters:
            return await proceed(call)
        expected = self._estimator.of(call)
        tokens = expected.input_tokens + expected.output_tokens
        call = await self._turn(call, meters, tokens, tenant)
        before = call.notes.attempts
        try:
            answer = await proceed(call)
        except BaseException as error:
            sent = call.notes.attempts > before
            if self.counts_lost and call.notes.lost:
                _settle(meters, (call.notes.lost - 1) * tokens, tenant)
            elif not sent or not may_be_charged(error):
                _settle(meters, -tokens, tenant)
            raise
        used = self._estimator.used(answer, call.notes.spent, expected)
        lost = call.notes.lost * tokens if self.counts_lost else 0
        _settle(meters, used.input_tokens + used.output_tokens + lost - tokens, tenant)
        return answer

    async def embedding(
        self, call: Call[EmbeddingRequest], proceed: Proceed[EmbeddingRequest, Embeddings]
    ) -> Embeddings:
        """Wait for the turn, then pass the texts on.

        Raises:
            RateLimitError: The turn would come too late; `retry_after` says when it would.
        """
        tenant = resolve_tenant(call.tenant_id)
        meters = await self._meters(call.provider.name, call.request.model, tenant)
        if not meters:
            return await proceed(call)
        expected = self._estimator.embedding(call.request)
        tokens = expected.input_tokens
        call = await self._turn(call, meters, tokens, tenant)
        try:
            result = await proceed(call)
        except BaseException as error:
            if not may_be_charged(error):
                _settle(meters, -tokens, tenant)
            raise
        used = self._estimator.used(result, None, expected)
        _settle(meters, used.input_tokens - tokens, tenant)
        return result

    async def _meters(self, provider: str, model: str, tenant: TenantId) -> tuple[Meter, ...]:
        """Return what the call must pass."""
        raise NotImplementedError

    async def _turn(
        self, call: Call[Request], meters: tuple[Meter, ...], tokens: float, tenant: TenantId
    ) -> Call[Request]:
        """Wait for every meter, and return the call with the time that is left."""
        began = time.monotonic()
        end = began + (remaining(min(call.timeout, self._longest_wait)) or 0.0)
        taken: list[Meter] = []
        try:
            for meter in meters:
                await meter.take(tokens, end=end, tenant=tenant)
                taken.append(meter)
            if remaining() == 0.0:
                message = "The call's turn came when its time was over."
                raise RateLimitError(message, remedy="Try again.", tenant_id=tenant)  # noqa: TRY301 - what it took goes back
        except BaseException:
            for meter in taken:
                meter.give_back(tokens, tenant=tenant)
            raise
        waited = time.monotonic() - began
        if waited < _WAITED or call.emit is not None:
            return call
        return replace(call, timeout=max(_WAITED, call.timeout - waited))

    async def __aenter__(self) -> Self:
        """Nothing to open: limits are made and servers reached by the first call."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Cancel the calls that still wait, and leave the server."""
        for meter in self._made:
            await meter.__aexit__(kind, error, traceback)


class Limits(_Turns):
    """Limits what each tenant may use, in all and of single models; its calls wait in its own line.

        Limits(Rate(requests=600, tokens=200_000))
        Limits(lambda tenant: GOLD if tenant in gold else STANDARD, sharing=shared)

    Args:
        tenants: What each tenant may use, or what says so for each tenant; None for no limit. A
            tenant whose rate changes begins with a full allowance of the new one.
        models: What each tenant may use of a model, by the name that calls ask for.
        longest_wait: Seconds that a call waits at most; its own time limit when that is shorter.
        estimator: Estimates what calls will use.
        sharing: Where the limits are kept; as it is, in this process.

    Raises:
        ConfigurationError: A number is not positive.
    """

    counts_lost = True

    def __init__(
        self,
        tenants: Rate | Callable[[TenantId], Rate | None] | None = None,
        *,
        models: Mapping[str, Rate] | None = None,
        longest_wait: float = 30.0,
        estimator: Estimator | None = None,
        sharing: Sharing | None = None,
    ) -> None:
        super().__init__(estimator, longest_wait)
        self._sharing = sharing or Sharing()
        self._rate_of = tenants if callable(tenants) else None
        self._everybodys = self._meter(tenants, "tenant") if isinstance(tenants, Rate) else None
        self._plans: dict[Rate, Meter] = {}
        self._models = {
            model: self._meter(rate, f"model {model}") for model, rate in (models or {}).items()
        }

    async def _meters(self, provider: str, model: str, tenant: TenantId) -> tuple[Meter, ...]:  # noqa: ARG002 - limits of keys look at it
        of_model = self._models.get(model)
        of_tenant = self._everybodys if self._rate_of is None else self._plan(self._rate_of(tenant))
        if of_tenant is None:
            return () if of_model is None else (of_model,)
        return (of_tenant,) if of_model is None else (of_tenant, of_model)

    def _plan(self, rate: Rate | None) -> Meter | None:
        """Return what tenants of a rate must pass; None for those without."""
        meter = None if rate is None else self._plans.get(rate)
        if meter is None and rate is not None:
            if len(self._plans) >= _MOST_PLANS:
                message = f"There are more than {_MOST_PLANS} different rates of tenants."
                raise ConfigurationError(message, remedy="Give tenants of one plan equal rates.")
            meter = self._plans[rate] = self._meter(rate, "tenant")
        return meter

    def _meter(self, rate: Rate, name: str) -> Meter:
        meter = Meter(rate, name, scope="tenant", sharing=self._sharing)
        self._made.append(meter)
        return meter


class ProviderLimits(_Turns):
    """Limits what goes to a provider with one key; tenants get fair parts of it.

    It stands behind routing, so it sees each request, retries and fallbacks included, and routing
    takes another provider when a key's turn would come too late.

    Args:
        keys: What may be sent, by provider (`openai`) or full name of a model; all tenants share
            it. A tenant with a key of its own has as much to itself.
        own_keys: Knows which tenants brought keys of their own.
        longest_wait: Seconds that a request waits at most.
        estimator: Estimates what calls will use.
        sharing: Where the limits are kept; as it is, in this process.

    Raises:
        ConfigurationError: A number is not positive.
    """

    def __init__(
        self,
        keys: Mapping[str, Rate],
        *,
        own_keys: KeySource | None = None,
        longest_wait: float = 10.0,
        estimator: Estimator | None = None,
        sharing: Sharing | None = None,
    ) -> None:
        super().__init__(estimator, longest_wait)
        sharing = sharing or Sharing()
        self._own_keys = own_keys
        self._shared = {
            name: Meter(rate, f"key {name}", scope="total", sharing=sharing)
            for name, rate in keys.items()
        }
        self._own = {
            name: Meter(rate, f"own key {name}", scope="tenant", sharing=sharing)
            for name, rate in keys.items()
        }
        self._made = [*self._shared.values(), *self._own.values()]

    async def _meters(self, provider: str, model: str, tenant: TenantId) -> tuple[Meter, ...]:
        if provider not in self._shared and model not in self._shared:
            return ()
        own = (
            self._own_keys is not None
            and await self._own_keys.api_key(provider, tenant) is not None
        )
        meters = self._own if own else self._shared
        return tuple(meters[name] for name in (provider, model) if name in meters)


def _settle(meters: tuple[Meter, ...], difference: float, tenant: TenantId) -> None:
    for meter in meters:
        meter.settle(difference, tenant=tenant)
