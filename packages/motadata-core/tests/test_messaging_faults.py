"""The bus on a network and a server that fail: nothing acknowledged is lost, nothing stored twice.

Publishers repeat a call that failed with the same message id, as the guide tells them to.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from motadata.core.embedded import EmbeddedNats
from motadata.core.errors import DeadlineExceededError, MessagingError, SDKError
from motadata.core.messaging import NatsCredentials, NatsMessageBus, create_message_bus
from motadata.core.messaging._nats_requests import Requests
from motadata.core.messaging._transport import Incoming
from motadata.core.protocols import BusMessage, ConsumerOptions, MessageBus
from motadata.core.resilience import deadline_scope
from motadata.core.testing.fault_proxy import FaultProxy, Faults
from motadata.core.testing.message_bus import Recorder, eventually


# These tests break connections.
pytestmark = pytest.mark.usefixtures("drivers_drop_sockets")


pytest.importorskip("nats")

EVENT = "ticket.opened"
# What a broken connection swallows on its way to a handler counts as a try, so many are allowed.
PATIENT = ConsumerOptions(ack_wait=1.0, max_deliveries=100)

LATE = 1.0
"""Seconds above a deadline; a busy machine needs some, a hang takes more."""


def bus_on(url: str, server: EmbeddedNats, **options: float) -> NatsMessageBus:
    return create_message_bus(
        url,
        credentials=NatsCredentials(token=server.token),
        **options,  # type: ignore[arg-type]
    )


@asynccontextmanager
async def faulty_server(
    directory: Path, *, seed: int
) -> AsyncIterator[tuple[EmbeddedNats, FaultProxy, NatsMessageBus]]:
    """Start a server, a proxy before it, and a bus that goes through the proxy."""
    async with EmbeddedNats(directory) as server:
        port = int(server.url.rpartition(":")[2])
        async with FaultProxy(("127.0.0.1", port), seed=seed) as proxy:
            url = f"nats://127.0.0.1:{proxy.port}"
            async with bus_on(url, server, drain_timeout=2.0) as bus:
                yield server, proxy, bus


async def publish_until_acknowledged(bus: MessageBus, name: str) -> int:
    """Store an event under an id of its own, however often that has to be tried."""
    while True:
        try:
            receipt = await bus.publish_event(
                EVENT, {"id": name, "text": "x" * 500}, message_id=name, tenant_id="acme"
            )
        except MessagingError as error:
            if not error.retryable:
                raise
        else:
            return receipt.sequence


async def stored_ids(server: EmbeddedNats) -> Counter[str]:
    """Read the stream itself, past the bus."""
    import nats

    client = await nats.connect(server.url, token=server.token.get_secret_value())
    try:
        stream = client.jetstream()
        state = (await stream.stream_info("SDK_EVENTS")).state
        sequences = range(state.first_seq, state.last_seq + 1)
        messages = [await stream.get_msg("SDK_EVENTS", seq=one) for one in sequences]
    finally:
        await client.close()
    return Counter((one.headers or {})["Nats-Msg-Id"].rpartition("=")[2] for one in messages)


async def check_nothing_lost_or_doubled(server: EmbeddedNats, acknowledged: set[str]) -> None:
    stored = await stored_ids(server)
    assert acknowledged - set(stored) == set(), "acknowledged and lost"
    assert [one for one, count in stored.items() if count > 1] == [], "stored twice"


FAULTS = {
    "cut": Faults(cut_every=30_000),
    "closed": Faults(cut_every=30_000, cut_by="close"),
    "torn": Faults(torn=9),
    "slow": Faults(latency=0.002, jitter=0.004, bytes_per_second=400_000),
    "torn-and-cut": Faults(torn=40, cut_every=25_000),
}


@pytest.mark.parametrize("kind", FAULTS)
async def test_connection_that_fails_loses_nothing_and_doubles_nothing(tmp_path: Path, kind: str):
    await load_through_faults(tmp_path, FAULTS[kind], seed=1, count=60)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", FAULTS)
async def test_connection_that_fails_for_long_loses_nothing(tmp_path: Path, kind: str, seed: int):
    await load_through_faults(tmp_path, FAULTS[kind], seed=seed, count=1500)


async def load_through_faults(directory: Path, faults: Faults, *, seed: int, count: int) -> None:
    handled = Recorder()
    names = [f"m{number}" for number in range(count)]
    async with faulty_server(directory, seed=seed) as (server, proxy, bus):
        await bus.consume("all", handled, event_types=[EVENT], options=PATIENT, tenant_id="acme")
        proxy.faults = faults
        waiting = iter(names)

        async def publish() -> None:
            for name in waiting:
                await publish_until_acknowledged(bus, name)

        async with asyncio.timeout(60 + count / 10):
            await asyncio.gather(*(publish() for _ in range(8)))
        proxy.faults = Faults()
        await eventually(lambda: {one.message_id for one in handled.messages} == set(names))
        await check_nothing_lost_or_doubled(server, set(names))


async def test_requests_over_a_failing_connection_get_their_own_answer_or_an_error_in_time(
    tmp_path: Path,
):
    async def echo(message: BusMessage) -> object:
        return message.payload

    loop = asyncio.get_running_loop()
    answered, late, wrong = 0, [], []
    async with (
        faulty_server(tmp_path, seed=3) as (server, proxy, bus),
        bus_on(server.url, server) as agent,
    ):
        await agent.subscribe("echo", echo, max_in_flight=200, tenant_id="acme")
        proxy.faults = Faults(torn=50, cut_every=8_000)

        async def ask(number: int) -> None:
            nonlocal answered
            began = loop.time()
            try:
                answer = await bus.request(
                    "echo", number, sender="triage", timeout=0.5, tenant_id="acme"
                )
            except SDKError:
                pass
            else:
                answered += 1
                if answer != number:
                    wrong.append((number, answer))
            if loop.time() - began > 0.5 + LATE:
                late.append(number)

        for batch in range(6):
            await asyncio.gather(*(ask(batch * 50 + number) for number in range(50)))
        proxy.faults = Faults()
        await eventually_answers(bus)
    assert (wrong, late) == ([], [])
    assert answered > 0
    assert proxy.counts.cuts > 0


async def eventually_answers(bus: MessageBus) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                answer = await bus.request(
                    "echo", "ready?", sender="triage", timeout=0.5, tenant_id="acme"
                )
            except SDKError:
                await asyncio.sleep(0.05)
            else:
                assert answer == "ready?"
                return


# After a handshake of flipped bits the driver leaves its socket to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("towards", ["server", "client"])
async def test_flipped_bits_break_the_connection_and_not_the_bus(tmp_path: Path, towards: str):
    async def echo(message: BusMessage) -> object:
        return message.payload

    async with (
        faulty_server(tmp_path, seed=5) as (server, proxy, bus),
        bus_on(server.url, server) as agent,
    ):
        await agent.subscribe("echo", echo, tenant_id="acme")
        proxy.faults = Faults(flip_every=700, flip_towards=towards)  # type: ignore[arg-type]
        for number in range(60):
            try:
                await bus.request("echo", number, sender="triage", timeout=0.2, tenant_id="acme")
            except SDKError:
                continue
        assert proxy.counts.flips > 5
        proxy.faults = Faults()
        proxy.cut()
        await eventually_answers(bus)


@pytest.mark.parametrize("damage", [(b"{", b"k"), (b'"seq"', b'"sea"'), (b"}", b"]")])
async def test_acknowledgement_that_was_damaged_is_asked_for_again_and_nothing_is_stored_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: tuple[bytes, bytes]
):
    request = Requests.request
    damaged = []

    async def once_damaged(
        requests: Requests, subject: str, data: bytes, headers: dict[str, str], *, timeout: float
    ) -> Incoming:
        reply = await request(requests, subject, data, headers, timeout=timeout)
        if damaged or not subject.startswith("sdk.events"):
            return reply
        damaged.append(reply)
        return replace(reply, data=reply.data.replace(*damage))

    async with EmbeddedNats(tmp_path) as server, bus_on(server.url, server) as bus:
        monkeypatch.setattr(Requests, "request", once_damaged)
        receipt = await bus.publish_event(EVENT, {}, message_id="one", tenant_id="acme")

        assert damaged
        assert receipt.duplicate
        assert list((await stored_ids(server)).values()) == [1]


async def test_stalled_network_ends_each_call_at_its_deadline(tmp_path: Path):
    loop = asyncio.get_running_loop()
    async with faulty_server(tmp_path, seed=1) as (_, proxy, bus):
        await bus.subscribe("echo", Recorder(), tenant_id="acme")
        proxy.pause()
        began = loop.time()
        with pytest.raises(DeadlineExceededError), deadline_scope(0.3):
            await bus.publish_event(EVENT, 1, tenant_id="acme")
        with pytest.raises(SDKError):
            await bus.request("echo", 1, sender="triage", timeout=0.3, tenant_id="acme")
        assert loop.time() - began < 0.6 + LATE
        proxy.resume()
        await eventually_answers(bus)


async def test_server_that_is_halted_and_goes_on_loses_nothing(tmp_path: Path):
    await halt(tmp_path, rounds=2)


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_server_that_is_halted_again_and_again_loses_nothing(tmp_path: Path):
    await halt(tmp_path, rounds=40)


async def halt(directory: Path, *, rounds: int) -> None:
    handled, acknowledged = Recorder(), set[str]()
    async with EmbeddedNats(directory) as server, bus_on(server.url, server) as bus:
        await bus.consume("all", handled, event_types=[EVENT], options=PATIENT, tenant_id="acme")
        stop = asyncio.Event()

        async def publish(publisher: int) -> None:
            number = 0
            while not stop.is_set():
                name = f"p{publisher}-{number}"
                await publish_until_acknowledged(bus, name)
                acknowledged.add(name)
                number += 1

        publishers = [asyncio.create_task(publish(number)) for number in range(4)]
        for _ in range(rounds):
            before = len(acknowledged)
            await eventually(lambda: len(acknowledged) > before + 50)  # noqa: B023
            assert server.pid is not None
            os.kill(server.pid, signal.SIGSTOP)
            try:
                with pytest.raises(SDKError):
                    await bus.request("none", 1, sender="a", timeout=0.3, tenant_id="acme")
            finally:
                os.kill(server.pid, signal.SIGCONT)
        stop.set()
        await asyncio.gather(*publishers)
        await eventually(lambda: acknowledged <= {one.message_id for one in handled.messages})
        await check_nothing_lost_or_doubled(server, acknowledged)


# Publishes m0, m1, … and prints each number as soon as it is acknowledged.
PUBLISHER = """
import asyncio, sys
from pydantic import SecretStr
from motadata.core.messaging import NatsCredentials, create_message_bus

