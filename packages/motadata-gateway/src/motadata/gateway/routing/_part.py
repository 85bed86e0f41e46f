"""The part of the gateway that chooses who answers."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from hashlib import blake2b
from types import TracebackType
from typing import Final, Self

from motadata.core.clock import SYSTEM_CLOCK, Clock
from motadata.core.errors import ConfigurationError, SDKError
from motadata.core.models import Completion, Embeddings
from motadata.core.protocols.resilience import RetryBudget
from motadata.core.resilience import (
    BreakerPolicy,
    RetryPolicy,
    create_breakers,
    create_retry_budget,
    remaining,
)
from motadata.core.tenancy import resolve_tenant
from motadata.gateway._call import Call, Proceed, Request, Result
from motadata.gateway._estimates import USUAL, Estimator
from motadata.gateway._requests import ChatRequest, EmbeddingRequest
from motadata.gateway.routing._health import FleetHealth
from motadata.gateway.routing._journey import Journey, count_fallback
from motadata.gateway.routing._order import Ordering
from motadata.gateway.routing._policy import Route, Target
from motadata.gateway.routing._relay import Relay
from motadata.gateway.routing._requests import Asking, speaks_against


_DEFAULT_RETRY: Final = RetryPolicy(attempts=3, base=0.2, cap=5.0)
_DEFAULT_BREAKER: Final = BreakerPolicy(minimum_calls=20, failure_ratio=0.6)
_MOST_BREAKERS: Final = 20_000
_MOST_ALONE: Final = 1_000


class Routing:
    """Asks the models that may answer a call until one does, within the call's time.

        routing = Routing({"chat": Route(("openai/gpt-4o", "anthropic/claude-sonnet-4"))})
        gateway = create_gateway(…, governance=Governance(routing=routing))
        answer = await gateway.generate_async("Hello", model="chat", tenant_id="acme")

    When a model fails the next one is asked at once; when all have failed they are asked again,
    after the wait that their providers ask for, as long as the call's time and the budget for
    retries last. Models that fail for a tenant again and again are left alone by that tenant for a
    while, and a provider that fails for several tenants by all.

    A streamed answer that breaks off is continued by another model if that one says exactly the
    same up to there; else the stream ends with a `ProviderError`.

    Args:
        routes: What names stand for. A name is one of your own (`chat`), or the full name of a
            model, whose route should begin with itself. Other models are a route of their own. Give
            texts to embed no route with different models: their vectors do not compare.
        retry: How often in all, and how patiently, the models of a route are asked.
        breaker: When a tenant leaves a model alone, beside failures in a row.
        retry_ratio: Retries that calls of a provider may add to it, as a part of the calls.
        redis_url: The server by which instances share breakers and budgets; None shares nothing.
        estimator: Estimates what calls use, for the order `cheapest`.
        clock: What the time of breakers is.
        chance: Draws from [0, 1).

    Raises:
        ConfigurationError: A setting is out of range.
    """

    def __init__(
        self,
        routes: Mapping[str, Route] | None = None,
        *,
        retry: RetryPolicy = _DEFAULT_RETRY,
        breaker: BreakerPolicy = _DEFAULT_BREAKER,
        retry_ratio: float = 0.1,
        redis_url: str | None = None,
        estimator: Estimator | None = None,
        clock: Clock = SYSTEM_CLOCK,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._routes = dict(routes or {})
        if not all(self._routes):
            message = "A route has no name."
            raise ConfigurationError(message, remedy="Name it, as in {'chat': Route(…)}.")
        self._retry = retry
        self._retry_ratio = retry_ratio
        self._redis_url = redis_url
        self._clock = clock
        self._chance = chance
        self._health = FleetHealth(clock)
        self._order = Ordering(self._health, estimator or USUAL, chance)
        self._breakers = create_breakers(
            breaker,
            name="llm",
            max_size=_MOST_BREAKERS,
            counts_as_failure=speaks_against,
            redis_url=redis_url,
            clock=clock,
        )
        self._budgets: dict[str, RetryBudget] = {}
        self._alone: dict[str, Route] = {}

    @property
    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """The full names of the models that may answer, by what is asked."""
        return {name: route.models for name, route in self._routes.items()}

    def chat(
        self, call: Call[ChatRequest], proceed: Proceed[ChatRequest, Completion]
    ) -> Awaitable[Completion]:
        """Have a conversation continued by whoever can.

        Raises:
            SDKError: Nobody could; the last error that says why.
        """
        relay = Relay(call.emit) if call.emit is not None else None
        return self._travel(call, proceed, _with_chat_model, relay)

    def embedding(
        self, call: Call[EmbeddingRequest], proceed: Proceed[EmbeddingRequest, Embeddings]
    ) -> Awaitable[Embeddings]:
        """Have texts embedded by whoever can.

        Raises:
            SDKError: Nobody could; the last error that says why.
        """
        return self._travel(call, proceed, _with_embedding_model, None)

    async def _travel(
        self,
        call: Call[Request],
        proceed: Proceed[Request, Result],
        with_model: Callable[[Request, str], Request],
        relay: Relay | None,
    ) -> Result:
        """Return the answer; one of another model than the first one says so."""
        tenant = resolve_tenant(call.tenant_id)
        asked = call.request.model  # type: ignore[attr-defined]  # both kinds of requests have one
        route = self._routes.get(asked)
        if route is None:
            route = self._alone.get(asked) or self._route_to(asked)
        targets = self._order.ordered(route, call, tenant)  # type: ignore[arg-type]  # both kinds
        left = remaining(call.timeout)
        seconds = call.timeout if left is None else left
        deadline = time.monotonic() + seconds
        asking = Asking(
            call,
            proceed,
            tenant=tenant,
            health=self._health,
            breakers=self._breakers,
            with_model=with_model,
        )
        first = targets[0]
        self._budget(first.model.partition("/")[0]).deposit(tenant_id=tenant)
        error: SDKError | None = None
        if len(targets) == 1 and relay is None:
            # Most calls ask one model once.
            try:
                allowed = first.seconds(seconds, others=False)
                return await asking.ask(call, first.model, allowed, None)
            except SDKError as failure:
                error = failure
        journey = Journey(
            call=call,
            asking=asking,
            route=route,
            targets=targets,
            tenant=tenant,
            deadline=deadline,
            retry=self._retry,
            budget=self._budget,
            wait=self._clock.sleep,
            chance=self._chance,
            relay=relay,
        )
        answer, model = await (journey.run() if error is None else journey.go_on(error))
        if model == first.model:
            return answer
        call.notes.fallback_from = first.model
        count_fallback(tenant)
        if isinstance(answer, Completion):
            return replace(answer, fallback_from=first.model)
        return answer

    def _route_to(self, model: str) -> Route:
        """Return the route of a model that has none: itself."""
        if len(self._alone) >= _MOST_ALONE:
            self._alone.clear()
        route = self._alone[model] = Route((Target(model=model),))
        return route

    def _budget(self, provider: str) -> RetryBudget:
        """Return the budget of a provider; only providers that the gateway has come here."""
        budget = self._budgets.get(provider)
        if budget is None:
            digest = blake2b(provider.encode(), digest_size=12).hexdigest()
            budget = self._budgets[provider] = create_retry_budget(
                name=f"llm-{digest}", ratio=self._retry_ratio, redis_url=self._redis_url
            )
        return budget

    async def __aenter__(self) -> Self:
        """Nothing to open: servers are reached by the first call."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the server."""
        await self._breakers.__aexit__(kind, error, traceback)
        for budget in self._budgets.values():
            await budget.__aexit__(kind, error, traceback)


def _with_chat_model(request: ChatRequest, model: str) -> ChatRequest:
    return request if request.model == model else replace(request, model=model)


def _with_embedding_model(request: EmbeddingRequest, model: str) -> EmbeddingRequest:
    return request if request.model == model else replace(request, model=model)
