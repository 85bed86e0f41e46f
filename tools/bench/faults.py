"""Break real servers and their connections under load, and count what that costs a caller.

    python tools/bench/faults.py [--seconds 4] [--only redis,postgres,nats]

One row a fault. Each load has a deadline around every call. `answered` counts calls that returned
a right answer; the others got a typed error. `lost` and `twice` compare what was acknowledged with
what is stored afterwards. `late` is by how much the slowest call outlived its deadline, and `stall`
the longest that this process itself did not get to run, which no deadline can undercut.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import parse_qs, urlsplit

import asyncpg
from fault_loads import CacheLoad, StreamLoad, TableLoad

from motadata.core.cache import create_tiered_cache
from motadata.core.database import apply_migrations, create_database
from motadata.core.embedded import (
    EmbeddedNats,
    EmbeddedNatsCluster,
    EmbeddedPostgres,
    EmbeddedRedis,
)
from motadata.core.errors import SDKError
from motadata.core.messaging import NatsCredentials, create_message_bus
from motadata.core.observability import configure_observability
from motadata.core.resilience import deadline_scope
from motadata.core.testing.database import CONFORMANCE_MIGRATIONS
from motadata.core.testing.fault_proxy import FaultProxy, Faults


Break = Callable[[], Awaitable[None]]

QUIET: Final = 0.5
"""Seconds of load before the fault; the fault itself takes half of the rest."""

WEATHER: Final[Mapping[str, Faults]] = {
    "slow": Faults(latency=0.05, jitter=0.05, bytes_per_second=200_000),
    "torn": Faults(torn=3),
    "cut by RST": Faults(cut_every=20_000),
    "cut by FIN": Faults(cut_every=20_000, cut_by="close"),
    "bits flipped in answers": Faults(flip_every=20_000, flip_towards="client"),
    "silent": Faults(silent=True),
}


class Load(Protocol):
    """Calls on one store, and the account of what it acknowledged."""

    deadline: float
    workers: int

    async def call(self, worker: int, number: int) -> bool:
        """Do one call; tell whether its answer was right."""
        ...

    async def settle(self) -> tuple[int | None, int | None, int | None]:
        """Return how much was acknowledged, lost, and stored twice; None where it means nothing."""
        ...


@dataclass
class Tally:
    """What the callers of one row saw."""

    calls: int = 0
    answered: int = 0
    wrong: int = 0
    late: float = 0.0
    stall: float = 0.0
    untyped: str = ""


async def drive(load: Load, breaking: Break, healing: Break, seconds: float) -> Tally:
    """Run the load, break something meanwhile, heal it, and let the load go on for a while."""
    tally, stop = Tally(), asyncio.Event()
    workers = [asyncio.create_task(_work(load, n, tally, stop)) for n in range(load.workers)]
    watch = asyncio.create_task(_watch(tally, stop))
    await asyncio.sleep(QUIET)
    await breaking()
    await asyncio.sleep((seconds - QUIET) / 2)
    await healing()
    await asyncio.sleep((seconds - QUIET) / 2)
    stop.set()
    await asyncio.gather(watch, *workers)
    return tally


async def _work(load: Load, worker: int, tally: Tally, stop: asyncio.Event) -> None:
    number = 0
    while not stop.is_set():
        number += 1
        tally.calls += 1
        started = time.monotonic()
        try:
            with deadline_scope(load.deadline):
                right = await load.call(worker, number)
        except SDKError:
            await asyncio.sleep(0.005)  # a caller that does not hammer
        except Exception as error:  # noqa: BLE001 - an untyped error is a finding, to be shown
            tally.untyped = type(error).__name__
        else:
            tally.answered += right
            tally.wrong += not right
        tally.late = max(tally.late, time.monotonic() - started - load.deadline)
        await asyncio.sleep(0)


async def _watch(tally: Tally, stop: asyncio.Event) -> None:
    while not stop.is_set():
        started = time.monotonic()
        await asyncio.sleep(0.005)
        tally.stall = max(tally.stall, time.monotonic() - started - 0.005)


async def row(title: str, load: Load, breaking: Break, healing: Break, seconds: float) -> None:
    """Print what one fault did."""
    tally = await drive(load, breaking, healing, seconds)
    acknowledged, lost, twice = await load.settle()
    share = tally.answered / max(1, tally.calls)
    numbers = "".join(f"{'-' if n is None else n:>8}" for n in (acknowledged, lost, twice))
    print(
        f"{title:<46}{tally.calls:>8}{numbers}{share:>9.1%}{tally.wrong:>6}"
        f"{max(0.0, tally.late) * 1e3:>8.0f}{tally.stall * 1e3:>7.0f}  {tally.untyped}",
        flush=True,
    )


async def nothing() -> None:
    """Break or heal nothing."""


def weather(proxy: FaultProxy, faults: Faults) -> tuple[Break, Break]:
    """Return how to make the proxy's network bad and well again."""

    async def worsen() -> None:
        proxy.faults = faults

    async def heal() -> None:
        proxy.faults = Faults()

    return worsen, heal


