from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from motadata.core.cache import MemoryCache, create_memory_cache
from motadata.core.cache._key import cache_key, compile_glob
from motadata.core.cache._store import Store
from motadata.core.errors import (
    CacheError,
    ConfigurationError,
    DeadlineExceededError,
    InvalidIdentifierError,
)
from motadata.core.models import Answer, Record
from motadata.core.protocols import Component
from motadata.core.resilience import deadline_scope
from motadata.core.testing.cache import CacheConformance, PassTime


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


class TestMemoryCacheKeepsTheContract(CacheConformance):
    @pytest.fixture
    async def cache(self, clock: Clock) -> AsyncIterator[MemoryCache]:
        async with create_memory_cache(clock=clock) as cache:
            yield cache

    @pytest.fixture
    def pass_time(self, clock: Clock) -> PassTime:
        async def advance(seconds: float) -> None:
            clock.now += seconds

        return advance


class TestMemoryCacheWithALimitOfBytesKeepsTheContract(TestMemoryCacheKeepsTheContract):
    @pytest.fixture
    async def cache(self, clock: Clock) -> AsyncIterator[MemoryCache]:
        async with create_memory_cache(max_bytes=1024 * 1024, clock=clock) as cache:
            yield cache


async def test_least_recently_used_entry_makes_room() -> None:
    cache = create_memory_cache(max_size=3)
    await cache.set_many({"a": 1, "b": 2, "c": 3}, tenant_id="acme")
    await cache.get("a", tenant_id="acme")
    await cache.set("d", 4, tenant_id="acme")

    left = await cache.get_many(["a", "b", "c", "d"], tenant_id="acme")

    assert left == {"a": 1, "c": 3, "d": 4}
    assert cache.statistics().evictions == 1


async def test_busy_tenant_does_not_push_out_a_quiet_one() -> None:
    cache = create_memory_cache(max_size=100)
    await cache.set_many({f"q{number}": number for number in range(20)}, tenant_id="quiet")
    for number in range(10_000):
        await cache.set(f"b{number}", number, tenant_id="busy")

    kept = await cache.get_many([f"q{number}" for number in range(20)], tenant_id="quiet")

    assert len(kept) == 20
    assert cache.statistics().entries == 100


async def test_tenants_that_compete_end_up_with_similar_shares() -> None:
    cache = create_memory_cache(max_size=900)
    for number in range(3_000):
        for tenant, weight in (("one", 1), ("two", 5), ("three", 10)):
            for part in range(weight):
                await cache.set(f"{number}-{part}", 1, tenant_id=tenant)

    shares = {
        tenant: await cache.invalidate_pattern("*", tenant_id=tenant)
        for tenant in ("one", "two", "three")
    }

    assert sum(shares.values()) == 900
    assert min(shares.values()) >= 150, shares


async def test_bytes_are_bounded_and_too_large_a_value_is_not_kept() -> None:
    cache = create_memory_cache(max_bytes=100_000)
    for number in range(1_000):
        await cache.set(f"k{number}", "x" * 1_000, tenant_id="acme")
    await cache.set("k999", "x" * 200_000, tenant_id="acme")

    held = cache.statistics()

    assert 50_000 < held.size_bytes <= 100_000
    assert held.entries == held.size_bytes // 1_049
    assert await cache.get("k999", tenant_id="acme") is None
    assert await cache.get("k998", tenant_id="acme") == "x" * 1_000


async def test_a_record_weighs_what_its_texts_weigh() -> None:
    cache = create_memory_cache(max_bytes=1_000_000)
    await cache.set("answer", Answer(query="q", answer="x" * 5_000), tenant_id="acme")

    assert cache.statistics().size_bytes > 5_000


async def test_new_value_of_a_tenant_with_one_entry_is_kept_when_room_is_made() -> None:
    cache = create_memory_cache(max_bytes=150)
    await cache.set("a", b"x" * 50, tenant_id="first")
    await cache.set("b", b"x" * 60, tenant_id="second")

    assert await cache.get("b", tenant_id="second") == b"x" * 60
    assert await cache.get("a", tenant_id="first") is None


