"""Measure what each part of a governed call costs, without a network.

    python tools/bench/gateway_layers.py [--rounds 25] [--calls 200] [--profile]

A provider in this process answers at once, so that what is left is the gateway's own. Each row adds
one part to the bare gateway; the last rows have all of them at once. `budgets` need a database,
which is started for it. Each round asks every row in turn; printed are the least and the first
quartile of the rounds, in microseconds of CPU a call. The native lane's own part, which is the
HTTP client's, is in `gateway.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Final

from motadata.core.cache import create_memory_cache
from motadata.core.database import PostgresDatabase, apply_migrations, create_database
from motadata.core.embedded import EmbeddedPostgres
from motadata.core.models import Completion, CompletionChunk, Embeddings, Health, Usage
from motadata.core.protocols import Database
from motadata.gateway import (
    ChatRequest,
    Deduplication,
    EmbeddingRequest,
    Governance,
    Limits,
    LLMGateway,
    Rate,
    create_gateway,
)
from motadata.gateway._call import ChatStep
from motadata.gateway._steps import traced_chat, validated_chat
from motadata.gateway.budgets import Budget, Budgets
from motadata.gateway.guardrails import Guardrails, PersonalData, Secrets
from motadata.gateway.routing import Routing
from motadata.gateway.usage import Pricing, UsageLog, UsagePolicy


_MODEL: Final = "openai/gpt-4o-mini"
_ANSWER: Final = "Open the portal, choose Reset, and follow the link."
_QUIET: Final = UsagePolicy(interval=3600, most_queued=10_000_000, closing=0)
_number = count()


class AtOnce:
    """A provider that answers before it is asked anything else."""

    name = "openai"
    revision = "1"

    async def complete(self, request: ChatRequest) -> Completion:
        """Return the answer; it waits once, as a network would."""
        await asyncio.sleep(0)
        return Completion(_ANSWER, request.model, usage=Usage(12, 11))

    async def stream(self, request: ChatRequest) -> AsyncIterator[CompletionChunk]:
        """Yield the answer."""
        yield CompletionChunk(_ANSWER, "stop", usage=Usage(12, 11), model=request.model)

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Return vectors."""
        return Embeddings(tuple((1.0,) for _ in request.texts), request.model)

    async def health(self) -> Health:
        """Say that all is well."""
        return Health("ok")

    async def aclose(self) -> None:
        """Do nothing."""


@dataclass(slots=True)
class Row:
    """A gateway with some parts, and the CPU microseconds a call of every round."""

    name: str
    gateway: LLMGateway
    figures: list[float] = field(default_factory=list)

    async def round(self, calls: int) -> None:
        """Ask so many times, one after the other."""
        prompts = [f"How do I reset token {next(_number)}?" for _ in range(calls)]
        started = time.process_time()
        for prompt in prompts:
            await self.gateway.generate_async(prompt, tenant_id="a")
        self.figures.append((time.process_time() - started) / calls * 1e6)


def _gateway(
    governance: Governance, *, cached: bool = False, without: Sequence[object] = ()
) -> LLMGateway:
    def arranged(steps: tuple[ChatStep, ...]) -> Sequence[ChatStep]:
        return [step for step in steps if step not in without]

    return create_gateway(
        [AtOnce()],
        _MODEL,
        governance=governance,
        cache=create_memory_cache() if cached else None,
        arrange=arranged,
    )


def _governances(database: Database, folder: Path) -> dict[str, Governance]:
    guards = Guardrails(
        [PersonalData("tokenise"), Secrets("refuse")], [PersonalData("mask"), Secrets("mask")]
    )
    log = UsageLog(database, folder, _QUIET)
    budgets = Budgets(database, [Budget(name="monthly", usd=Decimal(1_000_000))])
    pricing, limits = Pricing(), Limits(Rate(requests=60_000_000, tokens=6_000_000_000))
    every = Governance(
        usage=log,
        guardrail_inputs=guards.inputs,
        deduplication=Deduplication(),
        guardrail_outputs=guards.outputs,
        prices=pricing,
        budgets=budgets,
        limits=limits,
        routing=Routing(),
    )
    return {
        "usage log": Governance(usage=UsageLog(database, folder / "alone", _QUIET)),
        "guardrails, in": Governance(guardrail_inputs=guards.inputs),
        "guardrails, in and out": Governance(
            guardrail_inputs=guards.inputs, guardrail_outputs=guards.outputs
        ),
        "deduplication": Governance(deduplication=Deduplication()),
        "prices": Governance(prices=Pricing()),
        "prices, budget": Governance(
            prices=Pricing(),
            budgets=Budgets(database, [Budget(name="alone", usd=Decimal(1_000_000))]),
        ),
        "limits": Governance(limits=Limits(Rate(requests=60_000_000, tokens=6_000_000_000))),
        "routing": Governance(routing=Routing()),
        "all, without log, budget": replace(
            every, usage=None, budgets=None, deduplication=Deduplication(), routing=Routing(),
            limits=Limits(Rate(requests=60_000_000, tokens=6_000_000_000)),
        ),
        "all": every,
    }  # fmt: skip


@asynccontextmanager
async def _rows() -> AsyncIterator[list[Row]]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        database = await stack.enter_async_context(_database(folder / "server"))
        nothing = Governance()
        bare: dict[str, LLMGateway] = {
            "bare": _gateway(nothing),
            "bare, no span": _gateway(nothing, without=[traced_chat]),
            "bare, no checks": _gateway(nothing, without=[validated_chat]),
            "response cache, a miss": _gateway(nothing, cached=True),
        }
        for name, governance in _governances(database, folder / "usage").items():
            bare[name] = _gateway(governance, cached=name.startswith("all"))
        yield [
            Row(name, await stack.enter_async_context(gateway)) for name, gateway in bare.items()
        ]


@asynccontextmanager
async def _database(folder: Path) -> AsyncIterator[PostgresDatabase]:
    async with EmbeddedPostgres(folder, keep=False) as server:
        await apply_migrations(
            server.owner_dsn, ["motadata.gateway.migrations"], runtime_role=server.runtime_role
        )
        async with create_database(server.dsn(server.runtime_role)) as database:
            yield database


async def _measured(rounds: int, calls: int) -> None:
    async with _rows() as rows:
        for row in rows:
            await row.round(calls)
            row.figures.clear()
        for _ in range(rounds):
            for row in rows:
                await row.round(calls)
        floor = min(rows[0].figures)
        print(f"{'CPU us a call':<28}{'min':>9}{'p25':>9}{'adds':>9}")
        for row in rows:
            least, quarter = min(row.figures), statistics.quantiles(row.figures, n=4)[0]
            print(f"  {row.name:<26}{least:>9.1f}{quarter:>9.1f}{least - floor:>9.1f}")


async def _profiled(calls: int) -> None:
    async with _rows() as rows:
        row = rows[-1]
        await row.round(calls)
        profile = cProfile.Profile()
        profile.enable()
        await row.round(calls)
        profile.disable()
    pstats.Stats(profile).sort_stats("tottime").print_stats(45)


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--profile", action="store_true", help="where the time of a call goes")
    options = parser.parse_args()
    asyncio.run(
        _profiled(options.calls * 10)
        if options.profile
        else _measured(options.rounds, options.calls)
    )

    return 0


if __name__ == "__main__":
    sys.exit(main())
