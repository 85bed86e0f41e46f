"""What a call may cost and did cost, by the prices that it carries."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from motadata.core.errors import ConfigurationError, SDKError
from motadata.core.models import Usage
from motadata.gateway._call import Call, CallNotes, Request
from motadata.gateway._routing import OFFLINE


_FREE: Final = Decimal(0)


def expected_cost(call: Call[Request], expected: Usage) -> Decimal:
    """Return what the dearest model that may answer would charge.

    Raises:
        ConfigurationError: A model has no price, or there are no prices at all.
        DatabaseError: A model has none but perhaps the tenant's own, which could not be read.
    """
    model: str = call.request.model  # type: ignore[attr-defined]  # both kinds of requests have one
    return max(_price(call, name, expected) for name in call.routes.answering(model))


def cost_of(call: Call[Request], usage: Usage, *, otherwise: Decimal) -> Decimal:
    """Return what a call did cost: what was charged, or else what was expected."""
    if usage.cost_usd is not None:
        return usage.cost_usd
    if call.notes.model.startswith(f"{OFFLINE}/"):
        return _FREE
    if call.price is None or not call.notes.model:
        return otherwise
    cost = call.price(CallNotes(model=call.notes.model), usage).cost_usd
    return otherwise if cost is None else cost


def _price(call: Call[Request], model: str, usage: Usage) -> Decimal:
    if call.routes.provider(model).name == OFFLINE:
        return _FREE
    if call.price is None:
        message = "There is a budget of money, and nothing knows what models cost."
        raise ConfigurationError(message, remedy="Give the gateway's Governance `prices`, too.")
    cost = call.price(CallNotes(model=model), usage).cost_usd
    if cost is None:
        unread = getattr(call.price, "unread", None)
        if isinstance(unread, SDKError):
            # The same error for several calls: it must not collect the frames of each.
            raise unread.with_traceback(None)
        message = f"There is a budget of money, and the model {model!r} has no price."
        raise ConfigurationError(message, remedy="Set a price for it, or ask another model.")
    return cost
