"""What the gateway's sharing saves and costs: equal calls, merged texts, cached answers.

    python tools/bench/gateway_sharing.py [--rounds 25]

Over HTTP against a server process: how many requests reach it when a thousand calls ask the same,
when the first of them is given up or fails, when tenants ask the same, and when 512 single texts
are embedded at once. In this process, beside the bare call: the CPU of de-duplication, of merging
and of a cached answer; the memory of idle tenants and of many calls.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from asked import asked

from motadata.core.cache import create_memory_cache, create_redis_cache
from motadata.core.embedded import EmbeddedRedis
from motadata.core.models import Completion, CompletionChunk, Embeddings, Health, Usage
from motadata.core.protocols import Cache
from motadata.core.testing.openai_server import OpenAIServer, Reply
from motadata.gateway import (
    ChatRequest,
    Deduplication,
    EmbeddingBatches,
    EmbeddingRequest,
    Governance,
    Limits,
    LLMGateway,
    ProviderLimits,
    Rate,
    create_gateway,
)
from motadata.gateway.routing import Routing
from motadata.gateway.usage import Pricing


CALLS = 1_000
SINGLES = 512
PER_ROUND = 200
TENANTS = 10_000

Ask = Callable[[LLMGateway, str], Awaitable[object]]


class Instant:
    """A provider that answers at once, so that what is measured is the way to it."""

    revision = ""

    def __init__(self, name: str = "instant") -> None:
        self.name = name

    async def complete(self, request: ChatRequest) -> Completion:
        """Return 200 characters."""
        return Completion("x" * 200, request.model, usage=Usage(10, 5))

    async def stream(self, request: ChatRequest) -> AsyncIterator[CompletionChunk]:  # noqa: ARG002 - the protocol's
        """Yield one part."""
        yield CompletionChunk("x" * 200)
        yield CompletionChunk("", "stop", usage=Usage(10, 5))

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Return vectors of 384 numbers."""
        return Embeddings(tuple((1.0,) * 384 for _ in request.texts), request.model, Usage(5))

    async def health(self) -> Health:
        """Say that it is well."""
        return Health("ok")

    async def aclose(self) -> None:
        """Do nothing."""


async def generate(gateway: LLMGateway, tenant: str) -> object:
    """Ask for a whole answer."""
    return await gateway.generate_async("What is down?", tenant_id=tenant, timeout=30)


async def stream(gateway: LLMGateway, tenant: str) -> object:
    """Read a streamed answer."""
    chunks = gateway.stream("What is down?", tenant_id=tenant, timeout=30)
    return "".join([chunk.text async for chunk in chunks])


async def embed(gateway: LLMGateway, tenant: str) -> object:
    """Embed a text."""
    return await gateway.embed(["What is down?"], tenant_id=tenant, timeout=30)


def over_http(url: str, cache: Cache | None = None) -> LLMGateway:
    """Return a gateway with the default governance, to the server process."""
    return create_gateway(
        ["openai"],
        "openai/m",
        {"openai": "sk-bench"},
        default_embedding_model="openai/e",
        base_urls={"openai": url},
        cache=cache,
    )


async def equal_calls(server: OpenAIServer, ask: Ask, most: dict[str, int]) -> str:
    """Count the requests of a thousand equal calls, undisturbed and disturbed."""
    found = []
    for case in ("undisturbed", "first given up", "first fails", "10 tenants"):
        server.reset()
        server.always(Reply(text="The mail server.", delay=0.3))
        if case == "first fails":
            server.reply(Reply(status=503, delay=0.3))
        async with over_http(server.url) as gateway:
            tenants = [f"t{number % 10 if case == '10 tenants' else 0}" for number in range(CALLS)]
            tasks = [asyncio.ensure_future(ask(gateway, tenant)) for tenant in tenants]
            if case == "first given up":
                await asyncio.sleep(0.1)
                tasks[0].cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        failed = sum(isinstance(result, BaseException) for result in results)
        found.append(f"{len(server.requests)} ({failed} failed)")
        most[case] = max(most.get(case, 0), len(server.requests))
    return " | ".join(f"{each:>15}" for each in found)


