"""Let ten tenants act on every store at once, a million times, and count what leaks.

    python tools/bench/isolation.py [--operations 1000000] [--storm 100000] [--disturbed 5000]

The stores are real: PostgreSQL with three connections, a Redis-protocol server, NATS with
JetStream, and those in memory. The first part has quiet servers, so that every answer is compared
with the one right answer, a fifth of the calls being cancelled in flight; in the second it is about
half of them. In the third, connections are cut, slow and torn and the Redis-protocol server is
killed meanwhile; answers may be missing then, never another tenant's. Exit status 1 when anything
leaked.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import logging
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

from asked import asked

from motadata.core.cache import create_memory_cache, create_redis_cache, create_tiered_cache
from motadata.core.database import apply_migrations, create_database
from motadata.core.embedded import EmbeddedNats, EmbeddedPostgres, EmbeddedRedis
from motadata.core.messaging import NatsCredentials, create_in_process_bus, create_message_bus
from motadata.core.testing.database import CONFORMANCE_MIGRATIONS
from motadata.core.testing.fault_proxy import FaultProxy
from motadata.core.testing.isolation import (
    BusSite,
    CacheSite,
    Leak,
    LogSite,
    MetricSite,
    NetworkSite,
    Site,
    TableSite,
    World,
    random_operations,
)


BATCH = 20_000
LEASE = 0.2
"""Seconds; a computation that outlives its lease, as when this process gets no turn for so long, is
returned and not stored. Each cache counts those, and the site takes its word for it."""


class Servers:
    """The servers, each behind a proxy that stays quiet until asked."""

    def __init__(
        self, postgres: EmbeddedPostgres, redis: EmbeddedRedis, nats: EmbeddedNats
    ) -> None:
        self.postgres = postgres
        self.redis = redis
        self.nats = nats
        self._failing_over = asyncio.Lock()
        host = parse_qs(urlsplit(postgres.runtime_dsn).query)["host"][0]
        self.proxies = (
            FaultProxy(str(Path(host) / ".s.PGSQL.5432"), seed=1),
            FaultProxy(("127.0.0.1", redis.port), seed=2),
            FaultProxy(("127.0.0.1", urlsplit(nats.url).port or 4222), seed=3),
        )

    async def fail_over(self) -> None:
        """Kill the Redis-protocol server and start it again, with nothing in it."""
        # One after the other: a second kill would fall into the first one's start.
        async with self._failing_over:
            await self.redis.kill()
            await self.redis.start()


async def sites(
    stack: AsyncExitStack, servers: Servers, *, disturbed: bool, storm: bool
) -> list[Site]:
    """Open every store, through the proxies where it shall be disturbed."""
    enter = stack.enter_async_context
    dsn, redis_url = servers.postgres.runtime_dsn, servers.redis.url.get_secret_value()
    nats_url = servers.nats.url
    if disturbed:
        ports = [proxy.port for proxy in servers.proxies]
        dsn, redis_url = rerouted(dsn, ports[0]), rerouted(redis_url, ports[1])
        nats_url = f"nats://127.0.0.1:{ports[2]}"
    seconds = 1.0 if disturbed else 30.0
    redis = await enter(create_redis_cache(redis_url, timeout=seconds, lease=LEASE))
    # Another database of the same server: each model knows only its own writes.
    tiered = await enter(create_tiered_cache(f"{redis_url}/1", timeout=seconds, lease=LEASE))
    database = await enter(create_database(dsn, max_connections=3))
    nats = await enter(
        create_message_bus(nats_url, credentials=NatsCredentials(token=servers.nats.token))
    )
    stores: list[Site] = [
        CacheSite(create_memory_cache(), name="memory cache", weight=58),
        CacheSite(
            redis,
            name="redis cache",
            forgetful=disturbed,
            weight=10,
            overtaken=lambda: redis.statistics().overtaken,
        ),
        CacheSite(
            tiered,
            name="tiered cache",
            forgetful=disturbed,
            weight=10,
            overtaken=lambda: tiered.statistics().far.overtaken,
        ),
        TableSite(database, forgetful=disturbed, weight=10),
        BusSite(await enter(create_in_process_bus()), name="in-process bus", weight=4),
        BusSite(nats, name="nats", forgetful=disturbed, weight=3),
        LogSite(weight=3),
        MetricSite(weight=2),
    ]
    if storm:
        # What never waits cannot be given up in flight.
        return [*stores[1:6], LogSite()]
    if disturbed:
        # The memory-only stores see nothing of faults.
        stores = [*stores[1:4], *stores[5:]]
        stores.append(NetworkSite(servers.proxies, failovers=[servers.fail_over]))
    return stores


def rerouted(url: str, port: int) -> str:
    """Point an address to a port of this machine; a Unix socket's path goes away."""
    parts = urlsplit(url)
    name = f"{quote(parts.username or '')}:{parts.password}@" if parts.password else ""
    return f"{parts.scheme}://{name}127.0.0.1:{port}{parts.path}"


