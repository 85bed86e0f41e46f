"""Counts read from a provider's JSON, whatever stands in their places, and put together.

Numbers that are none (null, negative, words) count as 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Final

from motadata.core.models import Usage


Payload = Mapping[str, object]

_NOTHING: Final[Payload] = {}
_MOST: Final = 1 << 53
"""A count above is no count; JSON numbers are exact up to here."""


def merged_counts(before: Payload, after: Payload) -> Payload:
    """Return counts with those that a later event of the stream states in place of earlier ones.

    Counts are cumulative with every provider, so that the last word on each one holds; what an
    event leaves out or says as null stays as it was.

    Args:
        before: The counts so far; empty at first.
        after: The counts of the event.
    """
    known = dict(before)
    for name, value in after.items():
        earlier = known.get(name)
        if isinstance(value, Mapping) and isinstance(earlier, Mapping):
            known[name] = merged_counts(earlier, value)
        elif value is not None:
            known[name] = value
    return known


def as_usage(
    inputs: int,
    outputs: int,
    *,
    cached: int = 0,
    written: int = 0,
    long: int = 0,
    reasoning: int = 0,
    searches: int = 0,
    cost: Decimal | None = None,
) -> Usage:
    """Return a usage whose parts are never more than the whole."""
    cached = min(cached, inputs)
    written = min(written, inputs - cached)
    return Usage(
        inputs,
        outputs,
        cost,
        cached,
        written,
        min(reasoning, outputs),
        searches,
        min(long, written),
    )


def within(payload: Payload, name: str) -> Payload | None:
    """Return the object of that name, or None."""
    # Most names are not there, and asking whether None is a mapping costs more than all else.
    value = payload.get(name)
    return value if value is not None and isinstance(value, dict | Mapping) else None


def details(used: Payload, *names: str) -> Payload:
    """Return the first object of those names that is there, else an empty one."""
    if not used:
        return _NOTHING
    for name in names:
        found = within(used, name)
        if found is not None:
            return found
    return _NOTHING


def says(payload: Payload, *names: str) -> bool:
    """Tell whether any of the names is there."""
    return any(name in payload for name in names)


def first(used: Payload, *names: str) -> int:
    """Return the first count of those names that is one, else 0."""
    if not used:  # as most details are
        return 0
    for name in names:
        value = used.get(name)
        if value is None:
            continue
        if type(value) is int and 0 <= value <= _MOST:
            return value
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST:
            return value
    return 0


def stated_cost(stated: object) -> Decimal | None:
    """Read the price that OpenRouter and Perplexity state in US dollars."""
    if stated is None:
        return None
    if isinstance(stated, Mapping):
        stated = stated.get("total_cost")
    if isinstance(stated, bool) or not isinstance(stated, int | float | str | Decimal):
        return None
    try:
        cost = Decimal(str(stated))
    except InvalidOperation:
        return None
    return cost if cost.is_finite() and cost >= 0 else None
