"""Measure the caches beside their peers, in one run on an embedded server.

    python tools/bench/cache.py

In memory: microseconds of CPU a get, best of several rounds, beside an LRU with expiry on a bare
OrderedDict and cachetools' TTLCache where that is installed. Shared: gets a second of 64 callers,
best of several rounds, beside redis-py's asyncio client on the same server with the same values.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path

from redis.asyncio import Redis

from motadata.core.cache import create_memory_cache, create_redis_cache, create_tiered_cache
from motadata.core.embedded import EmbeddedRedis


_KEYS = [f"k{number}" for number in range(1_000)]
_VALUE = "x" * 2_048
_ROUNDS = 5
_CALLERS = 64

Get = Callable[[str], Awaitable[object]]


async def main() -> None:
    """Measure both and print."""
    await in_memory()
    with tempfile.TemporaryDirectory() as folder:
        async with EmbeddedRedis(Path(folder) / "redis") as server:
            await shared(server)


async def in_memory() -> None:
    cache = create_memory_cache(max_bytes=64 * 1024 * 1024)
    bare: OrderedDict[str, tuple[object, float]] = OrderedDict()
    for key in _KEYS:
        await cache.set(key, "value", tenant_id="bench")
        bare[key] = ("value", time.monotonic() + 3_600)

    async def bare_get(key: str) -> object:
        entry = bare.get(key)
        if entry is None or entry[1] <= time.monotonic():
            return None
        bare.move_to_end(key)
        return entry[0]

    peers: dict[str, Get] = {
        "OrderedDict": bare_get,
        "memory cache": lambda key: cache.get(key, tenant_id="bench"),
    }
    if find_spec("cachetools"):
        from cachetools import TTLCache

        theirs: TTLCache[str, object] = TTLCache(10_000, 3_600)
        theirs.update(dict.fromkeys(_KEYS, "value"))

        async def their_get(key: str) -> object:
            return theirs.get(key)

        peers["cachetools TTLCache"] = their_get
    for name, get in peers.items():
        best = float("inf")
        for _ in range(_ROUNDS * 3):
            started = time.process_time()
            for key in _KEYS:
                await get(key)
            best = min(best, time.process_time() - started)
        print(f"{name:24} {best / len(_KEYS) * 1e6:8.2f} µs a get")


async def shared(server: EmbeddedRedis) -> None:
    url = server.url.get_secret_value()
    async with (
        Redis.from_url(url) as driver,
        create_redis_cache(url) as cache,
        create_tiered_cache(url) as tiered,
    ):
        await driver.mset(dict.fromkeys(_KEYS, _VALUE))
        await cache.set_many(dict.fromkeys(_KEYS, _VALUE), tenant_id="bench")
        peers: dict[str, Get] = {
            "redis-py asyncio": driver.get,
            "redis cache": lambda key: cache.get(key, tenant_id="bench"),
            "tiered cache": lambda key: tiered.get(key, tenant_id="bench"),
        }
        best = dict.fromkeys(peers, 0.0)
        # In turns, so that a busy moment of the machine meets all of them.
        for _, (name, get) in itertools.product(range(_ROUNDS), peers.items()):
            best[name] = max(best[name], await throughput(get))
        for name, rate in best.items():
            ratio = rate / best["redis-py asyncio"]
            print(f"{name:24} {rate:8,.0f} gets a second, {ratio:.1f} times")


async def throughput(get: Get) -> float:
    """Return gets a second of all callers together."""
    total = 6_400

    async def call(number: int) -> None:
        for turn in range(total // _CALLERS):
            await get(_KEYS[(number * 17 + turn) % len(_KEYS)])

    started = time.perf_counter()
    await asyncio.gather(*(call(number) for number in range(_CALLERS)))
    return total / (time.perf_counter() - started)


if __name__ == "__main__":
    asyncio.run(main())
