"""Whatever tenants do, cancelled or on breaking connections, none meets what is another's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import asyncpg
import pytest

from motadata.core.cache import create_memory_cache, create_redis_cache, create_tiered_cache
from motadata.core.database import create_database
from motadata.core.embedded import EmbeddedNats, EmbeddedRedis
from motadata.core.messaging import NatsCredentials, create_in_process_bus, create_message_bus
from motadata.core.testing.database import CONFORMANCE_MIGRATIONS
from motadata.core.testing.fault_proxy import FaultProxy
from motadata.core.testing.isolation import (
    BusSite,
    CacheSite,
    LogSite,
    MetricSite,
    NetworkSite,
    Site,
    TableSite,
    World,
    check_isolation,
    random_operations,
)
from motadata.core.testing.plugin import DatabaseDsns


# These tests break connections.
pytestmark = pytest.mark.usefixtures("drivers_drop_sockets")


ALWAYS_THERE = 8
"""Tasks that a store may start while it works, such as a connection's reader."""
LEASE = 0.2
"""Seconds; a computation that was cancelled on the way may hold its key up for as long."""


@pytest.fixture(scope="module")
def migration_packages() -> tuple[str, ...]:
    return (CONFORMANCE_MIGRATIONS,)


async def every_store(
    stack: AsyncExitStack, dsn: str, redis: EmbeddedRedis, nats: EmbeddedNats
) -> Sequence[Site]:
    enter = stack.enter_async_context
    token = NatsCredentials(token=nats.token)
    return (
        CacheSite(create_memory_cache(), name="memory cache", weight=4),
        *await shared_caches(stack, redis, lease=LEASE),
        # Fewer connections than tenants: each is used by all of them in turn.
        TableSite(await enter(create_database(dsn, max_connections=3)), weight=4),
        BusSite(await enter(create_in_process_bus()), name="in-process bus", weight=2),
        BusSite(
            await enter(create_message_bus(nats.url, credentials=token)), name="nats", weight=2
        ),
        LogSite(weight=2),
        MetricSite(weight=2),
    )


async def shared_caches(
    stack: AsyncExitStack, redis: EmbeddedRedis, *, lease: float
) -> tuple[CacheSite, CacheSite]:
    apart = apart_from(redis.url.get_secret_value())
    enter = stack.enter_async_context
    shared = await enter(create_redis_cache(redis.url, timeout=20, lease=lease))
    tiered = await enter(create_tiered_cache(apart, timeout=20, lease=lease))
    return (
        CacheSite(
            shared,
            name="redis cache",
            weight=3,
            overtaken=lambda: shared.statistics().overtaken,
        ),
        CacheSite(
            tiered,
            name="tiered cache",
            weight=3,
            overtaken=lambda: tiered.statistics().far.overtaken,
        ),
    )


def apart_from(url: str) -> str:
    """Name another database of the same server: each cache's model knows only its own writes."""
    return f"{url.rstrip('/')}/1"


def test_no_sequence_of_operations_lets_tenants_meet_in_any_store(
    database_dsns: DatabaseDsns,
    embedded_redis: EmbeddedRedis,
    embedded_nats: EmbeddedNats,
):
    @asynccontextmanager
    async def open_world() -> AsyncIterator[World]:
        async with AsyncExitStack() as stack:
            sites = await every_store(stack, database_dsns.runtime, embedded_redis, embedded_nats)
            yield await stack.enter_async_context(World(sites))

    report = check_isolation(open_world, examples=40, operations=3_000)

    assert all(count > 20 for count in report.operations.values())
    assert 0 < report.unknown < 0.3 * sum(report.operations.values())


async def test_tenants_find_what_is_theirs_though_computations_outlive_their_leases(
    embedded_redis: EmbeddedRedis,
):
    async with AsyncExitStack() as stack:
        sites = await shared_caches(stack, embedded_redis, lease=0.002)
        world = await stack.enter_async_context(World(sites))
        await world.run(random_operations(world, seed=6, count=3_000))

        assert sum(site.overtaken() for site in sites) > 0


