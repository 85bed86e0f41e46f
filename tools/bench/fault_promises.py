"""The last part of `faults.py`: what the caches promise in figures, measured on real servers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from asked import asked

from motadata.core.cache import TieredCache, create_redis_cache, create_tiered_cache
from motadata.core.embedded import EmbeddedRedis
from motadata.core.protocols import Cache


TENANT = "acme"
CALLERS = 1_000
CHANGES = 300
READERS = 8


async def promises(folder: Path, *, rounds: int) -> None:
    """Print one line a promise; each is put to the test so many times."""
    print()
    await absent_at_boot(folder, rounds)
    async with EmbeddedRedis(folder / "cold") as server:
        await cold_keys(server, rounds)
        await near_copies(server, rounds)


async def absent_at_boot(folder: Path, rounds: int) -> None:
    """Serve without a server from the start, and use it once it comes."""
    calls = served = 0
    used: list[float] = []
    for number in range(rounds):
        server = EmbeddedRedis(folder / f"boot-{number}")
        async with create_tiered_cache(server.url) as cache, _users(cache) as counts:
            await asyncio.sleep(1.0)
            calls, served = calls + counts[0], served + counts[1]
            await server.start()
            try:
                returned = time.monotonic()
                await _until_used(cache, server)
                used.append(time.monotonic() - returned)
            finally:
                await server.stop()
    print(f"no server at boot: {served:,} of {calls:,} calls answered")
    print(f"its return: used after {max(used):.2f} s at most, {min(used):.2f} s at least")
    asked("no server at boot, answered", 100 * served / calls, least=100, unit="%")
    asked("its return, until it is used", max(used), most=1, unit="s")


@asynccontextmanager
async def _users(cache: Cache) -> AsyncIterator[list[int]]:
    """Read and write all the while; count calls and those that were answered."""
    counts = [0, 0]

    async def use(worker: int) -> None:
        number = 0
        while True:
            number += 1
            counts[0] += 1
            key = f"k{worker}-{number % 10}"
            if number % 3 == 0:
                await cache.set(key, worker, tenant_id=TENANT)
            else:
                await cache.get(key, tenant_id=TENANT)
            counts[1] += 1
            await asyncio.sleep(0.001)

    workers = [asyncio.create_task(use(worker)) for worker in range(READERS)]
    try:
        yield counts
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.wait(workers)


async def _until_used(cache: TieredCache, server: EmbeddedRedis) -> None:
    """Wait until the server, looked at beside the cache, holds what was set through it."""
    async with create_redis_cache(server.url) as beside, asyncio.timeout(30):
        while await beside.get("seen", tenant_id=TENANT) is None:
            await cache.set("seen", 1, tenant_id=TENANT)
            await asyncio.sleep(0.005)


async def cold_keys(server: EmbeddedRedis, rounds: int) -> None:
    """Let a thousand callers ask for one cold key, and count the computations."""
    async with (
        create_tiered_cache("redis://127.0.0.1:1") as alone,
        create_tiered_cache(server.url, timeout=10.0) as one,
        create_tiered_cache(server.url, timeout=10.0) as other,
    ):
        for title, caches in (
            ("no server", [alone]),
            ("one instance", [one]),
            ("two instances", [one, other]),
        ):
            runs = [await _computations(caches, f"{title} {number}") for number in range(rounds)]
            print(
                f"{CALLERS:,} callers of one cold key, {title}: {max(runs)} computation(s) at most"
            )
            asked(f"computations of a cold key, {title}", max(runs), most=1)


async def _computations(caches: Sequence[Cache], key: str) -> int:
    runs = 0

    async def compute() -> object:
        nonlocal runs
        runs += 1
        await asyncio.sleep(0.05)
        return runs

    calls = [
        caches[number % len(caches)].get_or_compute(key, compute, tenant_id=TENANT)
        for number in range(CALLERS)
    ]
    await asyncio.gather(*calls)
    return runs


async def near_copies(server: EmbeddedRedis, rounds: int) -> None:
    """Read copies while another instance changes the value, and count those that are too old."""
    reads = stale = 0
    async with (
        create_redis_cache(server.url, timeout=10.0) as other,
        create_tiered_cache(server.url, timeout=10.0) as cache,
    ):
        seen, stop = 0, asyncio.Event()

        async def read() -> None:
            nonlocal reads, stale, seen
            while not stop.is_set():
                before = seen
                found = await cache.get("changing", tenant_id=TENANT)
                reads += 1
                if isinstance(found, int):
                    stale += found < before
                    seen = max(seen, found)
                await asyncio.sleep(0)

        readers = [asyncio.create_task(read()) for _ in range(READERS)]
        async with asyncio.timeout(60 * rounds):
            for number in range(1, rounds * CHANGES + 1):
                await other.set("changing", number, tenant_id=TENANT)
                while seen < number:  # noqa: ASYNC110 - the readers tell nobody
                    await asyncio.sleep(0)
        stop.set()
        await asyncio.gather(*readers)
        hits = cache.statistics().near.hits
    print(
        f"near copies: {reads:,} reads, {hits:,} of them from copies, during"
        f" {rounds * CHANGES:,} changes: {stale} older than a change that was seen"
    )
    asked("near copies older than a change that was seen", stale, most=0)
