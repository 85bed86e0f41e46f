"""The shared caches on a bad network and a server that dies: no wrong answer, no hang, no error."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from redis.asyncio import Redis

from motadata.core.cache import (
    TieredCache,
    create_memory_cache,
    create_redis_cache,
    create_tiered_cache,
)
from motadata.core.cache._key import CacheKey
from motadata.core.cache._near import NearCache
from motadata.core.cache._redis_calls import Reply, Word
from motadata.core.cache._redis_lanes import Lanes
from motadata.core.cache._redis_scripts import ACQUIRE
from motadata.core.embedded import EmbeddedRedis
from motadata.core.errors import CacheError, DeadlineExceededError
from motadata.core.protocols import Cache
from motadata.core.resilience import deadline_scope
from motadata.core.testing.fault_proxy import FaultProxy, Faults
from motadata.core.testing.lived_time import LivedTime
from motadata.core.testing.storm import storm


# These tests break connections.
pytestmark = pytest.mark.usefixtures("drivers_drop_sockets")


_TENANTS = [f"t{number}" for number in range(4)]
_KEYS = [f"k{number}" for number in range(25)]


def value_of(tenant: str, key: str) -> str:
    return f"{tenant}/{key}/" + "x" * 400


@dataclass
class Tally:
    """What came of many calls."""

    asked: int = 0
    answered: int = 0
    hits: int = 0
    refused: int = 0
    wrong: list[tuple[str, str, object]] = field(default_factory=list)


async def use(cache: Cache, tally: Tally, until: Callable[[], bool], *, worker: int) -> None:
    """Read and write until told to stop; each value tells whose it is."""
    number = worker
    while not until():
        number += 7
        tenant, key = _TENANTS[number % 4], _KEYS[number % 25]
        tally.asked += 1
        try:
            if number % 3 == 0:
                await cache.set(key, value_of(tenant, key), tenant_id=tenant)
            else:
                found = await cache.get(key, tenant_id=tenant)
                tally.hits += found is not None
                if found not in (None, value_of(tenant, key)):
                    tally.wrong.append((tenant, key, found))
            tally.answered += 1
        except CacheError:
            tally.refused += 1
        await asyncio.sleep(0)


async def use_for(cache: Cache, calls: int, *, seconds: float = 20.0) -> Tally:
    """Let 16 callers use a cache for so many calls, or so long."""
    tally = Tally()
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    await asyncio.gather(
        *(
            use(cache, tally, lambda: tally.asked >= calls or loop.time() > end, worker=worker)
            for worker in range(16)
        )
    )
    return tally


async def until(holds: Callable[[], object], *, timeout: float = 10.0) -> None:
    async with asyncio.timeout(timeout):
        while not holds():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.005)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedRedis]:
    """A server of one test's own, which may be stopped."""
    async with EmbeddedRedis(tmp_path / "redis") as own:
        yield own


@pytest.fixture
async def proxy(server: EmbeddedRedis) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(("127.0.0.1", server.port), seed=7) as made:
        yield made


def through(proxy: FaultProxy, server: EmbeddedRedis) -> str:
    return server.url.get_secret_value().replace(f":{server.port}", f":{proxy.port}")


_BAD = {
    "flipped": Faults(flip_every=20_000),
    "flipped answers": Faults(flip_every=5_000, flip_towards="client"),
    "torn": Faults(torn=40),
    "slow": Faults(latency=0.002, jitter=0.01),
    "cut": Faults(cut_every=30_000),
    "closed": Faults(cut_every=30_000, cut_by="close"),
    "all": Faults(flip_every=30_000, cut_every=60_000, torn=100, jitter=0.002),
}


@pytest.mark.parametrize("fault", list(_BAD))
async def test_bad_network_makes_a_miss_or_a_typed_error_and_never_another_value(
    server: EmbeddedRedis, proxy: FaultProxy, fault: str
) -> None:
    timeout = 10.0 if fault in ("torn", "slow") else 0.3
    async with create_redis_cache(through(proxy, server), timeout=timeout) as cache:
        proxy.faults = _BAD[fault]
        tally = await use_for(cache, 1_000, seconds=1.5)

    assert tally.wrong == []
    assert tally.asked > 20
    assert tally.answered > 0
    assert proxy.counts.flips + proxy.counts.cuts > 0 or fault in ("torn", "slow")
    if fault in ("torn", "slow"):
        assert tally.refused == 0
        assert tally.hits > 0


