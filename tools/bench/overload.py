"""What is left of a dependency's capacity when ten times as much is asked of it.

    python tools/bench/overload.py [--seconds 4] [--rounds 3]

A server process serves a fixed number of calls at once over TCP and puts the rest into a line, as
most servers do; whoever hung up is served all the same. Calls arrive in an open loop, each with a
deadline. The same server is called bare, with retries alone, and through the guards. Goodput is
answers within the deadline; `tries` is attempts a call, retries included; `sent` is what arrived at
the server for each call that it was to serve at all; `refused` is how long it took to be told.

Then ten tenants call at half of their quota, and another at its quota or a hundred times that: what
do the others notice?
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from asked import asked

from motadata.core.errors import (
    DeadlineExceededError,
    OverloadError,
    ProviderError,
    SDKError,
)
from motadata.core.resilience import (
    AdaptiveLimit,
    BreakerPolicy,
    LocalRetryBudget,
    RetryPolicy,
    TenantLimiter,
    create_breakers,
    deadline_scope,
    retry,
    time_limit,
)
from motadata.core.tenancy import tenant_scope


PLACES = 4
SERVICE = 0.02
CAPACITY = PLACES / SERVICE
DEADLINE = 0.5
POLICY = RetryPolicy(attempts=4, base=0.02, cap=0.1)

SERVER = f"""
import asyncio

async def main():
    line = asyncio.Queue()
    async def work():
        while True:
            writer, word = await line.get()
            await asyncio.sleep({SERVICE})
            if not writer.is_closing():
                writer.write(word)
    async def serve(reader, writer):
        try:
            while word := await reader.readline():
                line.put_nowait((writer, word))
        except ConnectionError:
            pass
        writer.close()
    workers = [asyncio.create_task(work()) for _ in range({PLACES})]
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


