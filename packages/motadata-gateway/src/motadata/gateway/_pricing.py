"""What budgets and routing need to know about prices."""

from __future__ import annotations

from decimal import Decimal
from typing import Protocol

from motadata.core.models import Usage


class Pricing(Protocol):
    """Knows what models cost, as `motadata.gateway.usage.PriceTable` does.

    It answers from memory, since each call asks it.
    """

    def cost(self, model: str, usage: Usage) -> Decimal | None:
        """Return the price in US dollars of what a call used; None for a model without a price.

        Args:
            model: Full name, `provider/model`.
            usage: What was used; its own `cost_usd` is not looked at.
        """
        ...
