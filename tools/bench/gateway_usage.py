"""What the usage log and the prices cost a call, how fast rows arrive, and what a kill loses.

    python tools/bench/gateway_usage.py [--rounds 25] [--skip-database]

CPU time of one process, in microseconds a call: the same call bare, with prices, and with prices
and the usage log, interleaved; the least and the lower quartile of the rounds. Rows wait in memory
while this is measured; those of the rest go to a PostgreSQL that is started for it.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from asked import asked

from motadata.core.database import PostgresDatabase, apply_migrations, create_database
from motadata.core.embedded import EmbeddedPostgres
from motadata.core.models import Completion, Usage
from motadata.core.protocols import Database
from motadata.gateway import Attribution, Call, ChatRequest
from motadata.gateway.usage import Pricing, UsageLog, UsagePolicy


CALLS: Final = 2_000
USED: Final = Usage(1000, 100, None, 200, 0, 40)
BY: Final = Attribution("u-17", "incident-summary", "summary@3")
REQUEST: Final = ChatRequest("openai/gpt-4o", (), None, None, ())
TENANTS: Final = 200
QUIET: Final = UsagePolicy(interval=3600, most_queued=10_000_000, closing=0)

Ask = Callable[[Call[ChatRequest]], Awaitable[Completion]]


async def provider(call: Call[ChatRequest]) -> Completion:
    """Answer at once, and price the answer as the gateway's last step does."""
    notes = call.notes
    notes.attempts, notes.provider, notes.model = 1, "openai", call.request.model
    notes.spent = USED if call.price is None else call.price(notes, USED)
    return Completion("Yes.", call.request.model, usage=notes.spent)


def call_of(tenant: str) -> Call[ChatRequest]:
    """Return a call as it arrives at the part."""
    return Call(REQUEST, NotImplemented, 1.0, tenant, None, "use", attribution=BY)


async def measured(ask: Ask) -> float:
    """Return microseconds of CPU time a call."""
    calls = [call_of(f"tenant-{number % TENANTS}") for number in range(CALLS)]
    begin = time.process_time()
    for call in calls:
        await ask(call)
    return (time.process_time() - begin) / CALLS * 1e6


async def hot_path(directory: Path, rounds: int) -> None:
    """Print what the parts add to a call."""
    unused: Database = NotImplemented
    async with Pricing() as pricing, UsageLog(unused, directory, QUIET) as log:

        async def priced(call: Call[ChatRequest]) -> Completion:
            return await pricing.chat(call, provider)

        async def recorded(call: Call[ChatRequest]) -> Completion:
            return await log.chat(call, priced)

        asks: dict[str, Ask] = {"bare": provider, "prices": priced, "prices, log": recorded}
        taken: dict[str, list[float]] = {name: [] for name in asks}
        for _ in range(rounds):
            for name, ask in asks.items():
                taken[name].append(await measured(ask))
            log._delivery._queue.clear()  # noqa: SLF001 - or the disk would be measured too
            log._delivery._taken = 0  # noqa: SLF001 - as above
    print(f"{'us a call':<14}{'min':>8}{'p25':>8}{'adds':>8}")
    bare = min(taken["bare"])
    for name, times in taken.items():
        quarter = statistics.quantiles(times, n=4)[0]
        print(f"{name:<14}{min(times):>8.1f}{quarter:>8.1f}{min(times) - bare:>8.1f}")


async def arrival(database: PostgresDatabase, directory: Path, *, tenants: int) -> None:
    """Print how fast rows reach the database."""
    rows = 20_000
    async with UsageLog(database, directory, UsagePolicy(most_queued=2 * rows)) as log:
        begin = time.perf_counter()
        for number in range(rows):
            await log.chat(call_of(f"t{tenants}-{number % tenants}"), provider)
        await log.flush()
        seconds = time.perf_counter() - begin
    print(f"{rows} rows of {tenants} tenants: {seconds:.2f} s, {rows / seconds:,.0f} a second")


async def killed(dsn: str, database: PostgresDatabase, directory: Path) -> None:
    """Print what `kill -9` under load loses, and that the rest arrives once."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, "--victim", dsn, str(directory)),
        stdout=asyncio.subprocess.PIPE,
    )
    if child.stdout is None:
        raise AssertionError
    last = 0
    end = time.monotonic() + 5
    while time.monotonic() < end:
        last = int(await child.stdout.readline())
    child.send_signal(signal.SIGKILL)
    last = int(([str(last).encode(), *(await child.stdout.read()).splitlines()[:-1]])[-1])
    await child.wait()
    query = "select count(*) as n, count(distinct feature) as once from motadata.gateway_call"
    before = (await database.execute_query(query, tenant_id="victim"))[0]["n"]
    async with UsageLog(database, directory):
        async with asyncio.timeout(30):
            while len(list(directory.iterdir())) > 1:  # noqa: ASYNC110, ASYNC240 - other processes'
                await asyncio.sleep(0.05)
    row = (await database.execute_query(query, tenant_id="victim"))[0]
    found = int(str(row["n"]))
    print(
        f"kill -9: {last} calls recorded, {before} rows in the database then, {found} after the "
        f"replay ({found - int(str(row['once']))} twice); missing {max(0, last - found)}, "
        f"at {last / 5:,.0f} calls a second and an interval of {UsagePolicy().interval} s"
    )
    lost = max(0, last - found) / (last / 5)
    asked("rows missing after kill -9, in seconds", lost, most=UsagePolicy().interval, unit="s")
    asked("rows that came twice", found - int(str(row["once"])), most=0)


async def victim(dsn: str, directory: Path) -> None:
    """Record calls until killed."""
    async with create_database(dsn) as database, UsageLog(database, directory) as log:
        number = 0
        while True:
            call = Call(
                *(REQUEST, NotImplemented, 1.0, "victim", None, "use"),
                attribution=Attribution(feature=str(number)),
            )
            await log.chat(call, provider)
            number += 1
            if not number % 10:
                print(number, flush=True)
                await asyncio.sleep(0.005)


async def main(rounds: int, *, skip_database: bool) -> None:
    """Run everything."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        await hot_path(directory / "hot", rounds)
        if skip_database:
            return
        async with EmbeddedPostgres(directory / "server", keep=False) as server:
            await apply_migrations(
                server.owner_dsn, ["motadata.gateway.migrations"], runtime_role=server.runtime_role
            )
            async with create_database(server.dsn(server.runtime_role)) as database:
                for tenants in (1, 100, 2_000):
                    await arrival(database, directory / f"usage-{tenants}", tenants=tenants)
                dsn = server.dsn(server.runtime_role)
                await killed(dsn, database, directory / "killed")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--skip-database", action="store_true")
    parser.add_argument("--victim", nargs=2, metavar=("DSN", "DIRECTORY"))
    given = parser.parse_args()
    if given.victim:
        asyncio.run(victim(given.victim[0], Path(given.victim[1])))
    else:
        asyncio.run(main(given.rounds, skip_database=given.skip_database))
