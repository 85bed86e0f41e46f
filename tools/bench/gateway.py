"""Measure what the gateway costs a call: CPU of this process, beside its peers in the same run.

    python tools/bench/gateway.py [--rounds 25] [--without-litellm] [--calls 50000]

A server process answers by script, so its work is not counted. Each round asks every contender in
turn, so that a busy machine is busy for all; printed are the least and the first quartile of the
rounds, in microseconds of CPU a call. As it comes, a call passes tenant scope, validation, span and
metrics, response cache (a miss), joining of equal calls, prices, time limit and the native lane;
governed, it passes guardrails on both sides, limits and routing with breakers, and the usage log
writes it down, whose own work behind the calls is counted as theirs; the last gateway keeps to a
budget of money as well. What each part adds is measured by `gateway_layers.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any, Final, cast

import aiohttp
import orjson
from asked import asked

from motadata.core.cache import create_memory_cache, create_redis_cache
from motadata.core.database import PostgresDatabase, apply_migrations, create_database
from motadata.core.embedded import EmbeddedPostgres, EmbeddedRedis
from motadata.core.protocols import Database
from motadata.core.testing.openai_server import OpenAIServer, Reply
from motadata.gateway import Deduplication, Governance, Limits, LLMGateway, Rate, create_gateway
from motadata.gateway.budgets import Budget, Budgets
from motadata.gateway.guardrails import Guardrails, PersonalData, Secrets
from motadata.gateway.routing import Routing
from motadata.gateway.usage import Pricing, UsageLog


_MODEL: Final = "gpt-4o-mini"
_WORDS: Final = 400
_HIT: Final = {"memory": 60, "Redis": 400}
"""Microseconds that a hit may take."""
_number = count()

Ask = Callable[[str], Awaitable[object]]


@dataclass(slots=True)
class Contender:
    """Somebody who is asked, and the CPU microseconds a call of every round."""

    name: str
    ask: Ask
    slow: bool = False
    figures: list[float] = field(default_factory=list)

    async def round(self, concurrency: int, calls: int) -> None:
        """Ask `calls` times, so many at once."""
        prompts = iter([f"How do I reset token {next(_number)}?" for _ in range(calls)])

        async def work() -> None:
            for prompt in prompts:
                await self.ask(prompt)

        started = time.process_time()
        await asyncio.gather(*(work() for _ in range(concurrency)))
        self.figures.append((time.process_time() - started) / calls * 1e6)


def _table(title: str, contenders: list[Contender], unit: str) -> dict[str, float]:
    """Print the figures of all, and return the least of each."""
    floor = min(contenders[0].figures)
    print(f"\n{title}, {unit}")
    print(f"  {'':<28} {'min':>9} {'p25':>9} {'over raw':>9} {'ratio':>7}")
    for one in contenders:
        least, quarter = min(one.figures), statistics.quantiles(one.figures, n=4)[0]
        over = least - floor
        print(f"  {one.name:<28} {least:9.1f} {quarter:9.1f} {over:9.1f} {least / floor:7.2f}")
    return {one.name: min(one.figures) for one in contenders}


@asynccontextmanager
async def _contenders(url: str, *, litellm: bool) -> AsyncIterator[list[Contender]]:
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        gateway = await stack.enter_async_context(_gateway(url))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        database = await stack.enter_async_context(_database(folder / "server"))
        governance = _governance(database, folder / "usage")
        full = await stack.enter_async_context(_gateway(url, governance=governance))
        limited = replace(
            _governance(database, folder / "other"),
            budgets=Budgets(database, [Budget(name="monthly", usd=Decimal(1_000_000))]),
        )
        paying = await stack.enter_async_context(_gateway(url, governance=limited))
        bare = await stack.enter_async_context(_gateway(url, cached=False))

        async def raw(prompt: str) -> object:
            body = {"model": _MODEL, "messages": [{"role": "user", "content": prompt}]}
            headers = {"Authorization": "Bearer k", "Content-Type": "application/json"}
            async with session.post(
                f"{url}/chat/completions", data=orjson.dumps(body), headers=headers
            ) as response:
                answer = orjson.loads(await response.read())
            return cast("object", answer["choices"][0]["message"]["content"])

        made = [
            Contender("raw aiohttp + orjson", raw),
            Contender(
                "gateway, no response cache", lambda p: bare.generate_async(p, tenant_id="a")
            ),
            Contender("gateway, as it comes", lambda p: gateway.generate_async(p, tenant_id="a")),
            Contender("gateway, governed", lambda p: full.generate_async(p, tenant_id="a")),
            Contender("the same with a budget", lambda p: paying.generate_async(p, tenant_id="a")),
        ]
        if litellm:
            made += await _peers(url, stack)
        yield made


async def _peers(url: str, stack: AsyncExitStack) -> list[Contender]:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm
    from litellm.router import Router
    from openai import AsyncOpenAI

    litellm.suppress_debug_info = True
    client = await stack.enter_async_context(AsyncOpenAI(api_key="k", base_url=url))
    access = {"model": f"openai/{_MODEL}", "api_key": "k", "api_base": url}
    router = Router([{"model_name": "chat", "litellm_params": access}])

    def said(prompt: str) -> list[Any]:
        return [{"role": "user", "content": prompt}]

    async def official(prompt: str) -> object:
        return await client.chat.completions.create(model=_MODEL, messages=said(prompt))

    return [
        Contender("openai client", official),
        Contender(
            "litellm.acompletion",
            lambda p: litellm.acompletion(messages=said(p), num_retries=0, **access),
            slow=True,
        ),
        Contender(
            "litellm.Router",
            lambda p: router.acompletion("chat", messages=said(p)),
            slow=True,
        ),
    ]


@asynccontextmanager
async def _database(folder: Path) -> AsyncIterator[PostgresDatabase]:
    async with EmbeddedPostgres(folder, keep=False) as server:
        await apply_migrations(
            server.owner_dsn, ["motadata.gateway.migrations"], runtime_role=server.runtime_role
        )
        async with create_database(server.dsn(server.runtime_role)) as database:
            yield database


def _governance(database: Database, folder: Path) -> Governance:
    guardrails = Guardrails(
        [PersonalData("tokenise"), Secrets("refuse")], [PersonalData("mask"), Secrets("mask")]
    )
    return Governance(
        usage=UsageLog(database, folder),
        guardrail_inputs=guardrails.inputs,
        deduplication=Deduplication(),
        guardrail_outputs=guardrails.outputs,
        prices=Pricing(),
        limits=Limits(Rate(requests=60_000_000, tokens=6_000_000_000)),
        routing=Routing(),
    )


def _gateway(url: str, *, cached: bool = True, governance: Governance | None = None) -> LLMGateway:
    return create_gateway(
        ["openai"],
        f"openai/{_MODEL}",
        {"openai": "k"},
        base_urls={"openai": url},
        cache=create_memory_cache() if cached else None,
        governance=governance,
    )


async def _calls(url: str, rounds: int, *, litellm: bool) -> None:
    for concurrency, calls in ((1, 40), (64, 256)):
        async with _contenders(url, litellm=litellm) as contenders:
            for one in contenders:
                await one.round(concurrency, concurrency * 2)
                one.figures.clear()
            for _ in range(rounds):
                for one in contenders:
                    await one.round(concurrency, max(calls // 4, 8) if one.slow else calls)
            title = f"Whole answers, concurrency {concurrency}"
            found = _table(title, contenders, "CPU us a call")
            governed, raw = found["gateway, governed"], found["raw aiohttp + orjson"]
            if concurrency == 1:
                asked("a governed call at 1, over raw", governed - raw, most=200, unit="µs")
            else:
                asked("a governed call at 64", governed, most=400, unit="µs")
            if litellm:
                times = found["litellm.acompletion"] / governed
                asked(f"litellm of a governed call at {concurrency}", times, least=15)


async def _streams(server: OpenAIServer, rounds: int, *, litellm: bool) -> None:
    server.always(Reply(chunks=tuple(f"word{number} " for number in range(_WORDS))))
    url = server.url
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        gateway = await stack.enter_async_context(_gateway(url))
        rules = Guardrails((), [PersonalData("mask"), Secrets("mask")])
        guarding = Governance(guardrail_inputs=rules.inputs, guardrail_outputs=rules.outputs)
        careful = await stack.enter_async_context(_gateway(url, governance=guarding))

        async def raw(prompt: str) -> None:
            body = {"model": _MODEL, "stream": True, "messages": [{"content": prompt}]}
            async with session.post(f"{url}/chat/completions", data=orjson.dumps(body)) as response:
                async for line in response.content:
                    if line.startswith(b"data: {"):
                        orjson.loads(line[6:])

        async def governed(prompt: str) -> None:
            async for _ in gateway.stream(prompt, tenant_id="a"):
                pass

        async def guarded(prompt: str) -> None:
            async for _ in careful.stream(prompt, tenant_id="a"):
                pass

        contenders = [
            Contender("raw aiohttp + orjson", raw),
            Contender("gateway", governed),
            Contender("gateway, guardrails", guarded),
        ]
        if litellm:
            contenders += await _streaming_peers(url, stack)
        for one in contenders:
            await one.round(1, 1)
            one.figures.clear()
        for _ in range(rounds):
            for one in contenders:
                await one.round(1, 1)
        for one in contenders:
            one.figures = [figure / _WORDS for figure in one.figures]
        found = _table(f"Streams of {_WORDS} chunks", contenders, "CPU us a chunk")
        asked("a streamed chunk", found["gateway"], most=20, unit="µs")


async def _streaming_peers(url: str, stack: AsyncExitStack) -> list[Contender]:
    import litellm
    from openai import AsyncOpenAI

    client = await stack.enter_async_context(AsyncOpenAI(api_key="k", base_url=url))

    async def official(prompt: str) -> None:
        said: list[Any] = [{"role": "user", "content": prompt}]
        async for _ in await client.chat.completions.create(
            model=_MODEL, messages=said, stream=True
        ):
            pass

    async def peer(prompt: str) -> None:
        access = {"model": f"openai/{_MODEL}", "api_key": "k", "api_base": url}
        said = [{"role": "user", "content": prompt}]
        async for _ in await litellm.acompletion(messages=said, stream=True, **access):
            pass

    return [Contender("openai client", official), Contender("litellm", peer, slow=True)]


async def _hits(url: str, rounds: int) -> None:
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        redis = await stack.enter_async_context(EmbeddedRedis(Path(folder)))
        shared = await stack.enter_async_context(create_redis_cache(redis.url))
        figures = {}
        for name, cache in (("memory", create_memory_cache()), ("Redis", shared)):
            gateway = await stack.enter_async_context(
                create_gateway(
                    ["openai"], f"openai/{_MODEL}", {"openai": "k"},
                    base_urls={"openai": url}, cache=cache,
                )
            )  # fmt: skip
            figures[name] = await _hit(gateway, rounds)
    for name, values in figures.items():
        quarter = statistics.quantiles(values, n=4)[0]
        print(f"  cache hit from {name:<8} {min(values):9.1f} {quarter:9.1f} CPU us (min, p25)")
        asked(f"a cache hit from {name}", min(values), most=_HIT[name], unit="µs")


async def _hit(gateway: LLMGateway, rounds: int) -> list[float]:
    figures, calls = [], 100
    await gateway.generate_async("hello", tenant_id="a")
    for _ in range(rounds):
        started = time.process_time()
        for _ in range(calls):
            await gateway.generate_async("hello", tenant_id="a")
        figures.append((time.process_time() - started) / calls * 1e6)
        if not (await gateway.generate_async("hello", tenant_id="a")).cached:
            print("  NOT ANSWERED BY THE CACHE")
    return figures


async def _memory(url: str, calls: int) -> None:
    """Call often and print what stays; without a cache, whose growth is wanted and bounded."""
    async with _gateway(url, cached=False) as gateway:

        async def ask(many: int) -> None:
            for _ in range(many // 16):
                await asyncio.gather(
                    *(gateway.generate_async(f"q{next(_number)}", tenant_id="a") for _ in range(16))
                )

        await ask(2_000)
        gc.collect()
        before = _resident()
        await ask(calls)
        gc.collect()
        grown = _resident() - before
        print(f"\n  {calls} calls grow memory by {grown:.1f} MB")
        asked(f"growth by {calls} calls", grown, most=5, unit="MB")


def _resident() -> float:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _import() -> None:
    code = (
        "import sys, time, os\n"
        "def mb(): return int(open('/proc/self/statm').read().split()[1])"
        " * os.sysconf('SC_PAGE_SIZE') / 2**20\n"
        "m, t = mb(), time.process_time()\n"
        "import motadata.gateway\n"
        "print(time.process_time() - t, mb() - m, 'litellm' in sys.modules,"
        " 'aiohttp' in sys.modules)\n"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(5)
    ]
    seconds, memory = min(float(run[0]) for run in runs), min(float(run[1]) for run in runs)
    loaded: Mapping[str, str] = {"litellm": runs[0][2], "aiohttp": runs[0][3]}
    print(f"\n  import motadata.gateway: {seconds:.3f} s CPU, {memory:.1f} MB, loaded: {loaded}")
    asked("import motadata.gateway, CPU", seconds, most=0.35, unit="s")
    asked("import motadata.gateway, memory", memory, most=35, unit="MB")


async def _all(options: argparse.Namespace) -> None:
    litellm = not options.without_litellm
    with OpenAIServer() as server:
        # First, before what others leave behind could hide a growth.
        await _memory(server.url, options.calls)
        server.reset()
        server.always(Reply(text="Open the portal, choose Reset, and follow the link."))
        await _calls(server.url, options.rounds, litellm=litellm)
        await _hits(server.url, options.rounds)
        server.reset()
        await _streams(server, options.rounds, litellm=litellm)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--calls", type=int, default=50_000)
    parser.add_argument("--without-litellm", action="store_true")
    options = parser.parse_args()
    _import()
    asyncio.run(_all(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