async def test_statistics_count_what_happened(clock: Clock) -> None:
    cache = create_memory_cache(clock=clock)
    await cache.set("a", 1, ttl=10, tenant_id="acme")
    await cache.set("b", 1, tenant_id="globex")
    await cache.get("a", tenant_id="acme")
    await cache.get("absent", tenant_id="acme")
    clock.now += 11
    await cache.get("a", tenant_id="acme")

    seen = cache.statistics()

    assert (seen.hits, seen.misses, seen.expirations, seen.evictions) == (1, 2, 1, 0)
    assert (seen.entries, seen.tenants) == (1, 1)


async def test_forgetting_a_tenant_leaves_the_counts_right() -> None:
    cache = create_memory_cache(max_size=10)
    await cache.set_many({str(number): 1 for number in range(8)}, tenant_id="acme")
    await cache.invalidate_tenant(tenant_id="acme")
    await cache.set_many({str(number): 1 for number in range(10)}, tenant_id="globex")

    assert cache.statistics().entries == 10
    assert cache.statistics().evictions == 0


async def test_leaving_the_cache_forgets_everything() -> None:
    async with create_memory_cache() as cache:
        await cache.set("a", 1, tenant_id="acme")

    assert cache.statistics().entries == 0
    assert isinstance(cache, Component)


async def test_set_many_stores_nothing_when_one_value_cannot_be_stored() -> None:
    cache = create_memory_cache()
    with pytest.raises(CacheError):
        await cache.set_many({"a": 1, "b": object()}, tenant_id="acme")
    with pytest.raises(CacheError):
        await cache.set_many({"a": 1, "b\n": 2}, tenant_id="acme")
    with pytest.raises(CacheError):
        await cache.set_many({"a": 1}, ttl=0, tenant_id="acme")

    assert cache.statistics().entries == 0


async def test_tenant_that_reaches_its_quota_makes_room_itself() -> None:
    cache = create_memory_cache(tenant_max_bytes=1_000)
    await cache.set("quiet", "x" * 100, tenant_id="globex")
    for number in range(50):
        await cache.set(f"k{number}", "x" * 100, tenant_id="acme")
    await cache.set("large", "x" * 2_000, tenant_id="acme")

    assert await cache.get("quiet", tenant_id="globex") == "x" * 100
    assert await cache.get("k49", tenant_id="acme") == "x" * 100
    assert await cache.get("large", tenant_id="acme") is None
    assert cache.statistics().size_bytes < 1_400


async def test_jitter_lets_what_was_stored_together_end_at_different_times() -> None:
    clock = Clock()
    cache = create_memory_cache(100, jitter=0.5, clock=clock)
    keys = [f"k{number}" for number in range(200)]
    await cache.set_many(dict.fromkeys(keys, 1), tenant_id="acme")

    clock.now += 49
    early = await cache.get_many(keys, tenant_id="acme")
    clock.now += 26
    midway = await cache.get_many(keys, tenant_id="acme")
    clock.now += 26
    late = await cache.get_many(keys, tenant_id="acme")

    assert len(early) == 200
    assert 50 < len(midway) < 150
    assert late == {}


def test_jitter_that_leaves_no_life_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no share of a life"):
        create_memory_cache(jitter=1.0)


@pytest.mark.parametrize(
    "limits",
    [{"max_size": 0}, {"max_bytes": 0}, {"max_size": -1}, {"tenant_max_bytes": 0}],
)
def test_cache_without_room_is_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match="leaves no room"):
        create_memory_cache(**limits)


