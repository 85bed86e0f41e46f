"""What the database costs above bare asyncpg, in the same run on the same server.

    python tools/bench/database.py [--rounds 12] [--rows 20000] [--queries 60]

Three parts. The first compares calls of 200-byte rows by primary key: bare asyncpg on a connection
and through its pool, without tenants, and the SDK bound to a tenant under row-level security. The
second inserts rows with vectors. The third searches a table of one large tenant and many small
ones, exactly and with the large tenant's index. Sides take turns, so that a noisy moment falls on
all; the fastest round and the first quartile count, and the CPU time of this process.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import asyncpg
from asked import asked
from pgvector.asyncpg import register_vector

from motadata.core.database import (
    PostgresDatabase,
    VectorIndexPlan,
    apply_migrations,
    create_database,
    maintain_vector_indexes,
)
from motadata.core.embedded import EmbeddedPostgres


TENANT = "t7"
BY_KEY = "select body from motadata.bench_row where tenant_id = $1 and id = $2"
TABLES = """
create table motadata.bench_row (tenant_id text, id int, body text, primary key (tenant_id, id));
select motadata.isolate('motadata.bench_row');
create table motadata.bench_vector
  (tenant_id text, id int, embedding vector(64), primary key (tenant_id, id));
select motadata.isolate('motadata.bench_vector');
create table motadata.bench_bulk
  (tenant_id text, id int, body text, embedding vector(64), primary key (tenant_id, id));
select motadata.isolate('motadata.bench_bulk');
"""
DIMENSIONS = 64
CLUSTERS = 50
SMALL_TENANTS = 20
SMALL_ROWS = 300
CALLS = 200

Call = Callable[[], Awaitable[object]]


@dataclass
class Side:
    """What one side took a call, in microseconds, by round."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    async def round(self, call: Call) -> None:
        """Add a round of calls, one after the other."""
        started, busy = time.perf_counter(), time.process_time()
        for _ in range(CALLS):
            await call()
        self.wall.append((time.perf_counter() - started) / CALLS * 1e6)
        self.cpu.append((time.process_time() - busy) / CALLS * 1e6)

    @property
    def quartile(self) -> float:
        """The first quartile of the rounds."""
        return statistics.quantiles(self.wall, n=4)[0]


async def compare(calls: Mapping[str, Call], rounds: int) -> dict[str, Side]:
    """Run the sides in turns."""
    sides = {name: Side() for name in calls}
    for call in calls.values():
        for _ in range(20):
            await call()
    for _ in range(rounds):
        for name, call in calls.items():
            await sides[name].round(call)
    return sides


def show(title: str, sides: Mapping[str, Side], bases: tuple[str, ...]) -> None:
    """Print a table, with the ratio of each side to each of the bases."""
    print(f"\n{title}")
    heads = "".join(f"  {'/ ' + base:>18}" for base in bases)
    print(f"  {'µs a call':<34} {'min':>8} {'p25':>8} {'CPU':>8}{heads}")
    for name, side in sides.items():
        ratios = "".join(
            f"  {min(side.wall) / min(sides[base].wall):>8.2f}"
            f" ({side.quartile / sides[base].quartile:.2f})".ljust(20)
            for base in bases
        )
        times = f"{min(side.wall):>8.1f} {side.quartile:>8.1f} {min(side.cpu):>8.1f}"
        print(f"  {name:<34} {times}{ratios}")


