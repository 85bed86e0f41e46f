"""How long after its deadline a call returns while its server is halted, or was killed.

    python tools/bench/deadlines.py [--calls 200] [--only redis,postgres,nats]

A row a kind of call: each is made within a `deadline_scope` of 0.1 to 0.4 seconds, ten callers at
once, before the server is halted by SIGSTOP, from that moment on, and after it was killed. The
percentiles are of how much later than its deadline a call returned: 0 for one that returned sooner.
`early` counts those, `answered` those that returned no error, `other` those that returned at the
deadline or later with an error other than `DeadlineExceededError`. `stall` is the longest that this
process itself did not get to run, which no deadline can undercut.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Final

import psutil
from asked import asked

from motadata.core.cache import create_redis_cache, create_tiered_cache
from motadata.core.database import apply_migrations, create_database
from motadata.core.embedded import EmbeddedNats, EmbeddedPostgres, EmbeddedRedis
from motadata.core.errors import DeadlineExceededError, SDKError
from motadata.core.messaging import NatsCredentials, create_message_bus
from motadata.core.observability import configure_observability
from motadata.core.protocols import BusMessage
from motadata.core.resilience import create_limiter, deadline_scope
from motadata.core.tenancy import tenant_scope
from motadata.core.testing.database import CONFORMANCE_MIGRATIONS


Call = Callable[[], Awaitable[object]]
Step = Callable[[], Awaitable[None]]

CALLERS: Final = 10

_numbers = count()


def key() -> str:
    """Return a key that nothing was stored under."""
    return f"k{next(_numbers)}"


class Row:
    """What became of the calls of one kind."""

    def __init__(self) -> None:
        self.late: list[float] = []
        self.answered = 0
        self.early = 0
        self.other = 0

    async def add(self, call: Call, calls_each: int) -> None:
        """Make that many calls."""

        async def caller() -> None:
            for _ in range(calls_each // CALLERS):
                await self._one(call)

        await asyncio.gather(*(caller() for _ in range(CALLERS)))

    async def _one(self, call: Call) -> None:
        with deadline_scope(0.1 + next(_numbers) * 37 % 300 / 1e3) as end:
            error = None
            try:
                await call()
                self.answered += 1
            except SDKError as caught:
                error = caught
            over = time.monotonic() - end
            self.other += over >= 0 and not isinstance(error, DeadlineExceededError | None)
        self.early += over < 0
        self.late.append(max(0.0, over) * 1e3)
        # One that is refused at once would otherwise be asked again at once, for all of the row.
        await asyncio.sleep(max(0.0, min(0.02, -over)))


_latest: list[tuple[float, str]] = []
"""The latest end of each row."""


class Heartbeat:
    """The longest that the process did not get to run."""

    def __init__(self) -> None:
        self.worst = 0.0

    async def beat(self) -> None:
        """Beat until cancelled."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            self.worst = max(self.worst, time.monotonic() - before - 0.005)


async def measure(
    calls: Mapping[str, Call], halt: Step, go_on: Step, kill: Step, *, calls_each: int
) -> None:
    """Print the rows of one server."""
    for call in calls.values():
        await Row().add(call, CALLERS)
    await table("running", calls, calls_each)
    await halt()
    await table("halted", calls, calls_each)
    await go_on()
    await asyncio.sleep(3)
    await kill()
    await table("killed", calls, calls_each)


async def table(state: str, calls: Mapping[str, Call], calls_each: int) -> None:
    """Make the calls of each kind and print what came of them."""
    for name, call in calls.items():
        row, heart = Row(), Heartbeat()
        beating = asyncio.create_task(heart.beat())
        await row.add(call, calls_each)
        beating.cancel()
        late = sorted(row.late)
        print(
            f"{name:<28}{state:<9}{len(late):>6}{row.answered:>9}{row.early:>7}{row.other:>7}"
            f"{late[len(late) // 2]:>8.1f}{late[len(late) * 99 // 100]:>8.1f}{late[-1]:>8.1f}"
            f"{heart.worst * 1e3:>8.1f}",
            flush=True,
        )
        _latest.append((late[-1], f"{name}, server {state}"))


