"""Usages added up and split: what requests cost together, and each one's share of it.

A share that is kept beside what it paid for says later what was saved by not paying again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Final

from motadata.core.models import Usage
from motadata.gateway._vectors import FLOAT_BYTES


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


def shares_of(cost: Decimal | None, texts: Sequence[str]) -> Mapping[str, Decimal]:
    """Return each text's share of what was paid for all, by its length; nothing for no known cost.

    The shares add up to the cost.
    """
    if cost is None or not texts:
        return {}
    parts = split(Usage(cost_usd=cost), [max(1, len(text)) for text in texts])
    return {
        text: part.cost_usd
        for text, part in zip(texts, parts, strict=True)
        if part.cost_usd is not None
    }


def saving(noted: Decimal | None, paid: Iterable[Decimal]) -> Decimal | None:
    """Return what was saved in all; None when nobody knows of anything.

    Args:
        noted: What is known to have been saved already.
        paid: What each thing once cost that need not be paid again.
    """
    known = [noted, *paid] if noted is not None else list(paid)
    return sum(known, Decimal(0)) if known else None


def with_price(vector: bytes, cost: Decimal | None) -> bytes:
    """Return a packed vector together with what was paid for it, to be kept in a cache.

    With a price it is no whole number of floats long, which an instance of before takes for
    damaged: it asks its provider.
    """
    if cost is None:
        return vector
    price = str(cost).encode()
    price += b" " * (-len(price) % FLOAT_BYTES)
    return vector + price + bytes([len(price)])


def without_price(kept: bytes) -> tuple[bytes, Decimal | None] | None:
    """Return a packed vector and what was paid for it, as far as that is known.

    Returns:
        None when it is neither a vector nor one with a price.
    """
    beside = len(kept) % FLOAT_BYTES
    if not beside:
        return kept, None
    end = len(kept) - 1 - kept[-1]
    try:
        cost = Decimal(kept[end:-1].decode("ascii").strip())
    except (InvalidOperation, UnicodeDecodeError):
        return None
    fits = beside == 1 and end > 0 and not end % FLOAT_BYTES and cost.is_finite()
    return (kept[:end], cost) if fits else None