async def test_a_storm_of_cancelled_calls_mixes_up_no_answers_and_leaks_no_connections(
    database_dsns: DatabaseDsns, embedded_redis: EmbeddedRedis, embedded_nats: EmbeddedNats
):
    async def connections() -> tuple[int, int]:
        redis = client.from_url(embedded_redis.url.get_secret_value())
        listed = len(await redis.client_list())
        await redis.aclose()
        administrator = await asyncpg.connect(database_dsns.administrator)
        counted = await administrator.fetchval(
            "select count(*) from pg_stat_activity where datname = current_database()"
            " and state <> 'idle' and pid <> pg_backend_pid()"
        )
        await administrator.close()
        return listed, counted

    client = pytest.importorskip("redis.asyncio").Redis
    async with AsyncExitStack() as stack:
        sites = await every_store(stack, database_dsns.runtime, embedded_redis, embedded_nats)
        # What never waits cannot be given up in flight.
        sites = sites[1:6]
        world = await stack.enter_async_context(World(sites))
        before = asyncio.all_tasks()
        # Some return before they are given up: half of all are cancelled in flight.
        await world.run(random_operations(world, seed=3, count=2_000, cancelled=0.75))

        assert sum(site.unknown for site in sites) / 2_000 == pytest.approx(0.5, abs=0.1)
        # All of the pool is free again, and no task outlives its caller for long.
        async with asyncio.timeout(20):
            while (  # noqa: ASYNC110 - nothing tells
                (await connections())[1] or len(asyncio.all_tasks() - before) > ALWAYS_THERE
            ):
                await asyncio.sleep(0.05)
        assert (await connections())[0] < 64
        await world.run(random_operations(world, seed=4, count=200, cancelled=0))


@pytest.fixture
async def proxies(
    database_dsns: DatabaseDsns, embedded_redis: EmbeddedRedis, embedded_nats: EmbeddedNats
) -> AsyncIterator[tuple[FaultProxy, FaultProxy, FaultProxy]]:
    directory = parse_qs(urlsplit(database_dsns.runtime).query)["host"][0]
    port = urlsplit(database_dsns.runtime).port or 5432
    async with (
        FaultProxy(str(Path(directory) / f".s.PGSQL.{port}"), seed=1) as postgres,
        FaultProxy(("127.0.0.1", embedded_redis.port), seed=2) as redis,
        FaultProxy(("127.0.0.1", urlsplit(embedded_nats.url).port or 4222), seed=3) as nats,
    ):
        yield postgres, redis, nats


def rerouted(url: str, port: int) -> str:
    """Point an address to a port of this machine; a Unix socket's path goes away."""
    parts = urlsplit(url)
    name = f"{quote(parts.username or '')}:{parts.password}@" if parts.password else ""
    return f"{parts.scheme}://{name}127.0.0.1:{port}{parts.path}"


async def stores_behind(
    proxies: tuple[FaultProxy, FaultProxy, FaultProxy],
    stack: AsyncExitStack,
    dsn: str,
    redis: EmbeddedRedis,
) -> list[Site]:
    redis_url = rerouted(redis.url.get_secret_value(), proxies[1].port)
    address = rerouted(dsn, proxies[0].port)
    enter = stack.enter_async_context
    return [
        CacheSite(
            await enter(create_redis_cache(redis_url, timeout=1, lease=LEASE)),
            name="redis cache",
            forgetful=True,
            weight=4,
        ),
        CacheSite(
            await enter(create_tiered_cache(apart_from(redis_url), timeout=1, lease=LEASE)),
            name="tiered cache",
            forgetful=True,
            weight=4,
        ),
        TableSite(
            await enter(create_database(address, max_connections=3, timeout=5)),
            forgetful=True,
            weight=4,
        ),
        LogSite(weight=1),
        NetworkSite(proxies[:2]),
    ]


async def test_tenants_stay_apart_while_connections_break(
    database_dsns: DatabaseDsns,
    embedded_redis: EmbeddedRedis,
    proxies: tuple[FaultProxy, FaultProxy, FaultProxy],
):
    async with AsyncExitStack() as stack:
        sites = await stores_behind(proxies, stack, database_dsns.runtime, embedded_redis)
        world = await stack.enter_async_context(World(sites))
        await world.run(random_operations(world, seed=5, count=800))

        for site in sites[:3]:
            assert 0 < site.unknown < world.counts[site.name]
        assert sum(proxy.counts.cuts for proxy in proxies) > 5


@pytest.mark.soak
@pytest.mark.timeout(600)
# nats-py drops the streams of broken connections without closing them.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("seed", range(5))
async def test_tenants_stay_apart_while_connections_break_for_long(
    database_dsns: DatabaseDsns,
    embedded_redis: EmbeddedRedis,
    embedded_nats: EmbeddedNats,
    proxies: tuple[FaultProxy, FaultProxy, FaultProxy],
    seed: int,
):
    token = NatsCredentials(token=embedded_nats.token)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        sites = await stores_behind(proxies, stack, database_dsns.runtime, embedded_redis)
        bus = create_message_bus(f"nats://127.0.0.1:{proxies[2].port}", credentials=token)
        sites[-1] = BusSite(await enter(bus), name="nats", forgetful=True)
        world = await enter(World([*sites, NetworkSite(proxies)]))
        await world.run(random_operations(world, seed=seed, count=3_000))
