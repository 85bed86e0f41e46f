"""How exact, fair and cheap rate limits are, on real clocks, processes and a real server.

    python tools/bench/limits.py [--seconds 3]

A queue of 500 calls against its ideal schedule; what a flood of 10,000 calls by one tenant does to
another's waits; four processes that share one limit through Redis: what they admit, how often they
ask the server, and what the server's death and return change.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from asked import asked

from motadata.core.embedded import EmbeddedRedis
from motadata.core.errors import RateLimitError
from motadata.core.resilience import FairLimiter, SharedLimiter, create_limiter


async def queue() -> None:
    """Let 500 calls wait at 250 a second with a burst of 50."""
    limiter = FairLimiter(250, 50)
    served: list[tuple[float, int]] = []
    began = time.perf_counter()

    async def call(number: int) -> None:
        await limiter.acquire(tenant_id="acme")
        served.append((time.perf_counter() - began, number))

    await asyncio.gather(*(call(number) for number in range(500)))
    times = [at for at, _ in served]
    most = max(sum(start <= at < start + 0.1 for at in times) for start in times)
    inversions = sum(before > after for (_, before), (_, after) in pairwise(served))
    print(f"500 waiters, 250/s, burst 50: {times[-1]:.3f} s ({times[-1] / 1.8 - 1:+.1%} of ideal)")
    print(f"  most in 100 ms: {most}, inversions: {inversions}")


async def flood() -> None:
    """Compare the waits of 100 calls, alone and beside 10,000 of another tenant."""
    p99 = {}
    for calls in (0, 10_000):
        limiter = FairLimiter(250, 1, max_waiting=20_000)
        loud = [asyncio.create_task(limiter.acquire(tenant_id="loud")) for _ in range(calls)]
        await limiter.acquire(tenant_id="quiet")
        await asyncio.sleep(0)  # all of the flood is in the queue now
        waits: list[float] = []

        async def call(began: float, waits: list[float] = waits, at: FairLimiter = limiter) -> None:
            await at.acquire(tenant_id="quiet")
            waits.append(time.perf_counter() - began)

        began = time.perf_counter()
        await asyncio.gather(*(call(began) for _ in range(100)))
        p99[calls] = sorted(waits)[98]
        for task in loud:
            task.cancel()
        await asyncio.gather(*loud, return_exceptions=True)
    print(f"100 calls alone, p99 wait {p99[0]:.3f} s; beside 10,000 of another tenant", end=" ")
    print(f"{p99[10_000]:.3f} s: {p99[10_000] / p99[0]:.2f}")


async def worker(url: str, name: str, rate: float, burst: float) -> None:
    """Call as fast as ten tasks can, and print calls, grants and questions to the server."""
    limiter = create_limiter(rate, burst, name=name, redis_url=url, expected_instances=4)
    assert isinstance(limiter, SharedLimiter)
    await limiter.acquire(tenant_id="warm")
    print("ready", flush=True)
    seconds = float(await asyncio.to_thread(sys.stdin.readline))
    until = time.monotonic() + seconds
    calls = grants = 0

    async def call() -> None:
        nonlocal calls, grants
        while time.monotonic() < until:
            calls += 1
            try:
                await limiter.acquire(timeout=0.2, tenant_id="acme")
            except RateLimitError:
                await asyncio.sleep(0.01)
            else:
                grants += 1

    async with limiter:
        await asyncio.gather(*(call() for _ in range(10)))
    print(calls, grants, limiter.server_calls)


async def share(server: EmbeddedRedis, title: str, *, seconds: float, kill: bool) -> None:
    """Let four processes share one limit; kill the server for the middle third if asked to."""
    rate, burst = 500.0, 100.0
    words = ("--worker", server.url.get_secret_value(), title, str(rate), str(burst))
    workers = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, __file__, *words),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for _ in range(4)
    ]
    for one in workers:
        assert one.stdout is not None
        await one.stdout.readline()
    began = time.perf_counter()
    answers = [asyncio.create_task(one.communicate(b"%f\n" % seconds)) for one in workers]
    if kill:
        await asyncio.sleep(seconds / 3)
        await server.kill()
        await asyncio.sleep(seconds / 3)
        await server.start()
    outputs = [(await answer)[0].split() for answer in answers]
    # Until the last one was done; what ends a process is in it too.
    lasted = min(time.perf_counter() - began, seconds + 0.2)
    calls, grants, questions = (sum(int(out[column]) for out in outputs) for column in range(3))
    allowed = rate * lasted + burst
    each = ", ".join(out[1].decode() for out in outputs)
    print(f"{title}: admitted {grants} of {allowed:.0f} allowed at most ({grants / allowed:.2f})")
    asked(f"limiter, {title}, admitted of what is allowed", grants / allowed, most=1)
    print(
        f"  by process {each}; {questions / calls:.3f} questions a call, "
        f"{questions / grants:.3f} a grant"
    )


async def main() -> None:
    """Measure all and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.5)
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        url, name, rate, burst = options.worker
        await worker(url, name, float(rate), float(burst))
        return
    await queue()
    await flood()
    with tempfile.TemporaryDirectory() as folder:
        async with EmbeddedRedis(Path(folder) / "redis") as server:
            await share(server, "shared-by-4", seconds=options.seconds, kill=False)
            await share(server, "killed-for-a-third", seconds=options.seconds, kill=True)


if __name__ == "__main__":
    asyncio.run(main())