async def main():
    url, token, first, last = sys.argv[1:]
    async with create_message_bus(url, credentials=NatsCredentials(token=SecretStr(token))) as bus:
        async def publish(number):
            await bus.publish_event(
                "ticket.opened", number, message_id=f"m{number}", tenant_id="acme"
            )
            print(number, flush=True)
        for start in range(int(first), int(last), 8):
            numbers = range(start, min(start + 8, int(last)))
            await asyncio.gather(*(publish(number) for number in numbers))

asyncio.run(main())
"""


async def test_publisher_killed_at_any_moment_and_started_again_stores_each_message_once(
    tmp_path: Path,
):
    await kill_publishers(tmp_path, kills=3, count=400, seed=1)


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_publisher_killed_again_and_again_stores_each_message_once(tmp_path: Path):
    await kill_publishers(tmp_path, kills=60, count=6000, seed=2)


async def kill_publishers(directory: Path, *, kills: int, count: int, seed: int) -> None:
    choose = random.Random(seed)
    acknowledged: set[int] = set()
    async with EmbeddedNats(directory) as server, bus_on(server.url, server):
        for turn in range(kills + 1):
            # Begins well before the first that is missing, as who kept no exact place would.
            missing = next((n for n in range(count) if n not in acknowledged), count)
            first = max(0, missing - 20)
            upto = choose.randrange(1, count // (kills + 1) + 20) if turn < kills else count + 1
            acknowledged |= await run_publisher(server, first, count, kill_after=upto)
        names = {f"m{number}" for number in range(count)}
        assert acknowledged == set(range(count))
        await check_nothing_lost_or_doubled(server, names)


async def run_publisher(
    server: EmbeddedNats, first: int, last: int, *, kill_after: int
) -> set[int]:
    """Run a publisher, kill it after so many acknowledgements, and return what it said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PUBLISHER),
        *(server.url, server.token.get_secret_value(), str(first), str(last)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    said: set[int] = set()
    async with asyncio.timeout(60):
        while line := await process.stdout.readline():
            said.add(int(line))
            if len(said) == kill_after:
                process.kill()
        await process.wait()
    return said