async def measure_calls(server: EmbeddedPostgres, database: PostgresDatabase, rounds: int) -> None:
    """Compare one read and one write by primary key."""
    bare = await asyncpg.connect(server.administrator_dsn, command_timeout=30)
    pool = await asyncpg.create_pool(
        server.administrator_dsn, min_size=1, max_size=4, command_timeout=30
    )
    change = "update motadata.bench_row set body = $3 where tenant_id = $1 and id = $2"
    body = "y" * 200

    async def block_of_pool() -> None:
        async with pool.acquire() as connection, connection.transaction():
            await connection.fetch(BY_KEY, TENANT, 7)

    async def block_of_sdk() -> None:
        async with database.transaction(TENANT) as transaction:
            await transaction.fetch(BY_KEY, TENANT, 7)

    session = await asyncpg.connect(server.runtime_dsn, command_timeout=30)
    await session.execute(f"set motadata.tenant_id = '{TENANT}'")  # what a pool must never do
    reads = {
        "asyncpg connection": lambda: bare.fetch(BY_KEY, TENANT, 7),
        "asyncpg connection, RLS by session": lambda: session.fetch(BY_KEY, TENANT, 7),
        "asyncpg pool": lambda: pool.fetch(BY_KEY, TENANT, 7),
        "SDK execute_query": lambda: database.execute_query(BY_KEY, TENANT, 7, tenant_id=TENANT),
    }
    blocks = {"asyncpg pool, transaction": block_of_pool, "SDK transaction": block_of_sdk}
    writes = {
        "asyncpg pool": lambda: pool.execute(change, TENANT, 7, body),
        "SDK execute_query": lambda: database.execute_query(
            change, TENANT, 7, body, tenant_id=TENANT
        ),
    }
    sides = await compare(reads, rounds)
    bases = ("asyncpg connection", "asyncpg connection, RLS by session", "asyncpg pool")
    show("A read by primary key; ratios of min and (p25)", sides, bases)
    for base in bases:
        ratio = min(sides["SDK execute_query"].wall) / min(sides[base].wall)
        asked(f"a tenant's read, of that by {base}", ratio, most=1.6)
    show("A transaction of one read", await compare(blocks, rounds), ("asyncpg pool, transaction",))
    show("A write by primary key", await compare(writes, rounds), ("asyncpg pool",))
    await pool.close()
    await session.close()
    await bare.close()


async def measure_bulk(server: EmbeddedPostgres, database: PostgresDatabase, rows: int) -> None:
    """Insert rows with vectors: SDK in bulk and one by one, bare driver, bare driver's COPY."""
    bare = await asyncpg.connect(server.administrator_dsn)
    await register_vector(bare)
    chance = random.Random(1)  # noqa: S311 - no secret
    vectors = [[chance.random() for _ in range(DIMENSIONS)] for _ in range(200)]
    columns = ("tenant_id", "id", "body", "embedding")
    insert = "insert into motadata.bench_bulk values ($1, $2, $3, $4)"

    def made(tenant: str) -> list[tuple[str, int, str, list[float]]]:
        return [(tenant, n, "x" * 100, vectors[n % len(vectors)]) for n in range(rows)]

    async def in_bulk() -> None:
        async with database.transaction("bulk") as transaction:
            await transaction.insert_many("motadata.bench_bulk", columns, made("bulk"))

    async def one_by_one() -> None:
        async with database.transaction("single") as transaction:
            await transaction.execute_many(insert, made("single"))

    async def copied() -> None:
        await bare.copy_records_to_table(
            "bench_bulk", schema_name="motadata", columns=columns, records=made("copy")
        )

    print(f"\n{rows} rows of 100 characters and a vector({DIMENSIONS}); best of two")
    best: dict[str, float] = {}
    for _ in range(2):
        for name, call in {
            "SDK insert_many": in_bulk,
            "SDK execute_many": one_by_one,
            "asyncpg COPY as superuser, no RLS": copied,
        }.items():
            await bare.execute("truncate motadata.bench_bulk")
            started = time.perf_counter()
            await call()
            best[name] = min(best.get(name, 1e9), time.perf_counter() - started)
    for name, seconds in best.items():
        print(f"  {name:<34} {rows / seconds:>8.0f} rows/s")
    await bare.close()