@pytest.mark.parametrize("fault", list(_BAD))
async def test_tiered_cache_answers_every_call_on_a_bad_network(
    server: EmbeddedRedis, proxy: FaultProxy, fault: str
) -> None:
    async with create_tiered_cache(through(proxy, server), timeout=0.3, near_ttl=0.05) as cache:
        proxy.faults = _BAD[fault]
        tally = await use_for(cache, 1_000, seconds=1.5)

    assert tally.wrong == []
    assert tally.refused == 0
    assert tally.answered == tally.asked > 20


async def test_value_that_was_damaged_on_the_server_is_a_miss(
    server: EmbeddedRedis,
) -> None:
    async with (
        create_redis_cache(server.url) as cache,
        Redis.from_url(server.url.get_secret_value()) as raw,
    ):
        await cache.set_many({"a": "value of a", "b": "value of b"}, tenant_id="acme")
        names = [name async for name in raw.scan_iter("cache:{acme}:*.*:default:*")]
        first, second = [await raw.get(name) for name in names]
        # Each under the other's name, as an answer to another question would be.
        await raw.mset({names[0]: second, names[1]: first})

        assert await cache.get_many(["a", "b"], tenant_id="acme") == {}
        assert cache.statistics().unreadable == 2


async def test_caller_with_a_deadline_is_answered_by_then_while_the_network_swallows_everything(
    server: EmbeddedRedis, proxy: FaultProxy
) -> None:
    late: list[float] = []
    answered: list[int] = []

    async def ask(cache: TieredCache, lived: LivedTime) -> None:
        started = lived.seconds
        with deadline_scope(0.2), contextlib.suppress(DeadlineExceededError):
            await cache.get("key", tenant_id="acme")
            answered.append(1)
        late.append(lived.seconds - started - 0.2)

    async with (
        create_tiered_cache(through(proxy, server), timeout=1.5) as cache,
        LivedTime() as lived,
    ):
        await cache.set("key", 1, tenant_id="acme")
        proxy.faults = Faults(silent=True)
        async with asyncio.timeout(10):
            while not cache.statistics().is_away:
                await asyncio.gather(*(ask(cache, lived) for _ in range(50)))
        answered.clear()
        await asyncio.gather(*(ask(cache, lived) for _ in range(50)))

    assert len(answered) == 50

    # 50 ms are promised; the rest is what a busy machine takes of each turn.
    assert max(late) < 0.05 + 0.05


async def test_copies_are_not_stale_after_the_connection_that_announces_changes_was_cut(
    server: EmbeddedRedis, proxy: FaultProxy
) -> None:
    async with (
        create_redis_cache(server.url) as other,
        create_tiered_cache(through(proxy, server)) as cache,
    ):
        near = cache._engine.near
        for round_ in range(5):
            await until(lambda: near.is_open)
            await other.set("key", round_, tenant_id="acme")
            async with asyncio.timeout(10):
                while await cache.get("key", tenant_id="acme") != round_:  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.001)
            proxy.faults = Faults(refuse=True)
            proxy.cut()
            # Nobody can announce this one.
            await other.set("key", f"new {round_}", tenant_id="acme")
            await until(lambda: not near.is_open)
            proxy.faults = Faults()
            await until(lambda: near.is_open and not cache.statistics().is_away)

            assert await cache.get("key", tenant_id="acme") == f"new {round_}"
            assert cache.statistics().outages == 0


@pytest.mark.parametrize("later", [b"old", b""], ids=["an older value", "nothing"])
def test_reads_that_travelled_together_and_differ_leave_no_copy(later: bytes) -> None:
    near = NearCache(max_size=10, max_bytes=None, longest=60.0)
    near.open()
    place = CacheKey("acme", "default", "key")
    first, second = near.begin(place), near.begin(place)

    assert near.agrees(second, b"new")
    near.keep(second, "new", seconds=60, tags=())
    assert near.get(place) == "new"

    # Answered before the change, delivered after it: nobody knows that it is the older one.
    assert not near.agrees(first, later)
    near.keep(first, "old", seconds=60, tags=())
    assert near.get(place) is None


