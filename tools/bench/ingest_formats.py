"""Measure how fast files are read in their isolated process, by format.

    python tools/bench/ingest_formats.py FILE_OR_FOLDER... [--workers 1]

Every file below the arguments is read once to warm up and once for the figures: documents and
characters a second on the clock, and the slowest document. Nothing is stored. A last line gives
what isolation itself costs: the time of a document of one word.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from motadata.core.errors import IngestionError
from motadata.core.models import Document
from motadata.ingest import IsolatedLoader


TINY = 200


async def main(arguments: Sequence[str] | None = None) -> None:
    """Read all files and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args(arguments)
    files = [file for path in options.paths for file in sorted(regular_files(path))]
    async with IsolatedLoader(workers=options.workers) as loader:
        documents = await first_pass(loader, files)
        groups: dict[str, list[Path]] = defaultdict(list)
        for file, document in documents.items():
            groups[document.media_type].append(file)
        print(f"{'format':<58}{'files':>6}{'docs/s':>9}{'Mchar/s':>9}{'slowest ms':>12}")
        for media_type, members in sorted(groups.items()):
            elapsed, slowest = await read_all(loader, members, options.workers)
            characters = sum(len(documents[file].text) for file in members)
            print(
                f"{media_type[-57:]:<58}{len(members):>6}{len(members) / elapsed:>9.1f}"
                f"{characters / elapsed / 1e6:>9.2f}{slowest * 1e3:>12.1f}"
            )
        print(f"\nrefused: {len(files) - len(documents)} of {len(files)} files")
        print(f"a document of one word: {await tiny(loader) * 1e3:.2f} ms (median of {TINY})")


def regular_files(path: Path) -> list[Path]:
    """Return a file itself, or the files below a folder."""
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


async def first_pass(loader: IsolatedLoader, files: Sequence[Path]) -> dict[Path, Document]:
    """Read each file once and keep those that can be read."""
    found = {}
    for file in files:
        try:
            found[file] = await loader.load(file, source=file.name)
        except IngestionError as error:
            print(f"  {file.name}: {error}")
    return found


async def read_all(
    loader: IsolatedLoader, files: Sequence[Path], workers: int
) -> tuple[float, float]:
    """Read files with as many at once as there are workers; return the time and the slowest."""
    slowest = 0.0
    rest = iter(files)

    async def work() -> None:
        nonlocal slowest
        for file in rest:
            before = time.perf_counter()
            await loader.load(file, source=file.name)
            slowest = max(slowest, time.perf_counter() - before)

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(workers)))
    return time.perf_counter() - started, slowest


async def tiny(loader: IsolatedLoader) -> float:
    """Return the median time of the smallest document."""
    times = []
    for _ in range(TINY):
        before = time.perf_counter()
        await loader.load(b"word", source="word.txt")
        times.append(time.perf_counter() - before)
    return statistics.median(times)


if __name__ == "__main__":
    asyncio.run(main())
