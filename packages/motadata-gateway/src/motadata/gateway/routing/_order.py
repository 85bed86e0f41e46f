"""In which order the models of a route are asked."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Final

from motadata.core.tenancy import TenantId
from motadata.gateway._call import Call, CallNotes
from motadata.gateway._estimates import Estimator
from motadata.gateway._requests import ChatRequest, EmbeddingRequest
from motadata.gateway.routing._health import FleetHealth
from motadata.gateway.routing._policy import Route, Target, as_targets


_CURIOUS: Final = 0.05
"""Part of the calls that ask another than the fastest first, lest it never learns who is fast."""
_UNPRICED: Final = Decimal("Infinity")


class Ordering:
    """Orders targets, those that fail lately last.

    Args:
        health: How models fare.
        estimator: Estimates what a call uses, for its price.
        chance: Draws from [0, 1).
    """

    def __init__(
        self, health: FleetHealth, estimator: Estimator, chance: Callable[[], float]
    ) -> None:
        self._health = health
        self._estimator = estimator
        self._chance = chance

    def ordered(
        self, route: Route, call: Call[ChatRequest] | Call[EmbeddingRequest], tenant: TenantId
    ) -> list[Target]:
        """Return the targets in the order in which this call asks them."""
        targets = list(as_targets(route.targets))
        if len(targets) == 1:
            return targets
        if route.order == "weighted":
            # Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006.
            targets.sort(key=lambda target: math.log(1.0 - self._chance()) / target.weight)
            targets.reverse()
        elif route.order == "least_busy":
            targets.sort(key=lambda item: self._health.vitals(item.model).busy / item.weight)
        elif route.order == "cheapest":
            prices = {target.model: self._price(target.model, call) for target in targets}
            targets.sort(key=lambda target: prices[target.model])
        elif route.order == "fastest":
            # Who never answered is asked first: it may be the fastest.
            targets.sort(key=lambda item: self._health.vitals(item.model).seconds or 0.0)
            if self._chance() < _CURIOUS:
                targets.append(targets.pop(0))
        targets.sort(key=lambda target: self._health.rests(tenant, target.model))
        return targets

    def _price(self, model: str, call: Call[ChatRequest] | Call[EmbeddingRequest]) -> Decimal:
        if call.price is None:
            return _UNPRICED
        request = call.request
        if isinstance(request, ChatRequest):
            usage = self._estimator.chat(request)
        else:
            usage = self._estimator.embedding(request)
        cost = call.price(CallNotes(model=model), usage).cost_usd
        return _UNPRICED if cost is None else cost
