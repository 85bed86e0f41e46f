"""Break real servers and their connections under load, and count what that costs a caller.

    python tools/bench/faults.py [--seconds 6] [--rounds 1] [--only redis,cluster,postgres,…]

One row a fault, which happens `--rounds` times. Each load has a deadline around every call.
`answered` counts calls that returned a right answer; the others got a typed error. `lost` and
`twice` compare what was acknowledged with what is stored afterwards; `torn` counts transactions of
which a part is there. `over` counts calls that outlived their deadline by more than 50 ms, `late`
is by how much the slowest did, and `stall` the longest that this process itself did not get to run,
which no deadline can undercut. The last part measures what the caches promise.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

import asyncpg
import psutil
from fault_loads import CacheLoad, StreamLoad, TableLoad
from fault_promises import promises
from fault_rows import Break, Load, Rows, nothing, refusing, stalling, weather

from motadata.core.cache import create_tiered_cache
from motadata.core.database import apply_migrations, create_database
from motadata.core.embedded import (
    EmbeddedNats,
    EmbeddedNatsCluster,
    EmbeddedPostgres,
    EmbeddedRedis,
    EmbeddedRedisCluster,
)
from motadata.core.errors import ConfigurationError
from motadata.core.messaging import NatsCredentials, create_message_bus
from motadata.core.observability import configure_observability
from motadata.core.testing.database import CONFORMANCE_MIGRATIONS
from motadata.core.testing.fault_proxy import FaultProxy, Faults
from motadata.core.testing.redis_cluster import all_hosts, primary_ports, until_whole


WEATHER: Final[Mapping[str, Faults]] = {
    "slow": Faults(latency=0.05, jitter=0.05, bytes_per_second=200_000),
    "torn": Faults(torn=3),
    "cut by RST": Faults(cut_every=20_000),
    "cut by FIN": Faults(cut_every=20_000, cut_by="close"),
    "bits flipped in answers": Faults(flip_every=20_000, flip_towards="client"),
    "silent": Faults(silent=True),
}
FAIL_OVER: Final = 16.0
"""Seconds a round takes in which another server has to take over."""


async def all_weather(name: str, load: Load, proxy: FaultProxy, rows: Rows) -> None:
    """Print the rows of every fault of a connection."""
    await rows.row(f"{name}: nothing", load, nothing, nothing)
    for title, faults in WEATHER.items():
        await rows.row(f"{name}: {title}", load, *weather(proxy, faults))
        proxy.cut()
    await rows.row(f"{name}: refused", load, *refusing(proxy))
    await rows.row(f"{name}: stalled", load, *stalling(proxy))


async def redis(folder: Path, rows: Rows) -> None:
    """Break the Redis-protocol server behind a tiered cache."""
    async with (
        EmbeddedRedis(folder / "redis") as server,
        FaultProxy(("127.0.0.1", server.port), seed=1) as proxy,
    ):
        url = server.url.get_secret_value().replace(str(server.port), str(proxy.port))
        async with create_tiered_cache(url) as cache:
            load = CacheLoad(cache)
            await load.fill()
            await all_weather("redis", load, proxy, rows)

            async def halt() -> None:
                server.pause()

            async def go_on() -> None:
                server.resume()

            await rows.row("redis: SIGSTOP, SIGCONT", load, halt, go_on)
            await rows.row("redis: kill -9, start", load, server.kill, server.start)


async def cluster(folder: Path, rows: Rows) -> None:
    """Kill one master after another of a Redis-protocol cluster behind a tiered cache."""
    async with (
        EmbeddedRedisCluster(folder / "redis") as servers,
        create_tiered_cache(all_hosts(servers)) as cache,
    ):
        load = CacheLoad(cache, tenants=[f"tenant-{number}" for number in range(16)])
        await load.fill()
        await rows.row("redis cluster: nothing", load, nothing, nothing)
        dead = 0

        async def kill() -> None:
            nonlocal dead
            dead, *_ = await primary_ports(servers)
            await servers.kill(dead)

        async def start() -> None:
            await servers.start(dead)
            await until_whole(servers)

        await rows.row("redis cluster: kill -9 of a master", load, kill, start, least=FAIL_OVER)


async def postgres(folder: Path, rows: Rows) -> None:
    """Break PostgreSQL in the middle of transactions."""
    await asyncio.to_thread(folder.chmod, 0o755)  # it runs under another account when we are root
    async with EmbeddedPostgres(folder / "pg", keep=False) as server:
        await apply_migrations(
            server.owner_dsn, [CONFORMANCE_MIGRATIONS], runtime_role=server.runtime_role
        )
        host = parse_qs(urlsplit(server.runtime_dsn).query)["host"][0]
        async with FaultProxy(str(Path(host) / ".s.PGSQL.5432"), seed=2) as proxy:
            parts = urlsplit(server.runtime_dsn)
            dsn = f"{parts.scheme}://{parts.username}:{parts.password}@127.0.0.1:{proxy.port}{parts.path}"
            async with create_database(dsn, max_connections=8) as database:
                load = TableLoad(database, server.administrator_dsn)
                await all_weather("postgres", load, proxy, rows)
                # Each transaction is open for so long that the fault falls into some.
                load = TableLoad(database, server.administrator_dsn, name="held", hold=0.01)

                async def kill_one() -> None:
                    await _kill_a_backend(server.administrator_dsn)

                async def kill_all() -> None:
                    _kill_the_server(server)

                async def start() -> None:
                    await _start_again(server)

                await rows.row("postgres: kill -9 of a backend", load, kill_one, nothing)
                await rows.row("postgres: kill -9 of the server, start", load, kill_all, start)
            async with create_database(dsn, max_connections=2) as database:
                load = TableLoad(
                    database, server.administrator_dsn, name="full", workers=64, hold=0.02
                )
                await rows.row("postgres: full pool", load, nothing, nothing)


async def _kill_a_backend(dsn: str) -> None:
    """Kill a process that is inside a transaction: all of PostgreSQL restarts from its log."""
    connection = await asyncpg.connect(dsn)
    try:
        process = await connection.fetchval(
            "select pid from pg_stat_activity where usename <> current_user and pid <>"
            " pg_backend_pid() and backend_type = 'client backend' order by xact_start limit 1"
        )
    finally:
        await connection.close()
    os.kill(process, signal.SIGKILL)


def _kill_the_server(server: EmbeddedPostgres) -> None:
    """Kill every process of the server at once, as a power cut would."""
    (file,) = server.directory.rglob("postmaster.pid")
    first = psutil.Process(int(file.read_text().split()[0]))
    for process in [first, *first.children(recursive=True)]:
        process.kill()


async def _start_again(server: EmbeddedPostgres) -> None:
    """Start a server that was killed, as soon as its processes are gone."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await server.start()
            except ConfigurationError:
                await asyncio.sleep(0.1)


