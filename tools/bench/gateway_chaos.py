"""Measure the gateway's routing against failing providers: successes, extra calls, deadlines.

    python tools/bench/gateway_chaos.py [--calls 2000]

Three scripted server processes serve one route. Printed are the outcomes of the calls, the upstream
requests a call, and the latest end after a deadline, for faults of two kinds: `episodes`, in which
each provider in turn is down or hangs for a while and 30% of the capacity is missing at any time,
and `independent`, in which each request fails with a chance of 30% whoever is asked, a fifth of
these by hanging. For the latter no client can answer all calls with fewer than 1 / 0.7 = 1.43
requests a call. A client that asks the three in turn, each once, is run beside it as the peer.
Then: a tenant whose account fails always beside one that is well, at one model, and the CPU that
routing and limits cost a call.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace

from asked import asked

from motadata.core.errors import ProviderError, SDKError
from motadata.core.models import Completion
from motadata.core.tenancy import current_tenant
from motadata.core.testing.openai_server import OpenAIServer, Reply
from motadata.gateway import (
    ChatRequest,
    Governance,
    Limits,
    LLMGateway,
    OpenAIProvider,
    Rate,
    create_gateway,
)
from motadata.gateway.routing import Route, Routing


DEADLINE = 2.0
RATE = 150.0
MODELS = ("a/m", "b/m", "c/m")
FAULTS = (
    Reply(status=500),
    Reply(status=503),
    Reply(status=429, headers={"Retry-After": "1"}),
    Reply(cut=20),
    Reply(hang=True),
)


@dataclass(slots=True)
class Outcome:
    """What became of the calls of one run."""

    served: int = 0
    failed: int = 0
    latest: float = 0.0
    errors: dict[str, int] = field(default_factory=dict)


async def drive(
    ask: Callable[[int], Awaitable[Completion]], calls: int, before: Callable[[int], None]
) -> Outcome:
    """Make the calls at a steady rate, whatever becomes of those before."""
    outcome = Outcome()

    async def make(number: int) -> None:
        before(number)
        began = time.monotonic()
        try:
            await ask(number)
            outcome.served += 1
        except SDKError as error:
            outcome.failed += 1
            outcome.errors[error.code] = outcome.errors.get(error.code, 0) + 1
        late = time.monotonic() - began - DEADLINE
        outcome.latest = max(outcome.latest, late)

    start = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(calls):
            await asyncio.sleep(max(0.0, start + number / RATE - time.monotonic()))
            group.create_task(make(number))
    return outcome


def independent(servers: list[OpenAIServer], calls: int) -> Callable[[int], None]:
    """Script faults of 30% for each server, whoever is asked, and return what happens before."""
    dice = random.Random(1)  # noqa: S311 - no secret
    for server in servers:
        server.reset()
        faults = [
            dice.choice(FAULTS) if dice.random() < 0.3 else Reply(text="fine")
            for _ in range(calls * 3)
        ]
        server.reply(*faults)
        server.always(Reply(text="fine"))
    return lambda _: None


def episodes(servers: list[OpenAIServer], calls: int) -> Callable[[int], None]:
    """Let one server after the other be down for nine tenths of a stretch of calls."""
    for server in servers:
        server.reset()
        server.always(Reply(text="fine"))
    stretch = max(1, calls // 10)

    def before(number: int) -> None:
        place, within = divmod(number, stretch)
        server = servers[place % 3]
        if within == 0:
            servers[(place - 1) % 3].always(Reply(text="fine"))
            server.always(FAULTS[place % len(FAULTS)])
        elif within == stretch * 9 // 10:
            server.always(Reply(text="fine"))

    return before


async def in_turn(gateway: LLMGateway) -> Completion:
    """Be the peer: ask the three in their order, each once."""
    last: SDKError | None = None
    for model in MODELS:
        try:
            return await gateway.generate_async(
                "Hi", model=model, timeout=DEADLINE / 3, cache="bypass", tenant_id="acme"
            )
        except SDKError as error:
            last = error
    raise last or ProviderError("nobody")


def opened(servers: list[OpenAIServer], governance: Governance) -> LLMGateway:
    """Open a gateway to the three."""
    providers = [
        OpenAIProvider(name, base_url=server.url)
        for name, server in zip("abc", servers, strict=True)
    ]
    return create_gateway(providers, MODELS[0], governance=governance)


async def chaos(servers: list[OpenAIServer], calls: int) -> None:
    """Print what becomes of calls under both kinds of faults, and of the peer's."""
    print(f"{'faults':12} {'client':8} {'served':>9} {'sent a call':>12} {'too late':>14}  errors")
    for name, faults in (("episodes", episodes), ("independent", independent)):
        for client in ("routing", "in turn"):
            before = faults(servers, calls)
            routing = Routing({"chat": Route(MODELS, order="least_busy")})
            governance = Governance(routing=routing) if client == "routing" else Governance()
            async with opened(servers, governance) as gateway:
                for model in MODELS:  # connects, and imports what is imported on first use
                    with contextlib.suppress(SDKError):
                        await gateway.generate_async(
                            "Hi", model=model, timeout=DEADLINE, tenant_id="warm"
                        )

                async def ask(number: int, gateway: LLMGateway = gateway) -> Completion:
                    if client == "in turn":  # noqa: B023 - called within this round only
                        return await in_turn(gateway)
                    return await gateway.generate_async(
                        f"{number}", model="chat", timeout=DEADLINE, tenant_id=f"t{number % 7}"
                    )

                outcome = await drive(ask, calls, before)
            sent = sum(len(server.requests) for server in servers)
            print(
                f"{name:12} {client:8} {outcome.served / calls:9.2%} {sent / calls:12.3f} "
                f"{max(0.0, outcome.latest) * 1000:11.0f} ms  {outcome.errors or ''}"
            )
            if client == "routing":
                title = f"faults in {name}" if name == "episodes" else f"{name} faults"
                asked(f"{title}, served", 100 * outcome.served / calls, least=99.9, unit="%")
                asked(f"{title}, requests a call", sent / calls, most=1.2)
                late = max(0.0, outcome.latest) * 1000
                asked(f"{title}, after the deadline", late, most=50, unit="ms")