@pytest.mark.parametrize("part", [None, 5, ["a"], b"a"])
async def test_part_of_a_key_that_is_no_text_is_a_typed_error(part: object) -> None:
    cache = create_memory_cache()
    with pytest.raises(CacheError):
        await cache.get(part, tenant_id="acme")  # type: ignore[arg-type]  # the point of the test
    with pytest.raises(InvalidIdentifierError):
        await cache.set("a", 1, namespace=part, tenant_id="acme")  # type: ignore[arg-type]  # as above


async def test_value_nested_too_deep_is_refused() -> None:
    value: list[object] = []
    value.append(value)

    with pytest.raises(CacheError, match="64 levels"):
        await create_memory_cache().set("a", value, tenant_id="acme")


async def test_computation_that_asks_for_itself_is_an_error_and_no_deadlock() -> None:
    cache = create_memory_cache()

    async def compute() -> object:
        return await cache.get_or_compute("key", compute, tenant_id="acme")

    with pytest.raises(CacheError, match="asks for itself"):
        await cache.get_or_compute("key", compute, tenant_id="acme")


async def test_computation_cancelled_from_within_is_an_error_of_those_who_wait() -> None:
    async def compute() -> object:
        raise asyncio.CancelledError

    with pytest.raises(CacheError, match="was cancelled") as caught:
        await create_memory_cache().get_or_compute("key", compute, tenant_id="acme")

    assert caught.value.retryable


async def test_caller_goes_on_only_when_its_cancelled_computation_has_cleaned_up() -> None:
    cache = create_memory_cache()
    steps: list[str] = []

    async def compute() -> object:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            steps.append("cleaned up")

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await cache.get_or_compute("key", compute, tenant_id="acme")
    steps.append("went on")

    assert steps == ["cleaned up", "went on"]


async def test_caller_with_a_deadline_leaves_a_computation_that_ignores_its_cancellation() -> None:
    gate, ended = asyncio.Event(), asyncio.Event()

    async def compute() -> object:
        try:
            await gate.wait()
        except asyncio.CancelledError:
            await gate.wait()
        ended.set()
        return "stale"

    async with create_memory_cache() as cache:
        started = time.monotonic()
        with pytest.raises(DeadlineExceededError), deadline_scope(0.05):
            await cache.get_or_compute("key", compute, tenant_id="acme")
        took = time.monotonic() - started
        asyncio.get_running_loop().call_later(0.05, gate.set)
    # Leaving the cache waits for it, and nobody is told what it came to.
    assert ended.is_set()
    assert await cache.get("key", tenant_id="acme") is None
    assert took < 2


async def test_caller_that_comes_after_an_invalidation_gets_a_fresh_value() -> None:
    cache = create_memory_cache()
    gates = [asyncio.Event(), asyncio.Event()]
    runs = 0

    async def compute() -> object:
        nonlocal runs
        runs += 1
        run = runs
        await gates[run - 1].wait()
        return run

    before = asyncio.create_task(cache.get_or_compute("key", compute, tenant_id="acme"))
    await asyncio.sleep(0)
    await cache.invalidate_tenant(tenant_id="acme")
    after = asyncio.create_task(cache.get_or_compute("key", compute, tenant_id="acme"))
    await asyncio.sleep(0)
    gates[1].set()
    assert await after == 2
    gates[0].set()
    assert await before == 1

    assert await cache.get("key", tenant_id="acme") == 2


async def test_storm_of_cancellations_mixes_no_tenants_and_leaves_nothing_running() -> None:
    cache = create_memory_cache(max_size=50)
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
        tenant, key = f"t{number % 7}", f"k{number % 11}"
        expected = f"{tenant}/{key}"
        got = await cache.get_or_compute(key, lambda: compute(expected), tenant_id=tenant)
        assert got == expected

    tasks = [asyncio.create_task(ask(number)) for number in range(2_000)]
    for number, task in enumerate(tasks):
        if number % 2:
            task.cancel()
        if number % 50 == 0:
            await asyncio.sleep(0)
    results = await asyncio.gather(*tasks, return_exceptions=True)

    wrong = [
        result
        for result in results
        if result is not None and not isinstance(result, asyncio.CancelledError)
    ]
    assert wrong == []
    assert running == 0
    assert cache._engine.flights._flights == {}