async def nats(folder: Path, rows: Rows) -> None:
    """Break NATS under events that must be stored exactly once."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(EmbeddedNats(folder / "nats"))
        port = urlsplit(server.url).port or 4222
        proxy = await stack.enter_async_context(FaultProxy(("127.0.0.1", port), seed=3))
        credentials = NatsCredentials(token=server.token)
        bus = create_message_bus(f"nats://127.0.0.1:{proxy.port}", credentials=credentials)
        load = StreamLoad(await stack.enter_async_context(bus), [server.url], server.token)
        await all_weather("nats", load, proxy, rows)

        async def halt() -> None:
            os.kill(server.pid or 0, signal.SIGSTOP)

        async def go_on() -> None:
            os.kill(server.pid or 0, signal.SIGCONT)

        await rows.row("nats: SIGSTOP, SIGCONT", load, halt, go_on)
        await rows.row("nats: kill -9, start", load, server.kill, server.start)
        async with _publishers(server, load, seconds=5.0 * rows.rounds) as (kill, restart):
            await rows.row("nats: publishers killed before acks", load, kill, restart, rounds=1)
    async with EmbeddedNatsCluster(folder / "cluster") as cluster:
        credentials = NatsCredentials(token=cluster.token)
        async with create_message_bus(
            cluster.urls, credentials=credentials, durability="replicated"
        ) as bus:
            load = StreamLoad(bus, cluster.urls, cluster.token)
            dead = ""

            async def kill_leader() -> None:
                nonlocal dead
                dead = await load.leader()
                await cluster.kill(dead)

            async def start_again() -> None:
                await cluster.start(dead)

            title = "nats: kill -9 of the leader of three"
            await rows.row(title, load, kill_leader, start_again, least=FAIL_OVER)


@asynccontextmanager
async def _publishers(
    server: EmbeddedNats, load: StreamLoad, *, seconds: float
) -> AsyncIterator[tuple[Break, Break]]:
    """Run publishers in processes of their own, to be killed and to begin where they left off."""
    stop = asyncio.Event()
    program = Path(__file__).with_name("fault_loads.py")

    async def publish(name: str) -> None:
        done = 0
        while not stop.is_set():
            process = await asyncio.create_subprocess_exec(
                sys.executable, str(program), server.url, load.event_type, name, str(done),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{server.token.get_secret_value()}\n".encode())
            killer = asyncio.create_task(_kill_later(process, stop))
            async for line in process.stdout:
                done = int(line) + 1
                load.acknowledged.add(f"{name}-{int(line)}")
            await process.wait()
            await killer

    tasks = [asyncio.create_task(publish(f"p{number}")) for number in range(2)]

    async def wait_for_some() -> None:
        await asyncio.sleep(seconds)
        # Before what is stored is read, which would not end while more comes faster than that.
        stop.set()
        await asyncio.gather(*tasks)

    try:
        yield wait_for_some, nothing
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def _kill_later(process: asyncio.subprocess.Process, stop: asyncio.Event) -> None:
    """Kill a process a moment after its start, or when all end."""
    try:
        async with asyncio.timeout(2.5):
            await stop.wait()
    except TimeoutError:
        pass
    if process.returncode is None:
        process.kill()


async def _promises(folder: Path, rows: Rows) -> None:
    await promises(folder, rounds=rows.rounds)


PARTS: Final[Mapping[str, Callable[[Path, Rows], Coroutine[object, object, None]]]] = {
    "redis": redis,
    "cluster": cluster,
    "postgres": postgres,
    "nats": nats,
    "promises": _promises,
}


async def main() -> None:
    """Print every row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", default=",".join(PARTS))
    options = parser.parse_args()
    # Complaints about what we break, the drivers' and ours.
    logging.disable(logging.CRITICAL)
    configure_observability(level="ERROR", sink=lambda _: None)
    # A full collection of all that was imported would stall every caller for 40 ms.
    gc.collect()
    gc.freeze()
    rows = Rows(options.seconds, options.rounds)
    rows.head()
    for name in options.only.split(","):
        with tempfile.TemporaryDirectory(prefix="faults-") as folder:
            await PARTS[name](Path(folder), rows)


if __name__ == "__main__":
    asyncio.run(main())
