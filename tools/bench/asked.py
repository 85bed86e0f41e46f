"""What a figure was asked to be, in a line of its own below the table that it comes from.

    asked("memory cache, get, of a bare LRU", 1.76, most=2.0)

prints `asked  memory cache, get, of a bare LRU | <= 2 | 1.76 | met`, and `figures.py` collects such
lines of all benchmarks into one table. Nothing fails by them: a busy machine is no defect.
"""

from __future__ import annotations

from typing import Final


SIGN: Final = "asked  "


def asked(
    what: str,
    measured: float,
    *,
    most: float | None = None,
    least: float | None = None,
    unit: str = "",
) -> None:
    """Print what was asked of a figure, and whether it is so.

    Args:
        what: The figure, in the words of the table above it.
        measured: Its value.
        most: What it must not exceed.
        least: What it must reach.
        unit: Of all three, such as `µs`.
    """
    bounds = [f"<= {most:g}"] if most is not None else []
    bounds += [f">= {least:g}"] if least is not None else []
    missed = (most is not None and measured > most) or (least is not None and measured < least)
    bound, found = f"{' and '.join(bounds)} {unit}".strip(), f"{measured:.4g} {unit}".strip()
    print(f"{SIGN}{what} | {bound} | {found} | {'MISSED' if missed else 'met'}", flush=True)
