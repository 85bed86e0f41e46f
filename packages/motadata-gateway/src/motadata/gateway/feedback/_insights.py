"""Feedback added up: approval with its uncertainty, stars, flags and common corrections."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Final, cast

from motadata.core.models import CommonCorrection, Insight
from motadata.core.protocols import Row


_Z: Final = 1.959963984540054
"""The normal quantile of 97.5%: the intervals are two-sided ones of 95%."""


def wilson_interval(approvals: int, judgements: int) -> tuple[float, float]:
    """Return the ends of Wilson's 95% score interval of a share.

    Unlike the usual interval it is honest about few judgements and never leaves 0 to 1. Source:
    E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22
    (1927).
    """
    if not judgements:
        return 0.0, 1.0
    share = approvals / judgements
    squared = _Z * _Z
    scale = 1 + squared / judgements
    middle = (share + squared / (2 * judgements)) / scale
    half = (
        _Z
        / scale
        * math.sqrt(share * (1 - share) / judgements + squared / (4 * judgements * judgements))
    )
    return max(0.0, middle - half), min(1.0, middle + half)


def insights_of(
    judgements: Iterable[Row],
    *,
    stars: Iterable[Row],
    flags: Iterable[Row],
    corrections: Iterable[Row],
) -> tuple[Insight, ...]:
    """Put the sums of each prompt and model together, in the order of the judgements."""
    rated = {_group(row): row for row in stars}
    flagged: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for row in flags:
        flagged[_group(row)][str(row["reason"])] = cast("int", row["flags"])
    corrected: dict[tuple[str, str], list[CommonCorrection]] = defaultdict(list)
    for row in corrections:
        common = CommonCorrection(str(row["body"]), cast("int", row["given"]))
        corrected[_group(row)].append(common)
    return tuple(
        _insight(row, rated.get(_group(row)), flagged[_group(row)], corrected[_group(row)])
        for row in judgements
    )


def _insight(
    judged: Row, rated: Row | None, flags: dict[str, int], corrections: list[CommonCorrection]
) -> Insight:
    approvals, rejections = cast("int", judged["approvals"]), cast("int", judged["rejections"])
    total = approvals + rejections
    low, high = wilson_interval(approvals, total)
    return Insight(
        prompt=str(judged["prompt"]),
        model=str(judged["model"]),
        approvals=approvals,
        rejections=rejections,
        approval=approvals / total if total else None,
        low=low,
        high=high,
        ratings=cast("int", rated["ratings"]) if rated is not None else 0,
        mean_stars=cast("float", rated["mean"]) if rated is not None else None,
        corrections=tuple(corrections),
        flags=flags,
    )


def _group(row: Row) -> tuple[str, str]:
    return str(row["prompt"]), str(row["model"])
