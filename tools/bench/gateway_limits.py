"""Measure the gateway's limits: the queue against its ideal, a flood, tokens that are settled.

    python tools/bench/gateway_limits.py

The same limiters shared by four processes through Redis are measured by `tools/bench/limits.py`.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from bisect import bisect_left
from itertools import pairwise

from motadata.core.errors import RateLimitError
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
    create_gateway,
)


class Last:
    """Stands for the provider: answers at once and writes down when."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, str]] = []

    async def chat(
        self, call: Call[ChatRequest], _proceed: Proceed[ChatRequest, Completion]
    ) -> Completion:
        """Answer."""
        self.asked.append((time.monotonic(), call.request.messages[-1].content))
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
            for number in range(40):
                batch = [
                    asyncio.create_task(gateway.generate_async(f"{number}.{n}", tenant_id="quiet"))
                    for n in range(5)
                ]
                for call in batch:
                    began = time.monotonic()
                    await call
                    times.append(time.monotonic() - began)
            for call in others:
                call.cancel()
            await asyncio.gather(*others, return_exceptions=True)
    alone, flooded = (statistics.quantiles(waits[name], n=100)[98] * 1000 for name in waits)
    print(
        f"flood: p99 wait {alone:.1f} ms alone, {flooded:.1f} ms flooded (x{flooded / alone:.2f})"
    )


async def tokens() -> None:
    """200 calls at once against 10,000 tokens; each is expected to take 95 and takes 105."""
    last = Last()
    limits = Limits(Rate(tokens=1, token_burst=10_000), longest_wait=0.01)
    async with opened(Governance(limits=limits), last) as gateway:
        calls = (
            gateway.generate_async(f"{n}", max_tokens=90, tenant_id="acme") for n in range(200)
        )
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    refused = sum(isinstance(outcome, RateLimitError) for outcome in outcomes)
    used = 105 * len(last.asked)
    print(f"tokens: {len(last.asked)} calls used {used} of 10,000, {refused} were refused")


async def main() -> None:
    """Run everything."""
    await queue()
    await flood()
    await tokens()


if __name__ == "__main__":
    asyncio.run(main())