async def part(
    servers: Servers,
    title: str,
    count: int,
    seed: int,
    *,
    disturbed: bool = False,
    storm: bool = False,
) -> bool:
    """Run so many operations; return whether none leaked."""
    if not count:
        return True
    print(f"{title}: {count:,} operations", flush=True)
    cancelled = 0.9 if storm else 0.2  # some of them return before they are given up
    started, done, leak = time.monotonic(), 0, ""
    async with AsyncExitStack() as stack:
        stores = await sites(stack, servers, disturbed=disturbed, storm=storm)
        world = await stack.enter_async_context(World(stores))
        for batch in itertools.count():
            size = min(BATCH, count - done)
            if size <= 0:
                break
            try:
                seeded = seed * 10_000 + batch
                await world.run(
                    random_operations(world, seed=seeded, count=size, cancelled=cancelled)
                )
            except Leak as error:
                leak = str(error)
                break
            done += size
            await world.reset()
            seconds = time.monotonic() - started
            print(f"  {done:>9,}  {seconds:6.0f} s  {done / seconds:6.0f}/s", flush=True)
        for site in stores:
            if isinstance(site, CacheSite) and (overtaken := site.overtaken()):
                print(f"  {site.name:16} {overtaken:>9,} values not stored, their lease being over")
            acted = world.counts[site.name]
            share = site.unknown / acted if acted else 0
            print(f"  {site.name:16} {acted:>9,} operations, {share:4.0%} without an answer")
    print(f"  cross-tenant reads, writes and losses: {leak or 0}")
    asked(f"{title}: leaks in {done:,} operations", int(bool(leak)), most=0)
    return not leak


async def main() -> int:
    """Start the servers and run both parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--operations", type=int, default=1_000_000)
    parser.add_argument("--storm", type=int, default=100_000)
    parser.add_argument("--disturbed", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)  # the drivers' complaints about connections that we cut
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="isolation-")))
        # PostgreSQL runs under another account when we are root.
        await asyncio.to_thread(folder.chmod, 0o755)
        postgres = await enter(EmbeddedPostgres(folder / "pg", durable=False, keep=False))
        redis = await enter(EmbeddedRedis(folder / "redis"))
        nats = await enter(EmbeddedNats(folder / "nats"))
        await apply_migrations(
            postgres.owner_dsn, [CONFORMANCE_MIGRATIONS], runtime_role=postgres.runtime_role
        )
        servers = Servers(postgres, redis, nats)
        for proxy in servers.proxies:
            await enter(proxy)
        seed = options.seed
        held = [
            await part(servers, "Quiet servers", options.operations, seed),
            await part(servers, "Storm of cancelled calls", options.storm, seed + 1, storm=True),
            await part(
                servers, "Breaking connections", options.disturbed, seed + 2, disturbed=True
            ),
        ]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
