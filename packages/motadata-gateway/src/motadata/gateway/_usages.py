"""Usages added up and split: what requests cost together, and each one's share of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final

from motadata.core.models import Usage


NOTHING_PAID: Final = Usage(cost_usd=Decimal(0))
_FINEST: Final = Decimal("1e-12")


def total(usages: Iterable[Usage | None]) -> Usage | None:
    """Return the sum of those that are known; None when none is.

    The cost of the sum is unknown when one of theirs is.
    """
    known = [usage for usage in usages if usage is not None]
    if len(known) < 2:  # noqa: PLR2004 - nothing to add
        return known[0] if known else None
    cost: Decimal | None = Decimal(0)
    for usage in known:
        cost = None if cost is None or usage.cost_usd is None else cost + usage.cost_usd
    return Usage(
        sum(usage.input_tokens for usage in known),
        sum(usage.output_tokens for usage in known),
        cost,
        sum(usage.cached_input_tokens for usage in known),
        sum(usage.cache_write_tokens for usage in known),
        sum(usage.reasoning_tokens for usage in known),
        sum(usage.web_searches for usage in known),
        sum(usage.long_cache_write_tokens for usage in known),
    )


def split(usage: Usage, weights: Sequence[int]) -> list[Usage]:
    """Return shares of a usage in proportion to weights, that add up to it exactly.

    Each share is the difference of two neighbouring partial sums, so that nothing is lost to
    rounding.
    """
    if len(weights) == 1:
        return [usage]
    whole = sum(weights)
    shares = []
    passed, tokens_before, cost_before = 0, 0, Decimal(0)
    for weight in weights:
        passed += weight
        tokens = usage.input_tokens * passed // whole
        cost = None
        if usage.cost_usd is not None:
            part = (usage.cost_usd * passed / whole).quantize(_FINEST)
            until = usage.cost_usd if passed == whole else part
            cost, cost_before = until - cost_before, until
        shares.append(Usage(tokens - tokens_before, 0, cost))
        tokens_before = tokens
    return shares
