"""Run the benchmarks of a package one after the other, and say which figures are as asked.

    python tools/bench/figures.py core|gateway|all [--quick]

Each runs in a process of its own and compares with its peers within that process. Everything that
they print is printed; the table at the end has what was asked of each figure and what it is on this
machine, now. Ratios travel between machines, microseconds do not. Let nothing else run beside it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from asked import SIGN


FOLDER: Final = Path(__file__).parent

CORE: Final = {
    "cache": (),
    "codec": (),
    "database": (),
    "messaging": (),
    "guard_rails": (),
    "overload": (),
    "limits": (),
    "deadlines": (),
    "faults": (),
    "isolation": (),
}
GATEWAY: Final = {
    "gateway": (),
    "gateway_sharing": (),
    "gateway_limits": (),
    "gateway_chaos": (),
    "gateway_usage": (),
    "guardrails": (),
}
QUICK: Final = {
    "gateway": ("--rounds", "8", "--calls", "5000"),
    "isolation": ("--operations", "20000"),
}
"""Shorter runs of those that take minutes; their figures are coarser."""


def main() -> int:
    """Run what is asked for; the exit code says whether everything ran, not whether it is fast."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("package", choices=("core", "gateway", "all"), nargs="?", default="all")
    parser.add_argument("--quick", action="store_true", help="shorter runs where they take minutes")
    options = parser.parse_args()
    chosen = {"core": CORE, "gateway": GATEWAY, "all": CORE | GATEWAY}[options.package]
    found: list[tuple[str, str]] = []
    failed: list[str] = []
    for name, arguments in chosen.items():
        given = QUICK.get(name, arguments) if options.quick else arguments
        print(f"\n=== {name} {' '.join(given)}".rstrip(), flush=True)
        began = time.monotonic()
        lines, code = run(name, given)
        found += [(name, line.removeprefix(SIGN)) for line in lines]
        if code:
            failed.append(name)
        print(f"=== {name} took {time.monotonic() - began:.0f} s", flush=True)
    show(found)
    if failed:
        print(f"\ndid not run to its end: {', '.join(failed)}")
    return len(failed)


def run(name: str, arguments: tuple[str, ...]) -> tuple[list[str], int]:
    """Run a script, pass on what it prints, and return what it was asked and its exit code."""
    command = [sys.executable, str(FOLDER / f"{name}.py"), *arguments]
    lines: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None:
            raise AssertionError
        for line in process.stdout:
            print(line, end="", flush=True)
            if line.startswith(SIGN):
                lines.append(line.rstrip())
    return lines, process.returncode


def show(found: list[tuple[str, str]]) -> None:
    """Print the table of all that was asked."""
    rows = [("benchmark", "figure", "asked", "measured", "")]
    for name, line in found:
        what, bound, measured, verdict = line.split(" | ")
        rows.append((name, what, bound, measured, verdict))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    print()
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
    met = sum(row[4] == "met" for row in rows)
    print(f"\n{met} of {len(rows) - 1} as asked")


if __name__ == "__main__":
    sys.exit(main())