async def test_copy_is_never_older_than_an_invalidation_that_was_seen(
    server: EmbeddedRedis, proxy: FaultProxy
) -> None:
    proxy.faults = Faults(jitter=0.004)
    async with (
        create_redis_cache(server.url) as other,
        create_tiered_cache(through(proxy, server), timeout=5.0) as cache,
    ):
        near = cache._engine.near
        await until(lambda: near.is_open)
        stop = False
        stale: list[tuple[object, int]] = []
        floor = 0

        async def read() -> None:
            while not stop:
                seen = floor
                found = await cache.get("key", tenant_id="acme")
                if isinstance(found, int) and found < seen:
                    stale.append((found, seen))
                await asyncio.sleep(0)

        readers = [asyncio.create_task(read()) for _ in range(8)]
        for number in range(1, 60):
            await other.set("key", number, tenant_id="acme")

            async def caught_up(number: int = number) -> bool:
                return await cache.get("key", tenant_id="acme") == number

            async with asyncio.timeout(10):
                while not await caught_up():  # noqa: ASYNC110 - what is waited for tells nobody
                    await asyncio.sleep(0.001)
            # Once the change was seen, no reader may see less.
            floor = number
        stop = True
        await asyncio.gather(*readers)

        assert stale == []


async def one_fault(server: EmbeddedRedis, number: int) -> None:
    """Kill the server and start it again, or halt it and let it go on."""
    if number % 2:
        await server.kill()
        await asyncio.sleep(0.1)
        await server.start()
    else:
        server.pause()
        await asyncio.sleep(0.6)
        server.resume()


async def survive(server: EmbeddedRedis, rounds: int) -> None:
    async with create_tiered_cache(server.url, timeout=0.3) as cache:
        tally = Tally()
        stop = False
        users = [
            asyncio.create_task(use(cache, tally, lambda: stop, worker=worker))
            for worker in range(16)
        ]
        for number in range(rounds):
            before = tally.answered
            await one_fault(server, number)
            async with LivedTime() as lived:
                await until(lambda: not cache.statistics().is_away)
            assert lived.seconds < 1.0
            await until(lambda before=before: tally.answered > before + 50)
        stop = True
        await asyncio.gather(*users)
        await cache.set("after", 1, tenant_id="acme")

        assert tally.wrong == []
        assert tally.answered >= 0.99 * tally.asked
        assert cache.statistics().outages >= 1
        assert (await cache.health()).status == "ok"
    async with create_redis_cache(server.url) as other:
        assert await other.get("after", tenant_id="acme") == 1


async def test_every_call_is_answered_while_the_server_is_halted_and_killed(
    server: EmbeddedRedis,
) -> None:
    await survive(server, 2)


@pytest.mark.soak
@pytest.mark.timeout(300)
async def test_every_call_is_answered_however_often_the_server_is_halted_and_killed(
    server: EmbeddedRedis,
) -> None:
    await survive(server, 30)


async def test_server_that_is_absent_at_the_start_is_used_as_soon_as_it_is_there(
    tmp_path: Path,
) -> None:
    server = EmbeddedRedis(tmp_path / "redis")
    async with create_tiered_cache(server.url) as cache:
        tally = await use_for(cache, 500)
        assert tally.answered == tally.asked
        assert tally.hits > 0
        await server.start()
        try:
            async with LivedTime() as lived:
                await until(lambda: not cache.statistics().is_away)
            assert lived.seconds < 1.0
            await cache.set("key", 1, tenant_id="acme")
            async with create_redis_cache(server.url) as other:
                assert await other.get("key", tenant_id="acme") == 1
        finally:
            await server.stop()


async def check_storm(cache: Cache, calls: int) -> None:
    """Cancel half of many calls in flight; each that ends must have its own value.

    Ten callers at a time share a key that is cold, so that most wait for one computation.
    """
    running = 0

    async def compute(expected: str) -> object:
        nonlocal running
        running += 1
        try:
            await asyncio.sleep(0.001)
            return expected
        finally:
            running -= 1

    async def ask(number: int) -> None:
        group = number // 10
        tenant, key = _TENANTS[group % 4], f"{_KEYS[group % 25]}/{group // 100}"
        expected = value_of(tenant, key)
        match number % 10:
            case 0:
                await cache.set(key, expected, tenant_id=tenant)
            case 1:
                assert await cache.get(key, tenant_id=tenant) in (None, expected)
            case 2:
                await cache.delete(key, tenant_id=tenant)
            case _:
                got = await cache.get_or_compute(key, lambda: compute(expected), tenant_id=tenant)
                assert got == expected

    # A follower that was forgotten would wait for ever.
    report = await storm(ask, calls=calls)

    assert report.share_cancelled == pytest.approx(0.5, abs=0.1)
    assert report.failures == []
    assert running == 0


