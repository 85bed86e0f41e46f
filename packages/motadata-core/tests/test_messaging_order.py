"""Messages of one key keep their order across processes, also when one of those is killed."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from motadata.core.embedded import EmbeddedNats
from motadata.core.identifiers import new_id
from motadata.core.messaging import (
    InProcessBroker,
    NatsCredentials,
    create_in_process_bus,
    create_message_bus,
)
from motadata.core.messaging._subject import LANES, lane_of
from motadata.core.protocols import BusMessage, ConsumerOptions
from motadata.core.tenancy import TenantId
from motadata.core.testing.message_bus import Recorder, eventually


KEYS = ("a", "b", "c", "d", "e")

# Writes one line when a handler begins and one when it ends; a line of this length is one write,
# and appended as a whole.
CONSUMER = """
import asyncio, os, sys
from pydantic import SecretStr
from motadata.core.messaging import NatsCredentials, create_message_bus
from motadata.core.protocols import ConsumerOptions

async def main():
    url, token, name, path = sys.argv[1:]
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    def note(what, message):
        os.write(log, f"{what} {os.getpid()} {message.key} {message.payload}\\n".encode())
    async def handle(message):
        note("begin", message)
        await asyncio.sleep(0.004)
        note("end", message)
    async with create_message_bus(url, credentials=NatsCredentials(token=SecretStr(token))) as bus:
        options = ConsumerOptions(ack_wait=0.8)
        await bus.consume(name, handle, event_types=[name], options=options, tenant_id="acme")
        print("consuming", flush=True)
        await asyncio.sleep(120)

asyncio.run(main())
"""


@asynccontextmanager
async def consumer_process(
    server: EmbeddedNats, name: str, log: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CONSUMER),
        *(server.url, server.token.get_secret_value(), name, str(log)),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"consuming\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def ended(log: Path) -> set[tuple[str, int]]:
    lines = log.read_text().splitlines() if log.exists() else []
    return {(key, int(number)) for what, _, key, number in map(str.split, lines) if what == "end"}


def handled_by(log: Path) -> set[str]:
    return {line.split()[1] for line in log.read_text().splitlines()}


def check_order(log: Path, count: int) -> None:
    """Each number of a key begins after the one before it has ended, whoever handles either."""
    done = dict.fromkeys(KEYS, 0)
    for line in log.read_text().splitlines():
        what, _, key, text = line.split()
        number = int(text)
        if what == "begin":
            # A redelivery of one that ended is allowed, of an older one is not.
            assert done[key] - 1 <= number <= done[key], line
        else:
            done[key] = max(done[key], number + 1)
    assert set(done.values()) == {count}


@pytest.mark.parametrize("is_killed", [False, True], ids=["both-live", "one-killed"])
async def test_two_processes_share_keyed_events_and_keep_each_keys_order(
    embedded_nats: EmbeddedNats, tmp_path: Path, *, is_killed: bool
):
    pytest.importorskip("nats")
    count = 40
    name, log = f"t{new_id().hex}", tmp_path / "log"
    credentials = NatsCredentials(token=embedded_nats.token)
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(
            create_message_bus(embedded_nats.url, credentials=credentials)
        )
        first, _ = await asyncio.gather(
            *(
                stack.enter_async_context(consumer_process(embedded_nats, name, log))
                for _ in range(2)
            )
        )
        for number in range(count):
            for key in KEYS:
                await bus.publish_event(name, number, key=key, tenant_id="acme")
            if number == count // 2:
                await eventually(lambda: len(ended(log)) > len(KEYS))
                assert len(handled_by(log)) == 2
                if is_killed:
                    first.send_signal(signal.SIGKILL)
        await eventually(lambda: len(ended(log)) == count * len(KEYS))
    check_order(log, count)


async def test_failed_message_holds_up_its_key_in_every_process():
    broker = InProcessBroker()
    done: list[object] = []

    async def fail_once(message: BusMessage) -> None:
        if message.payload == 3 and message.deliveries == 1:
            text = "once"
            raise ValueError(text)
        done.append(message.payload)

    options = ConsumerOptions(first_delay=0.05)
    async with create_in_process_bus(broker) as one, create_in_process_bus(broker) as other:
        for bus in (one, other):
            await bus.consume(
                "all", fail_once, event_types=["a"], options=options, tenant_id="acme"
            )
        for number in range(10):
            await one.publish_event("a", number, key="k", tenant_id="acme")
        await eventually(lambda: len(done) == 10)
    assert done == list(range(10))


async def test_key_orders_across_the_event_types_of_a_consumer():
    recorder = Recorder()
    async with create_in_process_bus() as bus:
        for number in range(12):
            event_type = ("ticket.opened", "ticket.closed")[number % 2]
            await bus.publish_event(event_type, number, key="k", tenant_id="acme")
        await bus.consume(
            "all", recorder, event_types=["ticket.opened", "ticket.closed"], tenant_id="acme"
        )
        assert await recorder.wait(12) == list(range(12))


async def test_message_with_a_key_is_recognised_when_it_is_repeated_without_or_with_another():
    async with create_in_process_bus() as bus:
        receipts = [
            await bus.submit_work("flow", 1, message_id="m1", key=key, tenant_id="acme")
            for key in ("a", None, "b")
        ]
    assert [receipt.duplicate for receipt in receipts] == [False, True, True]


def test_key_has_the_same_lane_for_ever():
    tenant = TenantId("acme")
    assert [lane_of(key, tenant) for key in KEYS] == [lane_of(key, tenant) for key in KEYS]
    assert lane_of("ticket-7", tenant) == 2
    assert {lane_of(f"k{number}", tenant) for number in range(200)} == set(range(LANES))