def test_threads_with_loops_of_their_own_share_one_cache() -> None:
    cache = create_memory_cache(max_size=64)
    failures: list[BaseException] = []

    async def work(worker: int) -> None:
        tenant = f"t{worker % 2}"
        for number in range(1_500):
            key = f"k{number % 100}"
            await cache.set(key, f"{tenant}/{key}", tenant_id=tenant)
            assert await cache.get(f"k{(number + worker) % 100}", tenant_id=tenant) in (
                None,
                f"{tenant}/k{(number + worker) % 100}",
            )
            value = await cache.get_or_compute(key, lambda: asyncio.sleep(0, "x"), tenant_id="both")
            assert value == "x"
            if number % 200 == 0:
                await cache.invalidate_tenant(tenant_id=tenant)
                await cache.invalidate_pattern("k1*", tenant_id="both")

    def run(worker: int) -> None:
        try:
            asyncio.run(work(worker))
        except Exception as error:  # noqa: BLE001 - the main thread looks at all of them
            failures.append(error)

    threads = [threading.Thread(target=run, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert cache.statistics().entries <= 64


def test_pattern_with_many_stars_takes_no_more_than_linear_time() -> None:
    matches = compile_glob("*a" * 200 + "*b").match
    started = time.process_time()

    assert matches("a" * 512) is None
    assert time.process_time() - started < 0.5


@given(
    pattern=st.text(alphabet="ab*?.[\\", min_size=1, max_size=12),
    key=st.text(alphabet="ab.[\\", min_size=1, max_size=12),
)
@settings(max_examples=200)
def test_glob_agrees_with_its_definition(pattern: str, key: str) -> None:
    assert (compile_glob(pattern).match(key) is not None) == _matches(pattern, key)


def _matches(pattern: str, key: str) -> bool:
    if not pattern:
        return not key
    if pattern[0] == "*":
        return any(_matches(pattern[1:], key[start:]) for start in range(len(key) + 1))
    return bool(key) and pattern[0] in ("?", key[0]) and _matches(pattern[1:], key[1:])


class StoreAgainstAModel(RuleBasedStateMachine):
    """The store against a plain dict: it may forget, and never returns anything else."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.store = Store(max_size=8, max_bytes=60, tenant_max_bytes=40, clock=self.clock)
        self.model: dict[tuple[str, str], tuple[int, float]] = {}

    tenants = st.sampled_from(["a", "b", "c"])
    keys = st.sampled_from(["k1", "k2", "k3", "k4"])

    @rule(
        tenant=tenants,
        key=keys,
        value=st.integers(),
        ttl=st.floats(0.1, 10),
        size=st.integers(1, 70),
    )
    def put(self, tenant: str, key: str, value: int, ttl: float, size: int) -> None:
        self.store.put(cache_key(tenant, "n", key), value, ttl=ttl, size=size)
        self.model[tenant, key] = (value, self.clock.now + ttl)
        fits = size <= 40
        assert (self.store.get(tenant, "n", key) == value) == fits

    @rule(tenant=tenants, key=keys)
    def get(self, tenant: str, key: str) -> None:
        value, expires_at = self.model.get((tenant, key), (None, 0.0))
        got = self.store.get(tenant, "n", key)
        assert got is None or (got == value and expires_at > self.clock.now)

    @rule(tenant=tenants, key=keys)
    def pop(self, tenant: str, key: str) -> None:
        self.store.pop(cache_key(tenant, "n", key))
        self.model.pop((tenant, key), None)

    @rule(tenant=tenants)
    def drop(self, tenant: str) -> None:
        self.store.drop_tenant(tenant)
        self.model = {place: kept for place, kept in self.model.items() if place[0] != tenant}

    @rule(seconds=st.floats(0, 5))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def counts_are_right_and_within_the_bounds(self) -> None:
        held = self.store.statistics()
        shelves = self.store._shelves
        assert held.entries == sum(len(shelf.entries) for shelf in shelves.values()) <= 8
        assert held.size_bytes == sum(shelf.size for shelf in shelves.values()) <= 60
        assert all(shelf.entries and shelf.size <= 40 for shelf in shelves.values())
        ranked = sorted(tenant for rank in self.store._ranks for tenant in rank)
        assert ranked == sorted(shelves)


TestStoreAgainstAModel = StoreAgainstAModel.TestCase
TestStoreAgainstAModel.settings = settings(max_examples=50)


async def test_vector_is_kept_as_a_cache_on_a_server_would_keep_it() -> None:
    numpy = pytest.importorskip("numpy")
    vector = numpy.arange(384, dtype="float32")
    cache = create_memory_cache(max_bytes=100_000)
    await cache.set("v", {"vectors": [vector]}, tenant_id="acme")
    vector[0] = 7
    got = await cache.get("v", tenant_id="acme")

    assert isinstance(got, dict)
    kept = got["vectors"][0]
    assert kept[0] == 0
    assert kept.dtype == vector.dtype
    assert not kept.flags.writeable
    assert cache.statistics().size_bytes > vector.nbytes


@pytest.mark.parametrize("numbers", [[float("nan")], [[1.0]], [1]])
async def test_array_that_no_codec_encodes_is_refused(numbers: list[object]) -> None:
    numpy = pytest.importorskip("numpy")
    with pytest.raises(CacheError):
        await create_memory_cache().set("v", numpy.array(numbers), tenant_id="acme")


def test_records_are_taken_as_they_are() -> None:
    assert issubclass(Answer, Record)


def test_a_scan_of_keys_that_nobody_asks_for_again_leaves_the_hit_ratio_high() -> None:
    """A Zipf trace with a scan in its middle; least recently used reaches 0.505 on it."""
    chance = random.Random(11)
    weights = [1 / rank for rank in range(1, 50_001)]
    trace = [f"k{number}" for number in chance.choices(range(50_000), weights, k=60_000)]
    trace[30_000:30_000] = [f"scan{number}" for number in range(5_000)]
    store = Store(max_size=1_000, max_bytes=None, clock=Clock())
    for key in trace:
        if store.get("acme", "n", key) is None:
            store.put(cache_key("acme", "n", key), 1, ttl=60, size=0)

    assert store.statistics().hits / len(trace) >= 0.56


def test_what_was_read_outlives_what_was_not_however_long_ago_it_came() -> None:
    store = Store(max_size=20, max_bytes=None, clock=Clock())
    for number in range(100):
        store.put(cache_key("acme", "n", f"k{number}"), number, ttl=60, size=0)
        assert store.get("acme", "n", "k0") == 0

    assert store.statistics().entries == 20


def test_shelf_whose_every_value_is_read_again_and_again_still_makes_room_in_few_steps() -> None:
    store = Store(max_size=5_000, max_bytes=None, clock=Clock())
    for number in range(20_000):
        store.put(cache_key("acme", "n", f"k{number}"), number, ttl=60, size=0)
        store.get("acme", "n", f"k{number}")
    for key in store.keys("acme", "n"):
        store.get("acme", "n", key)
    store.put(cache_key("acme", "n", "one more"), 1, ttl=60, size=0)

    turned = [entry for entry in store._shelves["acme"].entries.values() if not entry.was_read]
    assert len(turned) <= 65
    assert store.get("acme", "n", "one more") == 1


def test_what_is_remembered_of_values_that_went_is_bounded_by_those_that_are_held() -> None:
    store = Store(max_size=50, max_bytes=None, clock=Clock())
    for number in range(5_000):
        store.put(cache_key(f"t{number % 3}", "n", f"k{number}"), number, ttl=60, size=0)

    assert sum(len(shelf._gone) for shelf in store._shelves.values()) <= 50
