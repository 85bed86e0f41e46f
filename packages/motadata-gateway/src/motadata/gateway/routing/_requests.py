"""One request to one model: admitted, timed, and its outcome learnt from."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Final, Generic

from motadata.core.errors import (
    CircuitOpenError,
    ConfigurationError,
    ProviderError,
    RateLimitError,
    SDKError,
    ValidationError,
)
from motadata.core.protocols.resilience import Breakers
from motadata.core.tenancy import TenantId
from motadata.gateway._call import Call, Proceed, Request, Result
from motadata.gateway._charges import may_be_charged
from motadata.gateway._provider import Provider
from motadata.gateway.routing._health import Admission, FleetHealth
from motadata.gateway.routing._relay import DivergedError, Relay


_ASKED_TO_WAIT: Final = 1.0
"""Seconds to wait when a provider asks to wait and does not say how long."""
_NEGLIGIBLE: Final = 0.002
"""Seconds; a call whose time is shorter by less goes on as it is."""
_REFUSED: Final = 5.0
"""Seconds for which a model is asked last after it refused for good: a key, a name, a right."""
_MAKES_REST: Final = (ProviderError, ConfigurationError)


def speaks_against(error: BaseException) -> bool:
    """Tell whether an error says that the model or its provider is unwell."""
    if isinstance(error, RateLimitError | ValidationError | DivergedError):
        return False
    return error.retryable if isinstance(error, SDKError) else True


class Asking(Generic[Request, Result]):
    """Sends one call's requests.

    Attributes:
        ready_in: By model, in how many seconds it may be asked again, where that is known.
        sent: Models to which a request went.
        requests: How many went out.
        forced: The model that is asked although it is left alone, if any.
    """

    def __init__(
        self,
        call: Call[Request],
        proceed: Proceed[Request, Result],
        *,
        tenant: TenantId,
        health: FleetHealth,
        breakers: Breakers,
        with_model: Callable[[Request, str], Request],
    ) -> None:
        self._call = call
        self._proceed = proceed
        self._tenant = tenant
        self._health = health
        self._breakers = breakers
        self._with_model = with_model
        self.ready_in: dict[str, float] = {}
        self.sent: set[str] = set()
        self.requests = 0
        self.forced: str | None = None

    async def ask(
        self, call: Call[Request], model: str, seconds: float, relay: Relay | None
    ) -> Result:
        """Send a request; what it raises has been learnt from.

        Args:
            call: The call; its notes are those of this request.
            model: Who is asked.
            seconds: For the answer; of a streamed one, for the first part that its reader gets.
            relay: Takes the parts of a streamed answer.

        Raises:
            SDKError: What the provider raised, or that it is left alone for now.
        """
        health, tenant = self._health, self._tenant
        provider = call.routes.provider(model)
        waits = health.waits(tenant, model)
        if waits:
            self.ready_in[model] = waits
            message = f"The provider of {model!r} asked to wait."
            remedy = f"Try again in {waits:.1f} s."
            raise RateLimitError(message, retry_after=waits, remedy=remedy, tenant_id=tenant)
        forced = model == self.forced
        admissions = [] if forced else health.admit(tenant, provider.name, model)
        if not isinstance(admissions, list):
            self.ready_in[model] = admissions
            message = f"{model!r} failed too often and is left alone."
            raise CircuitOpenError(message, remedy=f"Try again in {admissions:.1f} s.")
        hop = self._hop(call, model, provider, seconds, relay)
        before = call.notes.attempts
        started = health.now()
        began = time.monotonic()
        vitals = health.vitals(model)
        vitals.busy += 1
        try:
            async with nullcontext() if forced else self._breakers.guard(model, tenant_id=tenant):
                if relay is None:
                    answer = await self._proceed(hop)
                else:
                    answer = await _begun_in_time(self._proceed, hop, relay, seconds)
        except SDKError as error:
            if call.notes.attempts > before:
                self.sent.add(model)
                self.requests += 1
                call.notes.lost += may_be_charged(error)
            self._learn(error, provider.name, model, admissions, started)
            raise
        except BaseException:
            health.abandoned(admissions)
            raise
        finally:
            vitals.busy -= 1
        vitals.took(time.monotonic() - began)
        if forced:
            health.revived(provider.name)
        health.succeeded(tenant, provider.name, model, admissions)
        return answer

    def _hop(
        self,
        call: Call[Request],
        model: str,
        provider: Provider,
        seconds: float,
        relay: Relay | None,
    ) -> Call[Request]:
        request = self._with_model(call.request, model)
        if relay is not None:
            return replace(call, request=request, provider=provider, emit=relay)
        if request is call.request and call.timeout - seconds < _NEGLIGIBLE:
            return call
        return replace(call, request=request, provider=provider, timeout=seconds)

    def _learn(
        self,
        error: SDKError,
        provider: str,
        model: str,
        admissions: list[Admission],
        started: float,
    ) -> None:
        health, tenant = self._health, self._tenant
        wait = getattr(error, "retry_after", None)
        if isinstance(error, CircuitOpenError):
            wait = _ASKED_TO_WAIT
        elif isinstance(error, RateLimitError):
            wait = _ASKED_TO_WAIT if wait is None else wait
            if model in self.sent:
                health.asked_to_wait(tenant, model, wait)
        if wait is not None:
            self.ready_in[model] = wait
        if isinstance(error, CircuitOpenError) or not speaks_against(error):
            health.abandoned(admissions)
            if isinstance(error, _MAKES_REST) and not isinstance(error, DivergedError):
                health.rest(tenant, model, _REFUSED)
        else:
            health.failed(tenant, provider, model, admissions, began=started)


async def _begun_in_time(
    proceed: Proceed[Request, Result], hop: Call[Request], relay: Relay, seconds: float
) -> Result:
    """Limit the wait until the reader gets something; each later part has a limit of its own."""
    relay.begin()
    timer = asyncio.timeout(seconds)
    try:
        async with timer:
            relay.timer = timer
            return await proceed(hop)
    except TimeoutError as error:
        if not timer.expired():
            raise
        message = f"{hop.provider.name!r} did not begin its answer within {seconds:.3g} s."
        raise ProviderError(message, remedy="Try again.", retryable=True) from error
    finally:
        relay.timer = None
