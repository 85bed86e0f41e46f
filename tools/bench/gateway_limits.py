"""Measure the gateway's limits: the queue against its ideal, a flood, tokens, several processes.

    python tools/bench/gateway_limits.py [--seconds 4.5]

Tokens are measured with calls that are answered one after the other, so that each settles its
estimate before the next is let through, and with calls that are all under way together. Four
processes share one limit through Redis, whose scripts are counted, and whose server is killed for
the middle third of a second run.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from bisect import bisect_left
from itertools import pairwise
from pathlib import Path
from typing import Final

from asked import asked
from redis.asyncio import Redis

from motadata.core.embedded import EmbeddedRedis
from motadata.core.errors import ProviderError, RateLimitError
from motadata.core.models import Completion, Usage
from motadata.gateway import (
    Call,
    ChatRequest,
    Governance,
    Limits,
    LLMGateway,
    Proceed,
    ProviderLimits,
    Rate,
    Sharing,
    create_gateway,
)


RATE: Final = 500.0
"""Calls a second that four processes share."""
BURST: Final = 100.0


class Last:
    """Stands for the provider: answers at once and writes down when."""

    def __init__(self, held: asyncio.Event | None = None) -> None:
        self.asked: list[tuple[float, str]] = []
        self.held = held

    async def chat(
        self, call: Call[ChatRequest], _proceed: Proceed[ChatRequest, Completion]
    ) -> Completion:
        """Answer."""
        self.asked.append((time.monotonic(), call.request.messages[-1].content))
        if self.held is not None:
            await self.held.wait()
        call.notes.attempts += 1
        call.notes.spent = Usage(5, 100)
        return Completion("fine", "motadata/extractive", usage=Usage(5, 100))


def opened(governance: Governance, last: Last) -> LLMGateway:
    """Open a gateway whose last step answers by itself."""
    return create_gateway(governance=governance, arrange=lambda steps: (*steps[:-1], last.chat))


async def queue() -> None:
    """500 waiters, 250 a second, a burst of 50: ideally 1.80 s."""
    for round_ in range(3):
        last = Last()
        governance = Governance(limits=Limits(Rate(requests=15_000, request_burst=50)))
        async with opened(governance, last) as gateway:
            began = time.monotonic()
            await asyncio.gather(
                *(gateway.generate_async(f"{n}", tenant_id="acme") for n in range(500))
            )
            took = time.monotonic() - began
        instants = [at for at, _ in last.asked]
        most = max(bisect_left(instants, at + 0.1) - i for i, at in enumerate(instants))
        turned = sum(int(one) > int(two) for (_, one), (_, two) in pairwise(last.asked))
        print(
            f"queue {round_}: {took:.3f} s (ideal 1.80, {took / 1.8 - 1:+.1%}); "
            f"at most {most} in 100 ms; {turned} inversions"
        )
        asked("500 waiters, of the ideal 1.80 s", took / 1.8, least=0.97, most=1.03)
        asked("most in 100 ms", most, most=75)
        asked("inversions within a tenant", turned, most=0)


async def flood() -> None:
    """How long one tenant waits at a shared key, alone and beside 10,000 calls of another."""
    waits: dict[str, list[float]] = {"alone": [], "flooded": []}
    for name, times in waits.items():
        limits = ProviderLimits(
            {"motadata": Rate(requests=12_000, request_burst=1)}, longest_wait=59
        )
        governance, last = Governance(provider_limits=limits), Last()
        async with opened(governance, last) as gateway:
            others = [
                asyncio.create_task(gateway.generate_async(f"{n}", tenant_id="flood"))
                for n in range(10_000 if name == "flooded" else 0)
            ]
            await asyncio.sleep(1.0)

            async def wait(text: str, gateway: LLMGateway, times: list[float]) -> None:
                began = time.monotonic()
                await gateway.generate_async(text, tenant_id="quiet")
                times.append(time.monotonic() - began)

            for number in range(40):
                texts = (f"{number}.{n}" for n in range(5))
                await asyncio.gather(*(wait(text, gateway, times) for text in texts))
            for call in others:
                call.cancel()
            await asyncio.gather(*others, return_exceptions=True)
    alone, flooded = (statistics.quantiles(waits[name], n=100)[98] * 1000 for name in waits)
    print(
        f"flood: p99 wait {alone:.1f} ms alone, {flooded:.1f} ms flooded (x{flooded / alone:.2f})"
    )
    asked("p99 wait beside a flood of 10,000", flooded / alone, most=2)


async def tokens() -> None:
    """200 calls at once against 10,000 tokens; each is expected to take 95 and takes 105."""
    for title, hold in (("answered at once", False), ("all under way together", True)):
        last = Last(asyncio.Event() if hold else None)
        limits = Limits(Rate(tokens=60, token_burst=10_000), longest_wait=1.0)
        async with opened(Governance(limits=limits), last) as gateway:
            calls = [
                asyncio.create_task(
                    gateway.generate_async(f"{n}", max_tokens=90, timeout=0.5, tenant_id="acme")
                )
                for n in range(200)
            ]
            await asyncio.sleep(0.2)
            if last.held is not None:
                last.held.set()
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
        refused = sum(isinstance(outcome, RateLimitError) for outcome in outcomes)
        used = 105 * len(last.asked)
        print(
            f"tokens, {title}: {len(last.asked)} calls used {used} of 10,000 "
            f"({used / 10_000 - 1:+.1%}; an estimate's error is +10.5%), {refused} were refused"
        )
        over = 100 * (used / 10_000 - 1)
        asked(f"tokens over the limit, {title}", over, most=10.5, unit="%")


async def worker(url: str, seconds: float) -> None:
    """Call as fast as ten tasks can, and print calls and how many of them were let through."""
    last, calls = Last(), 0
    sharing = Sharing(redis_url=url, expected_instances=4)
    limits = Limits(Rate(requests=RATE * 60, request_burst=BURST), sharing=sharing, longest_wait=5)
    async with opened(Governance(limits=limits), last) as gateway:
        await gateway.generate_async("warm", tenant_id="warm")
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        until = time.monotonic() + seconds

        async def call() -> None:
            nonlocal calls
            while time.monotonic() < until:
                calls += 1
                try:
                    await gateway.generate_async(f"{calls}", timeout=0.2, tenant_id="acme")
                except (RateLimitError, ProviderError):  # refused, or no time was left behind it
                    await asyncio.sleep(0.01)

        await asyncio.gather(*(call() for _ in range(10)))
    print(calls, len(last.asked) - 1)


async def share(server: EmbeddedRedis, *, seconds: float, kill: bool) -> None:
    """Let the gateways of four processes share a limit; kill its server for a third of the time."""
    url = server.url.get_secret_value()
    words = ("--worker", url, str(seconds))
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
    async with Redis.from_url(url) as redis:
        before = await served_by(redis)
        began = time.perf_counter()
        answers = [asyncio.create_task(one.communicate(b"\n")) for one in workers]
        if kill:
            await asyncio.sleep(seconds / 3)
            await server.kill()
            await asyncio.sleep(seconds / 3)
            await server.start()
        outputs = [(await answer)[0].split() for answer in answers]
        lasted = min(time.perf_counter() - began, seconds + 0.2)
        calls, grants = (sum(int(out[column]) for out in outputs) for column in range(2))
        allowed = RATE * lasted + BURST
        # A server that was killed counts from nothing again.
        each = 0.0 if kill else (await served_by(redis) - before) / calls
    title = "four processes, Redis killed for a third" if kill else "four processes"
    print(f"{title}: {grants} of at most {allowed:.0f} ({grants / allowed:.2f})")
    asked(f"{title}, admitted of what is allowed", grants / allowed, most=1)
    if not kill:
        asked(f"{title}, scripts a call", each, most=0.1)


async def served_by(redis: Redis) -> int:
    """Return how many scripts a server was asked to run; each is one round trip of an instance."""
    commands = await redis.info("commandstats")
    scripts = ("cmdstat_eval", "cmdstat_evalsha", "cmdstat_fcall")
    return sum(int(commands[name]["calls"]) for name in scripts if name in commands)


async def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.5)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        await worker(options.worker[0], float(options.worker[1]))
        return
    await queue()
    await flood()
    await tokens()
    for kill in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            async with EmbeddedRedis(Path(folder)) as server:
                await share(server, seconds=options.seconds, kill=kill)


if __name__ == "__main__":
    asyncio.run(main())