async def single_texts(server: OpenAIServer, rounds: int) -> None:
    """Embed 512 texts by calls of one, beside two calls of 256 that ask for the same work."""
    added, upstream = [], []
    server.reset()
    server.always(Reply(vectors=None, delay=0.05))
    async with over_http(server.url) as gateway:
        for number in range(rounds):
            texts = [f"text {number} {place}" for place in range(SINGLES)]
            halves = (texts[: SINGLES // 2], texts[SINGLES // 2 :])
            began = time.perf_counter()
            await asyncio.gather(*(gateway.embed(half, tenant_id="whole") for half in halves))
            whole = time.perf_counter() - began
            before = len(server.requests)
            began = time.perf_counter()
            await asyncio.gather(*(gateway.embed([text], tenant_id="acme") for text in texts))
            added.append(time.perf_counter() - began - whole)
            upstream.append(len(server.requests) - before)
        quiet = []
        for number in range(rounds):
            began = time.perf_counter()
            await gateway.embed([f"alone {number}"], tenant_id="acme")
            quiet.append(time.perf_counter() - began - 0.05)
    print(f"{SINGLES} single texts at once: at most {max(upstream)} requests; all of them are back")
    print(
        f"  {low(added) * 1e3:+.1f} ms (min), {quarter(added) * 1e3:+.1f} ms (p25) against 2 x 256"
    )
    asked("requests for 512 single texts", max(upstream), most=16)
    asked("added to a text alone", low(quiet) * 1e3, most=5, unit="ms")
    print(f"  a text alone: {low(quiet) * 1e3:.1f} ms (min) over the server's 50, HTTP included")


async def cpu(rounds: int) -> None:
    """Measure the CPU of a call through each part, interleaved with the bare call."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            EmbeddedRedis(Path(folder) / "redis") as server,
            create_redis_cache(server.url) as redis,
        ):
            await _cpu(rounds, redis)


async def _cpu(rounds: int, redis: Cache) -> None:
    variants: dict[str, tuple[Governance, Cache | None, bool]] = {
        "bare": (Governance(), None, False),
        "deduplication": (Governance(deduplication=Deduplication()), None, False),
        "batches": (Governance(batches=EmbeddingBatches()), None, False),
        "hit in memory": (Governance(deduplication=Deduplication()), create_memory_cache(), True),
        "hit in Redis": (Governance(deduplication=Deduplication()), redis, True),
    }
    times: dict[tuple[str, str], list[float]] = {}
    for turn in range(rounds):
        for name, (governance, cache, same) in variants.items():
            gateway = create_gateway(
                [Instant()],
                "instant/m",
                default_embedding_model="instant/e",
                governance=governance,
                cache=cache,
            )
            async with gateway:
                for kind in ("chat", "embed"):
                    prompts = [
                        "What is down? " * 10 + (f"{turn} {number}" if not same else "")
                        for number in range(PER_ROUND)
                    ]
                    ask = gateway.generate_async if kind == "chat" else _one(gateway)
                    await ask(prompts[0], tenant_id="acme")
                    began = time.process_time()
                    for prompt in prompts:
                        await ask(prompt, tenant_id="acme")
                    spent = (time.process_time() - began) / PER_ROUND * 1e6
                    times.setdefault((name, kind), []).append(spent)
    print(f"{'CPU us a call':<16}{'chat min':>10}{'p25':>8}{'embed min':>12}{'p25':>8}")
    for name in variants:
        chat, vectors = times[name, "chat"], times[name, "embed"]
        figures = f"{low(chat):>10.1f}{quarter(chat):>8.1f}{low(vectors):>12.1f}"
        print(f"{name:<16}{figures}{quarter(vectors):>8.1f}")


def _one(gateway: LLMGateway) -> Callable[..., Awaitable[object]]:
    def ask(text: str, *, tenant_id: str) -> Awaitable[object]:
        return gateway.embed([text], tenant_id=tenant_id)

    return ask


async def memory(title: str, governance: Governance | None) -> None:
    """Call once for each tenant and provider, then 50,000 times, and see what stays."""
    names = ("one", "two", "three")
    providers = [Instant(name) for name in names]
    async with create_gateway(
        providers, "one/m", default_embedding_model="one/e", governance=governance
    ) as gateway:
        await generate(gateway, "warm")
        await embed(gateway, "warm")
        before = resident()
        for number in range(TENANTS):
            for name in names:
                await gateway.generate_async("Hi", model=f"{name}/m", tenant_id=f"t{number}")
                await gateway.embed(["Hi"], model=f"{name}/e", tenant_id=f"t{number}")
        idle = resident() - before
        each = idle / TENANTS / len(names)
        print(
            f"{title}: {TENANTS:,} tenants x 3 providers, idle: {idle / 1e6:.1f} MB, "
            f"{each:.0f} bytes each"
        )
        asked(f"{title}, an idle tenant and provider", each, most=1024, unit="bytes")
        before = resident()
        for number in range(50_000):
            await gateway.generate_async(f"Hi {number}", tenant_id=f"t{number % TENANTS}")
        grown = (resident() - before) / 1e6
        print(f"{title}: 50,000 calls: {grown:+.1f} MB")
        asked(f"{title}, growth by 50,000 calls", grown, most=5, unit="MB")


def governed() -> Governance:
    """Return all parts that keep something for each tenant and need no database."""
    return Governance(
        deduplication=Deduplication(),
        prices=Pricing(),
        limits=Limits(Rate(requests=60_000, tokens=60_000_000)),
        batches=EmbeddingBatches(),
        routing=Routing(),
        provider_limits=ProviderLimits({"one": Rate(requests=60_000_000)}),
    )


def resident() -> int:
    """Return the bytes of memory that this process holds."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def low(values: list[float]) -> float:
    """Return the smallest."""
    return min(values)


def quarter(values: list[float]) -> float:
    """Return the value that a quarter stays below."""
    return sorted(values)[len(values) // 4]


async def measure(rounds: int) -> None:
    """Print everything."""
    with OpenAIServer() as server:
        head = ("undisturbed", "first given up", "first fails", "10 tenants")
        print(f"requests of {CALLS:,} equal calls")
        most: dict[str, int] = {}
        print(f"{'':<10}" + " | ".join(f"{each:>15}" for each in head))
        for name, ask in (("chat", generate), ("stream", stream), ("embedding", embed)):
            print(f"{name:<10}" + await equal_calls(server, ask, most))
        for case, allowed in (("undisturbed", 1), ("first given up", 2), ("first fails", 2)):
            asked(f"requests of 1,000 equal calls, {case}", most[case], most=allowed)
        asked("the same of 10 tenants", most["10 tenants"], least=10, most=10)
        await single_texts(server, max(5, rounds // 3))
    await cpu(rounds)
    await memory("as it comes", None)
    await memory("governed", governed())


def main() -> int:
    """Run it; the exit code says whether it ran."""
    parser = argparse.ArgumentParser(description="What sharing saves and costs.")
    parser.add_argument("--rounds", type=int, default=25)
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