class Accounts(OpenAIProvider):
    """A provider at which each tenant has an account, that of `sick` being broken.

    The server tells accounts by the model on the wire; the gateway sees one model of all tenants.
    """

    async def complete(self, request: ChatRequest) -> Completion:
        """Ask in the name of the tenant's account."""
        if current_tenant() == "sick":
            request = replace(request, model=f"{self.name}/broken")
        return await super().complete(request)


async def neighbours(servers: list[OpenAIServer]) -> None:
    """Print what a tenant notices of another that fails always, at the same model."""
    server = servers[0]
    server.reset()
    server.always(Reply(text="fine", delay=0.002), model="m")
    server.always(Reply(status=500), model="broken")
    times: dict[bool, list[float]] = {False: [], True: []}
    well: Counter[str] = Counter()
    ill: Counter[str] = Counter()

    async def sick(gateway: LLMGateway, over: asyncio.Event) -> None:
        while not over.is_set():
            try:
                await gateway.generate_async("Hi", timeout=1, tenant_id="sick")
                ill["answered"] += 1
            except SDKError as error:
                ill[error.code] += 1
                await asyncio.sleep(0.002)

    for number in range(10):
        beside = bool(number % 2)
        provider = Accounts("a", base_url=server.url)
        governance = Governance(routing=Routing())
        async with create_gateway([provider], "a/m", governance=governance) as gateway:
            over = asyncio.Event()
            others = [asyncio.create_task(sick(gateway, over)) for _ in range(4 if beside else 0)]
            for _ in range(200):
                began = time.perf_counter()
                try:
                    await gateway.generate_async("Hi", tenant_id="well")
                except SDKError as error:
                    well[error.code] += 1
                times[beside].append(time.perf_counter() - began)
            over.set()
            await asyncio.gather(*others)
    alone, both = (statistics.quantiles(times[key], n=100)[98] * 1000 for key in (False, True))
    sent = sum(request.body["model"] == "broken" for request in server.requests)
    print(f"\na tenant that is well: p99 {alone:.2f} ms alone, {both:.2f} ms beside one that fails")
    print(
        f"always at the same model (x{both / alone:.2f}); of its 2,000 calls failed {dict(well)};"
    )
    print(f"those of the other ended {dict(ill)}, for which {sent} requests were sent")
    asked("p99 beside a tenant that fails always", both / alone, most=1.1)
    asked("failed calls of the well tenant", sum(well.values()), most=0)


