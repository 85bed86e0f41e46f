"""What a tenant's own key costs a call, what remembering keys holds, and how fast feedback is kept.

    python tools/bench/gateway_keys_and_feedback.py [--rounds 25] [--signals 20000]

CPU time of one process, in microseconds, interleaved with a peer: a remembered key beside reading
it from the store each time; keeping a signal beside a bare insert into the same table. The least
and the lower quartile of the rounds. A PostgreSQL is started for it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from pydantic import SecretBytes, SecretStr

from motadata.core.database import PostgresDatabase, apply_migrations, create_database
from motadata.core.embedded import EmbeddedPostgres
from motadata.core.identifiers import new_id
from motadata.core.models import Correction, Rating, Vote
from motadata.core.security import LocalKeyManagement, SecretStore
from motadata.core.tenancy import TenantId
from motadata.gateway import TenantKeys
from motadata.gateway.feedback import Feedback


TENANT: Final = TenantId("acme")
OTHER: Final = TenantId("globex")
PAIRS: Final = 30_000
CALL: Final = """
insert into motadata.gateway_call
select (jsonb_populate_record(null::motadata.gateway_call, $1::jsonb)).*
"""
BARE: Final = """
insert into motadata.feedback (tenant_id, feedback_id, call_id, kind, user_id, approves, reason,
  body, digest) values ($1, $2, $3, 'vote', '', true, '', '', '')
"""


async def rounds_of(
    works: Mapping[str, tuple[int, Callable[[], Awaitable[object]]]], rounds: int
) -> None:
    """Print least and lower quartile of each work, in microseconds of CPU, and their ratio."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, (times, work) in works.items():
            begin = time.process_time()
            for _ in range(times):
                await work()
            taken[name].append((time.process_time() - begin) / times * 1e6)
    least = {name: min(figures) for name, figures in taken.items()}
    for name, figures in taken.items():
        quartile = statistics.quantiles(figures, n=4)[0]
        print(f"{name:<42} {least[name]:>9.2f} {quartile:>9.2f}")
    first, second = least.values()
    print(f"{'ratio of the least':<42} {first / second:>9.3f}")


async def measure_keys(database: PostgresDatabase, rounds: int) -> None:
    """Print what a key costs a call, and the bytes of remembering many."""
    store = SecretStore(database, LocalKeyManagement({"1": SecretBytes(os.urandom(32))}))
    keys = TenantKeys(store, ttl=3600, stale_for=3600, most_remembered=PAIRS)
    await keys.put("openai", SecretStr("sk-" + "x" * 60), tenant_id=TENANT)
    print(f"{'CPU, µs':<42} {'least':>9} {'p25':>9}")
    await rounds_of(
        {
            "key, remembered": (5_000, lambda: keys.api_key("openai", TENANT)),
            "key, from the store": (
                50,
                lambda: store.get("provider-key-openai", tenant_id=TENANT),
            ),
        },
        rounds,
    )
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(PAIRS // 3):
        tenant = TenantId(f"tenant-{number}")
        for provider in ("openai", "anthropic", "gemini"):
            keys._remember((tenant, provider), None)  # noqa: SLF001 - without 30,000 readings
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    print(f"{'remembered, bytes a tenant and provider':<42} {held / PAIRS:>9.0f}")


async def measure_feedback(database: PostgresDatabase, rounds: int, signals: int) -> None:
    """Print what keeping a signal costs, and how long sums of many take."""
    feedback = Feedback(database)
    print(f"\n{'CPU, µs':<42} {'least':>9} {'p25':>9}")
    await rounds_of(
        {
            "signal": (
                50,
                lambda: feedback.record(str(new_id()), Vote(useful=True), tenant_id=OTHER),
            ),
            "bare insert": (
                50,
                lambda: database.execute_query(BARE, OTHER, new_id(), new_id(), tenant_id=OTHER),
            ),
        },
        rounds,
    )
    calls = [str(new_id()) for _ in range(signals // 4)]
    await write_calls(database, calls)
    waiting = asyncio.Semaphore(8)

    async def say(number: int) -> None:
        call_id, user = calls[number // 4], f"u-{number % 4}"
        said = (Vote(useful=number % 3 > 0), Rating(number % 5 + 1), Correction(f"So {number % 9}"))
        async with waiting:
            await feedback.record(call_id, said[number % 3], user=user, tenant_id=TENANT)

    begin = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(signals):
            group.create_task(say(number))
    print(f"{'signals a second, 8 at once':<42} {signals / (time.perf_counter() - begin):>9.0f}")
    begin = time.perf_counter()
    found = await feedback.insights(tenant_id=TENANT)
    seconds = time.perf_counter() - begin
    print(f"{f'insights over {signals:,} signals, s':<42} {seconds:>9.2f}")
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        written = await feedback.export(Path(folder) / "set.jsonl", tenant_id=TENANT)
    seconds = time.perf_counter() - begin
    print(f"{f'export of {written:,} examples, s':<42} {seconds:>9.2f}")
    judged = sum(each.approvals + each.rejections for each in found.insights)
    print(f"{'judgements in the sums':<42} {judged:>9}")


async def write_calls(database: PostgresDatabase, calls: list[str]) -> None:
    """Write calls down as the usage log would, with the zeros and blanks that it writes."""
    columns = await database.execute_query(
        "select column_name, data_type from information_schema.columns"
        " where table_schema = 'motadata' and table_name = 'gateway_call'"
        " and is_nullable = 'NO'",
        tenant_id=TENANT,
    )
    blanks = {"text": "", "boolean": False, "jsonb": []}
    plain = {str(row["column_name"]): blanks.get(str(row["data_type"]), 0) for row in columns}
    plain |= {"tenant_id": TENANT, "began_at": "2026-11-22T00:00:00Z", "operation": "chat"}
    plain |= {"finish_reason": "stop", "asked": "user: How?", "answered": "So."}
    async with database.transaction(TENANT) as transaction:
        for number, call_id in enumerate(calls):
            own = {"call_id": call_id, "prompt": f"triage@{number % 5}", "model": "openai/small"}
            await transaction.execute(CALL, plain | own)


async def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--signals", type=int, default=20_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        await asyncio.to_thread(Path(folder).chmod, 0o755)
        async with EmbeddedPostgres(Path(folder) / "postgres", durable=False, keep=False) as server:
            packages = ["motadata.gateway.migrations"]
            await apply_migrations(server.owner_dsn, packages, runtime_role=server.runtime_role)
            async with create_database(server.runtime_dsn) as database:
                await measure_keys(database, arguments.rounds)
                await measure_feedback(database, arguments.rounds, arguments.signals)


if __name__ == "__main__":
    asyncio.run(main())