async def measure_search(
    server: EmbeddedPostgres, database: PostgresDatabase, rows: int, queries: int
) -> None:
    """Search a large and a small tenant exactly, then with the large one's own index."""
    owner = await asyncpg.connect(server.owner_dsn)
    chance = random.Random(2)  # noqa: S311 - no secret
    # Clustered, as embeddings are: points around centres, and queries around the same ones.
    centres = [[chance.gauss(0, 1) for _ in range(DIMENSIONS)] for _ in range(CLUSTERS)]

    def point() -> list[float]:
        return [value + chance.gauss(0, 0.6) for value in chance.choice(centres)]

    sizes = {"large": rows, **{f"small-{n}": SMALL_ROWS for n in range(SMALL_TENANTS)}}
    for tenant, size in sizes.items():
        async with database.transaction(tenant) as transaction:
            await transaction.insert_many(
                "motadata.bench_vector",
                ("tenant_id", "id", "embedding"),
                [(tenant, number, point()) for number in range(size)],
            )
    await owner.execute("analyze motadata.bench_vector")
    sought = [point() for _ in range(queries)]
    print(
        f"\nVector search, 10 of vector({DIMENSIONS}): a tenant of {rows}, {SMALL_TENANTS} of"
        f" {SMALL_ROWS}; {queries} queries"
    )
    print(f"  {'':<34} {'recall@10':>10} {'p50 ms':>8} {'p95 ms':>8}")
    exact: dict[str, list[set[object]]] = {}
    for tenant in ("large", "small-3"):
        exact[tenant] = await _search(database, tenant, sought, "exact", None)
    started = time.perf_counter()
    await maintain_vector_indexes(
        server.owner_dsn, VectorIndexPlan("motadata.bench_vector"), tenants=sizes
    )
    built = time.perf_counter() - started
    for tenant in ("large", "small-3"):
        await _search(database, tenant, sought, "tiered", exact[tenant])
    half = VectorIndexPlan("motadata.bench_vector", precision="half")
    await maintain_vector_indexes(server.owner_dsn, half, tenants=sizes)
    await _search(database, "large", sought, "half", exact["large"])
    print(f"  The index of the large tenant took {built:.1f} s to build.")
    await owner.close()


async def _search(
    database: PostgresDatabase,
    tenant: str,
    sought: list[list[float]],
    way: str,
    exact: list[set[object]] | None,
) -> list[set[object]]:
    found, times = [], []
    for vector in sought:
        started = time.perf_counter()
        rows = await database.vector_search(
            "motadata.bench_vector",
            vector,
            columns=("id",),
            precision="half" if way == "half" else "full",
            tenant_id=tenant,
        )
        times.append((time.perf_counter() - started) * 1e3)
        found.append({row["id"] for row in rows})
    truth = exact if exact is not None else found
    recall = statistics.mean(len(a & b) / len(b) for a, b in zip(found, truth, strict=True))
    times.sort()
    p50, p95 = times[len(times) // 2], times[int(len(times) * 0.95)]
    print(f"  {tenant + ', ' + way:<34} {recall:>10.3f} {p50:>8.2f} {p95:>8.2f}")
    return found


async def main(rounds: int, rows: int, queries: int) -> None:
    """Start a server and run all three tables."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o711)  # noqa: PTH101, S103 - root's server runs as another account
        async with EmbeddedPostgres(f"{folder}/postgres", durable=False) as server:
            await apply_migrations(server.owner_dsn, [], runtime_role=server.runtime_role)
            owner = await asyncpg.connect(server.owner_dsn)
            await owner.execute(TABLES)
            await owner.execute(
                "grant select, insert, update, delete on all tables in schema motadata to"
                f" {server.runtime_role}"
            )
            await owner.close()
            async with create_database(server.runtime_dsn, max_connections=4) as database:
                for number in range(20):
                    tenant = f"t{number}"
                    async with database.transaction(tenant) as transaction:
                        await transaction.insert_many(
                            "motadata.bench_row",
                            ("tenant_id", "id", "body"),
                            [(tenant, n, "x" * 200) for n in range(1000)],
                        )
                await measure_calls(server, database, rounds)
                await measure_bulk(server, database, rows)
                await measure_search(server, database, rows, queries)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--queries", type=int, default=60)
    options = parser.parse_args()
    asyncio.run(main(options.rounds, options.rows, options.queries))