async def down_for_all(servers: list[OpenAIServer]) -> None:
    """Print how many requests reach a provider that is down before it is left alone."""
    servers[0].reset()
    servers[0].always(Reply(text="fine"))
    async with opened(servers, Governance(routing=Routing())) as gateway:
        for number in range(100):
            await gateway.generate_async("Hi", tenant_id=f"t{number % 20}")
        servers[0].always(Reply(status=500))
        for number in range(100):
            try:
                await gateway.generate_async("Hi", timeout=0.3, tenant_id=f"t{number % 20}")
            except SDKError:
                continue
    print(f"\na provider down for 20 tenants got {len(servers[0].requests) - 100} more requests")
    asked("requests that trip a provider's breaker", len(servers[0].requests) - 100, most=10)


async def cut_streams(servers: list[OpenAIServer]) -> None:
    """Cut a stream at every part, before a model that says the same and one that does not."""
    words = " ".join(f"word{number}" for number in range(40))
    counts = {"identical": 0, "one error": 0, "wrong": 0}
    for same in (True, False):
        for cut in range(43):
            for server in servers:
                server.reset()
                server.always(Reply(text=words if same else words.replace("word20", "other")))
            servers[0].always(Reply(text=words, cut=cut))
            routing = Routing({"chat": Route(("a/m", "b/m"))})
            said: list[str] = []
            async with opened(servers, Governance(routing=routing)) as gateway:
                try:
                    async for part in gateway.stream("Hi", model="chat", tenant_id="acme"):
                        said.append(part.text)  # noqa: PERF401 - it may end with an error
                    whole = "".join(said) in (words, words.replace("word20", "other"))
                    counts["identical" if whole else "wrong"] += 1
                except ProviderError:
                    prefix = words.startswith("".join(said))
                    counts["one error" if prefix else "wrong"] += 1
    print(f"\nstreams cut at each of 43 events, before an equal and an unequal model: {counts}")
    asked("cut streams that end wrong", counts["wrong"], most=0)


class Instant:
    """A provider without a network."""

    name = "i"
    revision = ""

    async def complete(self, _request: object) -> Completion:
        """Answer at once."""
        return Completion("fine", "i/m")

    async def stream(self, _request: object) -> AsyncIterator[object]:
        """Say nothing."""
        yield None

    async def health(self) -> None:
        """Be well."""
        return

    async def aclose(self) -> None:
        """Close nothing."""
        return


async def cpu() -> None:
    """Print what the parts cost a call, in turns, the least and the quarter of the rounds."""
    plenty = Rate(requests=1e9, tokens=1e12)
    parts = {
        "nothing": Governance(),
        "limits": Governance(limits=Limits(plenty)),
        "routing": Governance(routing=Routing()),
    }
    rounds: dict[str, list[float]] = {name: [] for name in parts}
    gateways = {
        name: create_gateway([Instant()], "i/m", governance=part)  # type: ignore[list-item]  # enough of one
        for name, part in parts.items()
    }
    for _ in range(25):
        for name, gateway in gateways.items():
            began = time.process_time()
            for _ in range(500):
                await gateway.generate_async("Hi " * 100, max_tokens=90, tenant_id="acme")
            rounds[name].append((time.process_time() - began) / 500 * 1e6)
    print("\nCPU of a call in process, us (min, p25 of 25 rounds)")
    for name, values in rounds.items():
        quarter = statistics.quantiles(values, n=4)[0]
        base = statistics.quantiles(rounds["nothing"], n=4)[0]
        print(f"{name:10} {min(values):7.1f} {quarter:7.1f}   +{quarter - base:.1f}")


async def main(calls: int) -> None:
    """Run everything."""
    with OpenAIServer() as one, OpenAIServer() as two, OpenAIServer() as three:
        servers = [one, two, three]
        # Each call that was refused is one of `calls`; they come at `RATE` a second.
        await chaos(servers, calls)
        await neighbours(servers)
        await down_for_all(servers)
        await cut_streams(servers)
    await cpu()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=2_000)
    asyncio.run(main(parser.parse_args().calls))