def refusing(proxy: FaultProxy) -> tuple[Break, Break]:
    """Return how to let a server vanish, as seen from here, and come back."""
    vanish, heal = weather(proxy, Faults(refuse=True))

    async def cut() -> None:
        await vanish()
        proxy.cut()

    return cut, heal


def stalling(proxy: FaultProxy) -> tuple[Break, Break]:
    """Return how to hold all traffic, and let it pass again."""

    async def pause() -> None:
        proxy.pause()

    async def resume() -> None:
        proxy.resume()

    return pause, resume


async def all_weather(name: str, load: Load, proxy: FaultProxy, seconds: float) -> None:
    """Print the rows of every fault of a connection."""
    await row(f"{name}: nothing", load, nothing, nothing, seconds)
    for title, faults in WEATHER.items():
        await row(f"{name}: {title}", load, *weather(proxy, faults), seconds)
        proxy.cut()
    await row(f"{name}: refused", load, *refusing(proxy), seconds)
    await row(f"{name}: stalled", load, *stalling(proxy), seconds)


async def redis(folder: Path, seconds: float) -> None:
    """Break the Redis-protocol server behind a tiered cache."""
    async with (
        EmbeddedRedis(folder / "redis") as server,
        FaultProxy(("127.0.0.1", server.port), seed=1) as proxy,
    ):
        url = server.url.get_secret_value().replace(str(server.port), str(proxy.port))
        async with create_tiered_cache(url) as cache:
            load = CacheLoad(cache)
            await load.fill()
            await all_weather("redis", load, proxy, seconds)

            async def halt() -> None:
                server.pause()

            async def go_on() -> None:
                server.resume()

            await row("redis: SIGSTOP, SIGCONT", load, halt, go_on, seconds)
            await row("redis: kill -9, start", load, server.kill, server.start, seconds)


async def postgres(folder: Path, seconds: float) -> None:
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
                await all_weather("postgres", load, proxy, seconds)

                async def kill() -> None:
                    await _kill_a_backend(server.administrator_dsn)

                await row("postgres: kill -9 in mid-transaction", load, kill, nothing, seconds)
            async with create_database(dsn, max_connections=2) as database:
                load = TableLoad(
                    database, server.administrator_dsn, name="full", workers=64, hold=0.02
                )
                await row("postgres: full pool", load, nothing, nothing, seconds)


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


async def nats(folder: Path, seconds: float) -> None:
    """Break NATS under events that must be stored exactly once."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(EmbeddedNats(folder / "nats"))
        port = urlsplit(server.url).port or 4222
        proxy = await stack.enter_async_context(FaultProxy(("127.0.0.1", port), seed=3))
        credentials = NatsCredentials(token=server.token)
        bus = create_message_bus(f"nats://127.0.0.1:{proxy.port}", credentials=credentials)
        load = StreamLoad(await stack.enter_async_context(bus), [server.url], server.token)
        await all_weather("nats", load, proxy, seconds)

        async def halt() -> None:
            os.kill(server.pid or 0, signal.SIGSTOP)

        async def go_on() -> None:
            os.kill(server.pid or 0, signal.SIGCONT)

        await row("nats: SIGSTOP, SIGCONT", load, halt, go_on, seconds)
        await row("nats: kill -9, start", load, server.kill, server.start, seconds)
        async with _publishers(server, load) as (kill, restart):
            await row("nats: publisher killed before its ack", load, kill, restart, seconds)
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
            await row(title, load, kill_leader, start_again, max(seconds, 16.0))


@asynccontextmanager
async def _publishers(server: EmbeddedNats, load: StreamLoad) -> AsyncIterator[tuple[Break, Break]]:
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
        await asyncio.sleep(5.0)

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


PARTS: Final[Mapping[str, Callable[[Path, float], Coroutine[object, object, None]]]] = {
    "redis": redis,
    "postgres": postgres,
    "nats": nats,
}


async def main() -> None:
    """Print every row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--only", default=",".join(PARTS))
    options = parser.parse_args()
    # Complaints about what we break, the drivers' and ours.
    logging.disable(logging.CRITICAL)
    configure_observability(level="ERROR", sink=lambda _: None)
    heads = ("calls", "acked", "lost", "twice")
    print(f"{'fault':<46}{''.join(f'{head:>8}' for head in heads)}", end="")
    print(f"{'answered':>9}{'wrong':>6}{'late':>8}{'stall':>7}  (ms)")
    for name in options.only.split(","):
        with tempfile.TemporaryDirectory(prefix="faults-") as folder:
            await PARTS[name](Path(folder), options.seconds)


if __name__ == "__main__":
    asyncio.run(main())