async def redis(folder: Path, calls_each: int) -> None:
    """Measure the caches and a shared limit."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(EmbeddedRedis(folder / "redis"))
        cache = await stack.enter_async_context(create_redis_cache(server.url))
        # One for each kind of call: once one finds the server away, it does not ask it again.
        tiered, deleting, dropping = [
            await stack.enter_async_context(create_tiered_cache(server.url)) for _ in range(3)
        ]
        stack.push_async_callback(_end, asyncio.create_task(_hold(server, "held")))
        limiter = await stack.enter_async_context(
            create_limiter(1_000, 10, redis_url=server.url.get_secret_value())
        )

        async def halt() -> None:
            server.pause()

        async def go_on() -> None:
            server.resume()

        async def compute() -> object:
            return 1

        async def enter() -> None:
            async with create_redis_cache(server.url):
                pass

        calls: dict[str, Call] = {
            "cache, entered": enter,
            "cache.get": lambda: cache.get(key()),
            "cache.set": lambda: cache.set(key(), "x" * 500),
            "cache.set None": lambda: cache.set(key(), None),
            "cache.delete": lambda: cache.delete(key()),
            "cache.invalidate_pattern": lambda: cache.invalidate_pattern("none*"),
            "cache.invalidate_tag": lambda: cache.invalidate_tag(key()),
            "cache.health": cache.health,
            "cache.get_or_compute": lambda: cache.get_or_compute(key(), compute),
            "  computed slowly": lambda: cache.get_or_compute(key(), _slowly),
            "  computed by another": lambda: cache.get_or_compute("held", _slowly),
            "  computed for another": lambda: cache.get_or_compute("shared", _slowly),
            "tiered cache.delete": lambda: deleting.delete(key()),
            "tiered cache.invalidate_tag": lambda: dropping.invalidate_tag(key()),
            "tiered cache.get": lambda: tiered.get(key()),
            "tiered cache.set": lambda: tiered.set(key(), "x" * 500),
            "  computed slowly, tiered": lambda: tiered.get_or_compute(key(), _slowly),
            "shared limiter.acquire": lambda: limiter.acquire(timeout=5),
        }
        await measure(calls, halt, go_on, server.kill, calls_each=calls_each)


async def _slowly() -> object:
    """Compute what is not stored, so that the next caller waits as well."""
    await asyncio.sleep(2)
    return None


async def _hold(server: EmbeddedRedis, held: str) -> None:
    """Be the other instance, which computes a value again and again."""
    async with create_redis_cache(server.url) as other:
        while True:
            with suppress(SDKError):
                await other.get_or_compute(held, _slowly)
            await asyncio.sleep(0.01)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait((task,))


async def postgres(folder: Path, calls_each: int) -> None:
    """Measure reads, writes and transactions."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(EmbeddedPostgres(folder / "postgres"))
        await apply_migrations(
            server.owner_dsn, [CONFORMANCE_MIGRATIONS], runtime_role=server.runtime_role
        )
        database = await stack.enter_async_context(create_database(server.runtime_dsn))
        by_tenant = await stack.enter_async_context(
            create_database(server.runtime_dsn, max_connections=1, tenant_pools=2 * CALLERS)
        )
        processes = _processes_of(folder / "postgres")

        async def halt() -> None:
            for one in processes():
                one.suspend()

        async def go_on() -> None:
            for one in processes():
                one.resume()

        async def kill() -> None:
            for one in processes():
                one.kill()

        async def transaction() -> None:
            async with database.transaction() as work:
                await work.execute("select 1")

        async def listen() -> None:
            async with database.listen("items"):
                pass

        async def hear() -> None:
            async with database.listen("items") as notifications:
                await anext(notifications)

        async def enter() -> None:
            async with create_database(server.runtime_dsn):
                pass

        calls: dict[str, Call] = {
            "database, entered": enter,
            "database.listen": listen,
            "  and wait for one": hear,
            "  the pool of a new tenant": lambda: by_tenant.execute_query(
                "select 1", tenant_id=key()
            ),
            "database.health": database.health,
            "database read": lambda: database.execute_query("select 1"),
            "database transaction": transaction,
        }
        await measure(calls, halt, go_on, kill, calls_each=calls_each)


def _processes_of(folder: Path) -> Callable[[], list[psutil.Process]]:
    (pid_file,) = folder.rglob("postmaster.pid")
    main = psutil.Process(int(pid_file.read_text("utf-8").split("\n", 1)[0]))

    def processes() -> list[psutil.Process]:
        return [main, *main.children(recursive=True)]

    return processes


async def nats(folder: Path, calls_each: int) -> None:
    """Measure messages, requests and events."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(EmbeddedNats(folder / "nats"))
        credentials = NatsCredentials(token=server.token)
        bus = await stack.enter_async_context(
            create_message_bus(server.url, credentials=credentials)
        )

        async def answer(message: BusMessage) -> object:
            return message.payload

        await bus.subscribe("agent", answer)
        listening = [
            await bus.subscribe(f"agent-{number}", answer)
            for number in range(CALLERS + 3 * calls_each)
        ]

        async def enter() -> None:
            async with create_message_bus(server.url, credentials=credentials):
                pass

        async def halt() -> None:
            os.kill(server.pid or 0, signal.SIGSTOP)

        async def go_on() -> None:
            os.kill(server.pid or 0, signal.SIGCONT)

        calls: dict[str, Call] = {
            "bus.request": lambda: bus.request("agent", 1, sender="bench"),
            "bus.publish": lambda: bus.publish("agent", 1, sender="bench"),
            "bus.publish_event": lambda: bus.publish_event("ticket.opened", 1),
            "bus.subscribe": lambda: bus.subscribe("late", answer),
            "bus subscription, stopped": lambda: listening.pop().stop(),
            "bus.health": bus.health,
            "bus, entered": enter,
        }
        await measure(calls, halt, go_on, server.kill, calls_each=calls_each)


PARTS: Final = {"redis": redis, "postgres": postgres, "nats": nats}


@asynccontextmanager
async def _folder() -> AsyncIterator[Path]:
    with tempfile.TemporaryDirectory(prefix="deadlines-") as name:
        # The account that root's PostgreSQL runs under must get in.
        await asyncio.to_thread(Path(name).chmod, 0o755)
        yield Path(name)


async def main() -> None:
    """Print every row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--only", default=",".join(PARTS))
    options = parser.parse_args()
    # A full collection of what was imported would hold all calls up, for 40 ms at a time.
    gc.collect()
    gc.freeze()
    # Complaints about what we halt and kill, the drivers' and ours.
    logging.disable(logging.CRITICAL)
    configure_observability(level="ERROR", sink=lambda _: None)
    print(f"{'call':<28}{'server':<9}{'calls':>6}{'answered':>9}{'early':>7}{'other':>7}", end="")
    print(f"{'p50':>8}{'p99':>8}{'max':>8}{'stall':>8}  (ms after the deadline)")
    for name in options.only.split(","):
        async with _folder() as folder:
            with tenant_scope("acme"):
                await PARTS[name](folder, options.calls)
    late, call = max(_latest)
    asked(f"latest after its deadline: {call}", late, most=50, unit="ms")


if __name__ == "__main__":
    asyncio.run(main())
