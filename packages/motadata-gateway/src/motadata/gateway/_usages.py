"""Usages added up: what several requests that belong to one call were charged together."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from motadata.core.models import Usage


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
