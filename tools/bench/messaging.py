"""What the message bus costs above bare nats-py, in the same run on the same server.

    python tools/bench/messaging.py [--calls 2000] [--rounds 5]

Both sides send a ticket of about 2 KB over two connections to one embedded server. The bus does so
with codec, tenant, trace and deadline; nats-py sends bytes that are encoded already. The sides
take turns every hundred calls, so that a noisy moment falls on both. `CPU` is what both ends, in
this one process, used: a busy machine changes it least. 100% means as fast as nats-py.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import nats
from asked import asked
from nats.aio.client import Client
from nats.aio.msg import Msg

from motadata.core.codec import MessagePackCodec
from motadata.core.embedded import EmbeddedNats
from motadata.core.messaging import NatsCredentials, NatsMessageBus, create_message_bus
from motadata.core.protocols import BusMessage


TICKET = {"task": "x" * 1900, "parameters": {"priority": 3, "ids": ["a", "b", "c"]}, "score": 1.5}
PARALLEL = 64
BLOCK = 100

Call = Callable[[], Awaitable[object]]


@dataclass
class Figures:
    """What one side took: µs for one call after the other, and for 64 callers at once."""

    times: list[float] = field(default_factory=list)
    walls: list[float] = field(default_factory=list)
    cpus: list[float] = field(default_factory=list)

    async def one_by_one(self, call: Call) -> None:
        """Add the times of a block of calls, one after the other."""
        for _ in range(BLOCK):
            start = time.perf_counter()
            await call()
            self.times.append((time.perf_counter() - start) * 1e6)

    async def at_once(self, call: Call, calls: int) -> None:
        """Add the time of 64 callers, by the clock and of this process."""

        async def worker() -> None:
            for _ in range(calls // PARALLEL):
                await call()

        wall, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(worker() for _ in range(PARALLEL)))
        count = calls // PARALLEL * PARALLEL
        self.walls.append((time.perf_counter() - wall) / count * 1e6)
        self.cpus.append((time.process_time() - cpu) / count * 1e6)


async def compare(title: str, ours: Call, bare: Call, *, calls: int, rounds: int) -> None:
    """Measure both sides in turn and print them with their ratios."""
    us, them = Figures(), Figures()
    for call in (ours, bare):
        await Figures().at_once(call, calls)
    for _ in range(rounds):
        for _ in range(max(1, calls // BLOCK)):
            await them.one_by_one(bare)
            await us.one_by_one(ours)
        await them.at_once(bare, calls)
        await us.at_once(ours, calls)
    for name, mine, theirs in (
        ("one by one", us.times, them.times),
        ("64 at once", us.walls, them.walls),
        ("64 at once, CPU", us.cpus, them.cpus),
    ):
        for figure, pick in (("min", min), ("p25", _quarter), ("p50", statistics.median)):
            print(
                f"{title:<14} {name:<16} {figure} {pick(mine):>9.1f} {pick(theirs):>9.1f}"
                f" {pick(theirs) / pick(mine):>8.0%}",
                flush=True,
            )
        speed = statistics.median(theirs) / statistics.median(mine)
        asked(f"{title}, {name}, speed of bare nats-py, p50", 100 * speed, least=90, unit="%")


def _quarter(times: list[float]) -> float:
    return sorted(times)[len(times) // 4]


async def measure(server: EmbeddedNats, calls: int, rounds: int) -> None:
    """Compare request and reply, and publish with acknowledgement."""
    data = MessagePackCodec().encode(TICKET)
    token = server.token.get_secret_value()
    credentials = NatsCredentials(token=server.token)
    async with (
        create_message_bus(server.url, credentials=credentials) as bus,
        create_message_bus(server.url, credentials=credentials) as agent,
    ):
        asking, answering = await nats.connect(server.url, token=token), Client()
        await answering.connect(server.url, token=token)
        try:
            await _serve(agent, answering)
            stream = asking.jetstream()
            await stream.add_stream(name="BARE", subjects=["bare.>"])
            print(f"{'µs a call':<35} {'bus':>9} {'nats-py':>9} {'speed':>8}")
            await compare(
                "request-reply",
                lambda: bus.request("resolver", TICKET, sender="triage", tenant_id="acme"),
                lambda: asking.request("bare-reply", data, timeout=5),
                calls=calls,
                rounds=rounds,
            )
            await compare(
                "publish+ack",
                lambda: bus.publish_event("ticket.opened", TICKET, tenant_id="acme"),
                lambda: stream.publish("bare.ticket", data),
                calls=calls,
                rounds=rounds,
            )
        finally:
            await asking.close()
            await answering.close()


async def _serve(agent: NatsMessageBus, answering: Client) -> None:
    async def answer(message: BusMessage) -> object:
        return message.payload

    async def bare_answer(message: Msg) -> None:
        await message.respond(message.data)

    await agent.subscribe("resolver", answer, tenant_id="acme", max_in_flight=2 * PARALLEL)
    await answering.subscribe("bare-reply", cb=bare_answer)
    await answering.flush()


async def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        async with EmbeddedNats(Path(directory) / "nats") as server:
            await measure(server, options.calls, options.rounds)


if __name__ == "__main__":
    asyncio.run(main())
