"""Measure the caches beside their peers, in one run on an embedded server.

    python tools/bench/cache.py

Every table is of rounds in which all take turns, so that a busy moment of the machine meets all of
them; it shows the best round, the lower quartile, and the ratio to the first line. In memory:
microseconds of CPU a get and a set, beside an LRU with expiry on a bare OrderedDict and cachetools'
TTLCache; and hit ratios on a Zipf trace with a scan in its middle, where theirs are measured too.
Shared: gets a second of 64 callers, beside redis-py's asyncio client and a bare batcher of MGETs
over it, on the same server with values of the same size.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path

from asked import asked
from redis.asyncio import Redis

from motadata.core.cache import create_memory_cache, create_redis_cache, create_tiered_cache
from motadata.core.embedded import EmbeddedRedis


_KEYS = [f"k{number}" for number in range(1_000)]
_VALUE = "x" * 2_048
_ROUNDS = 9
_CALLERS = 64
_CALLS = 6_400

Get = Callable[[str], Awaitable[object]]
Put = Callable[[str, object], Awaitable[object]]


async def main() -> None:
    """Measure all and print."""
    await in_memory()
    await hit_ratios()
    with tempfile.TemporaryDirectory() as folder:
        async with EmbeddedRedis(Path(folder) / "redis") as server:
            await shared(server)


class BareLru:
    """What the memory cache is measured against: least recently used with expiry, no more."""

    def __init__(self, size: int) -> None:
        self._entries: OrderedDict[str, tuple[object, float]] = OrderedDict()
        self._size = size

    async def get(self, key: str) -> object:
        """Return the live value, or None."""
        entry = self._entries.get(key)
        if entry is None or entry[1] <= time.monotonic():
            return None
        self._entries.move_to_end(key)
        return entry[0]

    async def set(self, key: str, value: object) -> None:
        """Store a value for an hour."""
        self._entries[key] = (value, time.monotonic() + 3_600)
        self._entries.move_to_end(key)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)


def memory_peers(size: int) -> dict[str, tuple[Get, Put]]:
    bare = BareLru(size)
    cache = create_memory_cache(max_size=size, max_bytes=64 * 1024 * 1024)

    async def get(key: str) -> object:
        return await cache.get(key, tenant_id="bench")

    async def put(key: str, value: object) -> None:
        await cache.set(key, value, tenant_id="bench")

    peers: dict[str, tuple[Get, Put]] = {
        "bare OrderedDict": (bare.get, bare.set),
        "memory cache": (get, put),
    }
    if find_spec("cachetools"):
        from cachetools import TTLCache

        theirs: TTLCache[str, object] = TTLCache(size, 3_600)

        async def their_get(key: str) -> object:
            return theirs.get(key)

        async def their_put(key: str, value: object) -> None:
            theirs[key] = value

        peers["cachetools TTLCache"] = (their_get, their_put)
    return peers


async def in_memory() -> None:
    peers = memory_peers(10_000)
    gets: dict[str, list[float]] = {name: [] for name in peers}
    sets: dict[str, list[float]] = {name: [] for name in peers}
    floor: list[float] = []
    for _ in range(_ROUNDS * 3):
        started = time.process_time()
        for key in _KEYS:
            await nothing(key)
        floor.append((time.process_time() - started) / len(_KEYS) * 1e6)
        for name, (get, put) in peers.items():
            started = time.process_time()
            for key in _KEYS:
                await put(key, "value")
            middle = time.process_time()
            for key in _KEYS:
                await get(key)
            sets[name].append((middle - started) / len(_KEYS) * 1e6)
            gets[name].append((time.process_time() - middle) / len(_KEYS) * 1e6)
    print(f"In memory, µs of CPU; an awaited call that does nothing takes {min(floor):.2f}")
    report({f"{name}, get": each for name, each in gets.items()})
    report({f"{name}, set": each for name, each in sets.items()})
    # A caller awaits the cache itself: the function around it here is one more call of the bench.
    direct = create_memory_cache(max_size=10_000, max_bytes=64 * 1024 * 1024)
    bare = BareLru(10_000)
    times: dict[str, list[float]] = {"bare OrderedDict, direct": [], "memory cache, direct": []}
    for key in _KEYS:
        await direct.set(key, "value", tenant_id="bench")
        await bare.set(key, "value")
    for _ in range(_ROUNDS * 3):
        started = time.process_time()
        for key in _KEYS:
            await bare.get(key)
        middle = time.process_time()
        for key in _KEYS:
            await direct.get(key, tenant_id="bench")
        times["bare OrderedDict, direct"].append((middle - started) / len(_KEYS) * 1e6)
        times["memory cache, direct"].append((time.process_time() - middle) / len(_KEYS) * 1e6)
    report(times)
    ours, theirs = times["memory cache, direct"], times["bare OrderedDict, direct"]
    asked("memory cache, get, of a bare LRU's time", min(ours) / min(theirs), most=2)
    if "cachetools TTLCache" in gets:
        share = min(gets["memory cache"]) / min(gets["cachetools TTLCache"])
        asked("memory cache, get, of cachetools' time", share, most=1)


async def nothing(key: str) -> object:
    return key


async def hit_ratios() -> None:
    print("\nHit ratio: 1,000 entries, Zipf over 50,000 keys, a scan of 5,000 in the middle")
    chance = random.Random(11)  # noqa: S311 - the same trace in every run
    weights = [1 / rank for rank in range(1, 50_001)]
    trace = [f"k{number}" for number in chance.choices(range(50_000), weights, k=60_000)]
    trace[30_000:30_000] = [f"scan{number}" for number in range(5_000)]
    found = 0.0
    for name, (get, put) in memory_peers(1_000).items():
        hits = 0
        for key in trace:
            if await get(key) is None:
                await put(key, "value")
            else:
                hits += 1
        print(f"  {name:28} {hits / len(trace):8.3f}")
        if name == "memory cache":
            found = hits / len(trace)
    asked("memory cache, hit ratio with a scan", found, least=0.56)


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
            "bare batcher over it": BareBatcher(driver).get,
            "redis cache": lambda key: cache.get(key, tenant_id="bench"),
            "tiered cache": lambda key: tiered.get(key, tenant_id="bench"),
        }
        wall: dict[str, list[float]] = {name: [] for name in peers}
        cpu: dict[str, list[float]] = {name: [] for name in peers}
        for _ in range(_ROUNDS):
            for name, get in peers.items():
                started, cpu_started = time.perf_counter(), time.process_time()
                await ask(get)
                cpu[name].append((time.process_time() - cpu_started) / _CALLS * 1e6)
                wall[name].append((time.perf_counter() - started) / _CALLS * 1e6)
        parser = "hiredis" if find_spec("hiredis") else "Python"
        print(f"\n{_CALLERS} callers of 2 KB values, µs of wall clock a get; parser in {parser}")
        report(wall)
        print(f"\n{_CALLERS} callers of 2 KB values, µs of the client's CPU a get")
        report(cpu)
        best = {name: 1e6 / min(times) for name, times in wall.items()}
        times = best["redis cache"] / best["redis-py asyncio"]
        asked("redis cache, gets a second, times redis-py's", times, least=8)
        print("\nGets a second: " + ", ".join(f"{name} {rate:,.0f}" for name, rate in best.items()))


class BareBatcher:
    """The gets of one turn of the loop as one MGET, without tenants, checks, codec or errors."""

    def __init__(self, driver: Redis) -> None:
        self._driver = driver
        self._waiting: dict[str, list[asyncio.Future[object]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def get(self, key: str) -> object:
        """Return the value, asked for with those of the same turn of the loop."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._start)
        answer: asyncio.Future[object] = loop.create_future()
        self._waiting.setdefault(key, []).append(answer)
        return await answer

    def _start(self) -> None:
        waiting, self._waiting = self._waiting, {}
        task = asyncio.get_running_loop().create_task(self._send(waiting))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, waiting: dict[str, list[asyncio.Future[object]]]) -> None:
        values = await self._driver.mget(list(waiting))
        for value, futures in zip(values, waiting.values(), strict=True):
            for future in futures:
                future.set_result(value)


async def ask(get: Get) -> None:
    """Let all callers ask together."""

    async def call(number: int) -> None:
        for turn in range(_CALLS // _CALLERS):
            await get(_KEYS[(number * 17 + turn) % len(_KEYS)])

    await asyncio.gather(*(call(number) for number in range(_CALLERS)))


def report(times: dict[str, list[float]]) -> None:
    """Print the best and the lower quartile of each, and how they compare with the first."""
    first = next(iter(times.values()))
    for name, each in times.items():
        best, quartile = min(each), sorted(each)[len(each) // 4]
        ratio, quartile_ratio = best / min(first), quartile / sorted(first)[len(first) // 4]
        print(
            f"  {name:28} best {best:7.2f}  p25 {quartile:7.2f}"
            f"  {ratio:6.2f} / {quartile_ratio:.2f} of the first  ({1 / ratio:.1f} times as fast)"
        )


if __name__ == "__main__":
    asyncio.run(main())