@pytest.fixture(params=["redis", "tiered"])
async def shared(server: EmbeddedRedis, request: pytest.FixtureRequest) -> AsyncIterator[Cache]:
    if request.param == "redis":
        async with create_redis_cache(server.url, timeout=10.0) as made:
            yield made
    else:
        async with create_tiered_cache(server.url, timeout=10.0) as tiered:
            yield tiered


async def storm_and_count(server: EmbeddedRedis, shared: Cache, calls: int) -> None:
    async with Redis.from_url(server.url.get_secret_value()) as raw:
        before = asyncio.all_tasks()
        await check_storm(shared, calls)

        assert await shared.get_or_compute("still", _seven, tenant_id="acme") == 7
        # 16 carry calls, and one each listens and looks.
        assert len(await raw.client_list()) <= 16 + 4
        await until(lambda: len(asyncio.all_tasks() - before) <= 4)


async def test_storm_of_cancellations_leaves_no_wrong_answer_connection_or_follower(
    server: EmbeddedRedis, shared: Cache
) -> None:
    await storm_and_count(server, shared, 2_000)


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_storm_of_a_hundred_thousand_calls_leaves_nothing_behind(
    server: EmbeddedRedis, shared: Cache
) -> None:
    await storm_and_count(server, shared, 100_000)


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_storm_of_a_hundred_thousand_calls_on_memory_alone_leaves_nothing_behind() -> None:
    cache = create_memory_cache(max_size=60)
    await check_storm(cache, 100_000)

    assert cache._engine.flights._flights == {}


async def _seven() -> object:
    return 7


async def test_caller_who_gives_up_while_asking_to_compute_holds_nobody_up(
    server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = Lanes.exchange
    asks = asyncio.Event()

    async def watched(lanes: Lanes, commands: Sequence[Sequence[Word]]) -> list[Reply | Exception]:
        if any(ACQUIRE.sha in words or ACQUIRE.text in words for words in commands):
            asks.set()
        return await exchange(lanes, commands)

    async with (
        create_redis_cache(server.url, lease=20.0) as one,
        create_redis_cache(server.url, lease=20.0) as other,
    ):
        monkeypatch.setattr(Lanes, "exchange", watched)
        giving_up = asyncio.create_task(one.get_or_compute("left", _seven, tenant_id="acme"))
        await asyncio.wait_for(asks.wait(), 10)
        giving_up.cancel()
        await asyncio.wait([giving_up], timeout=10)

        async with asyncio.timeout(10):
            assert await other.get_or_compute("left", _seven, tenant_id="acme") == 7


async def test_caller_who_gives_up_just_when_it_has_computed_holds_nobody_up(
    server: EmbeddedRedis,
) -> None:
    computed = asyncio.Event()

    async def compute() -> object:
        computed.set()
        return 6

    async with (
        create_redis_cache(server.url, lease=20.0) as one,
        create_redis_cache(server.url, lease=20.0) as other,
    ):
        giving_up = asyncio.create_task(one.get_or_compute("left", compute, tenant_id="acme"))
        # In the very turn in which the computation ends.
        await computed.wait()
        giving_up.cancel()
        await asyncio.wait([giving_up], timeout=10)

        async with asyncio.timeout(2):
            assert await other.get_or_compute("left", _seven, tenant_id="acme") in (6, 7)


async def test_damaged_clock_of_the_server_does_not_cancel_who_reads(
    server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = Lanes.exchange

    async def damaged(lanes: Lanes, commands: Sequence[Sequence[Word]]) -> list[Reply | Exception]:
        answers = await exchange(lanes, commands)
        return [
            [b"17;", b"3\x13"] if "TIME" in str(words) else answer
            for words, answer in zip(commands, answers, strict=True)
        ]

    async with create_tiered_cache(server.url) as cache:
        monkeypatch.setattr(Lanes, "exchange", damaged)
        reading = asyncio.create_task(cache.get("never-set", tenant_id="acme"))
        await asyncio.wait([reading], timeout=10)

        assert not reading.cancelled()
        assert reading.result() is None