class Client:
    """One connection with many calls under way; answers come in any order."""

    def __init__(self) -> None:
        self.sent = 0
        self._answers: dict[bytes, asyncio.Future[None]] = {}

    async def open(self) -> None:
        """Start the server and connect."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", SERVER), stdout=asyncio.subprocess.PIPE
        )
        assert self._process.stdout is not None
        port = int(await self._process.stdout.readline())
        reader, self._writer = await asyncio.open_connection("127.0.0.1", port)
        self._reading = asyncio.create_task(self._read(reader))

    async def close(self) -> None:
        """Hang up and end the server."""
        self._reading.cancel()
        self._writer.close()
        self._process.kill()
        await self._process.wait()

    async def call(self) -> None:
        """Send one call and await its answer."""
        self.sent += 1
        word = b"%d\n" % self.sent
        answer = self._answers[word] = asyncio.get_running_loop().create_future()
        self._writer.write(word)
        try:
            await answer
        finally:
            self._answers.pop(word, None)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while word := await reader.readline():
            answer = self._answers.get(word)
            if answer is not None and not answer.done():
                answer.set_result(None)


Attempt = Callable[[], Awaitable[None]]


@dataclass
class Outcome:
    """What became of the calls of one run."""

    calls: int = 0
    lasted: float = 0.0
    attempts: int = 0
    served: int = 0
    good: list[float] = field(default_factory=list)
    admitted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)

    def goodput(self) -> float:
        """Return answers in time a second."""
        return len(self.good) / self.lasted


class Side:
    """One way of calling the server."""

    def __init__(self, client: Client, *, guarded: bool, attempts: int) -> None:
        self._client = client
        self._policy = RetryPolicy(attempts=attempts, base=POLICY.base, cap=POLICY.cap)
        self._budget = LocalRetryBudget() if guarded else None
        self._limit = AdaptiveLimit(initial=10) if guarded else None
        # The bare side has one that never opens.
        policy = BreakerPolicy() if guarded else BreakerPolicy(minimum_calls=10**9)
        self._breakers = create_breakers(policy)

    async def call(self, outcome: Outcome) -> None:
        """Make one call, with the retries and guards of this side."""
        sent = 0

        async def attempt() -> None:
            nonlocal sent
            outcome.attempts += 1
            began = time.perf_counter()
            try:
                async with self._place(), self._breakers.guard("server"):
                    began = 0.0
                    outcome.served += not sent
                    sent += 1
                    await self._send()
            except SDKError:
                if began:
                    outcome.refused.append(time.perf_counter() - began)
                raise

        with deadline_scope(DEADLINE):
            await retry(attempt, policy=self._policy, budget=self._budget)

    def _place(self) -> contextlib.AbstractAsyncContextManager[None]:
        return contextlib.nullcontext() if self._limit is None else self._limit.enter()

    async def _send(self) -> None:
        try:
            # An attempt gets half of the time, so that a lost answer leaves time for another.
            async with time_limit(DEADLINE / 2 if self._limit is None else None, what="the server"):
                await self._client.call()
        except DeadlineExceededError as error:
            raise ProviderError("The server is late.", retryable=True) from error


async def offer(
    call: Callable[[Outcome], Awaitable[None]],
    *,
    rate: float,
    seconds: float,
    tenant: str,
    warm: float = 0.0,
) -> Outcome:
    """Call at a rate, however the calls go, and return what became of them after `warm` seconds."""
    outcome, before = Outcome(lasted=seconds), Outcome()

    async def one(outcome: Outcome) -> None:
        began = time.perf_counter()
        try:
            await call(outcome)
        except SDKError as error:
            if not isinstance(error, OverloadError):
                outcome.admitted.append(time.perf_counter() - began)
            outcome.errors[type(error).__name__] = outcome.errors.get(type(error).__name__, 0) + 1
            return
        outcome.good.append(time.perf_counter() - began)
        outcome.admitted.append(outcome.good[-1])

    tasks: set[asyncio.Task[None]] = set()
    with tenant_scope(tenant):
        began = time.perf_counter()
        due = began + random.expovariate(rate)
        while (now := time.perf_counter()) < began + warm + seconds:
            while due <= now:
                counted = outcome if due >= began + warm else before
                due += random.expovariate(rate)
                counted.calls += 1
                task = asyncio.create_task(one(counted))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.sleep(min(0.005, max(0.0, due - time.perf_counter())))
        await asyncio.gather(*tasks)
    return outcome


def late(times: list[float], part: float = 0.99) -> float:
    """Return a high quantile in milliseconds."""
    ordered = sorted(times)
    return 1e3 * ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


async def compare(seconds: float) -> None:
    """Offer more and more to each side, and print what is left."""
    sides = [
        ("bare", False, 1, (0.5, 1.0, 2.0)),
        ("retries without budget", False, 4, (2.0,)),
        ("guards", True, 4, (0.5, 0.9, 1.0, 2.0, 5.0, 10.0)),
    ]
    print(
        f"{'side':24}{'offered':>9}{'goodput/s':>11}{'of peak':>9}{'tries':>8}{'sent':>7}", end=""
    )
    print(f"{'p99 ms':>9}{'refused p50/p99 ms':>20}  errors")
    peak, last = 0.0, (Outcome(), 0.0)
    for name, guarded, attempts, loads in sides:
        for load in loads:
            client = Client()
            await client.open()
            side = Side(client, guarded=guarded, attempts=attempts)
            with contextlib.suppress(SDKError):
                await offer(side.call, rate=CAPACITY, seconds=1, tenant="warm")
            client.sent = 0
            got = await offer(side.call, rate=load * CAPACITY, seconds=seconds, tenant="acme")
            peak = max(peak, got.goodput())
            sent = client.sent / max(1, got.served)
            last = (got, got.goodput() / peak)
            refused = f"{late(got.refused, 0.5):.2f}/{late(got.refused):.1f}"
            print(
                f"{name:24}{load:8g}x{got.goodput():11.0f}{got.goodput() / peak:9.2f}"
                f"{got.attempts / got.calls:8.3f}{sent:7.2f}{late(got.admitted):9.0f}{refused:>20}"
                f"  {got.errors}"
            )
            await client.close()
    print(f"deadline {DEADLINE * 1e3:.0f} ms, nominal capacity {CAPACITY:.0f}/s")
    got, part = last
    asked("goodput at ten times the capacity, of the peak", part, least=0.9)
    asked("p99 of the admitted", late(got.admitted), most=DEADLINE * 1e3, unit="ms")
    asked("tries a call, by retries", got.attempts / got.calls, most=1.1)


async def neighbours(seconds: float, rounds: int) -> None:
    """Let one of eleven tenants call at its quota, and at a hundred times that, in turns."""
    quota = 16.0
    quiet: dict[float, list[float]] = {1.0: [], 100.0: []}
    lost = {1.0: 0, 100.0: 0}
    for _ in range(rounds):
        for factor in quiet:
            client = Client()
            await client.open()
            limiter = TenantLimiter(quota, quota / 2)
            side = Side(client, guarded=True, attempts=4)

            async def call(
                outcome: Outcome, side: Side = side, own: TenantLimiter = limiter
            ) -> None:
                await own.acquire(timeout=0)
                await side.call(outcome)

            outcomes = await asyncio.gather(
                offer(call, rate=quota * factor, seconds=seconds, tenant="loud", warm=1),
                *(
                    offer(call, rate=quota / 2, seconds=seconds, tenant=f"quiet-{number}", warm=1)
                    for number in range(10)
                ),
            )
            for outcome in outcomes[1:]:
                quiet[factor] += outcome.good
                lost[factor] += outcome.calls - len(outcome.good)
            await client.close()
    base, loud = late(quiet[1.0]), late(quiet[100.0])
    print(f"\nothers' p99 beside a tenant at its quota {base:.1f} ms, ", end="")
    print(f"at 100 times its quota {loud:.1f} ms: {loud / base:.2f}")
    asked("others' p99 beside 100 times the quota", loud / base, most=1.1)
    print(f"others' p50 {late(quiet[1.0], 0.5):.1f} and {late(quiet[100.0], 0.5):.1f} ms", end="")
    print(f"; calls of theirs refused or late: {lost[1.0]} and {lost[100.0]}")


async def main() -> None:
    """Measure both and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--neighbours", action="store_true", help="only the second part")
    options = parser.parse_args()
    if not options.neighbours:
        await compare(options.seconds)
    await neighbours(options.seconds, options.rounds)


if __name__ == "__main__":
    asyncio.run(main())
