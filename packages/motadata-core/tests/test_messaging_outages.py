"""A server that goes: few lines say so, and a bus that is closed then leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from motadata.core.embedded import EmbeddedNats
from motadata.core.messaging import NatsCredentials, NatsMessageBus, create_message_bus
from motadata.core.messaging._nats_connection import _close_quietly, _make_client
from motadata.core.messaging._nats_wire import Wire
from motadata.core.observability import configure_observability
from motadata.core.observability._logging import output
from motadata.core.protocols import BusMessage
from motadata.core.testing.message_bus import Recorder


# These tests break connections.
pytestmark = pytest.mark.usefixtures("drivers_drop_sockets")


pytest.importorskip("nats")


@pytest.fixture
def lines() -> Iterator[list[Mapping[str, object]]]:
    taken: list[Mapping[str, object]] = []
    configure_observability(level="WARNING", sink=lambda line: taken.append(dict(line)))
    yield taken
    output.configure()


def bus_on(server: EmbeddedNats) -> NatsMessageBus:
    credentials = NatsCredentials(token=server.token)
    return create_message_bus(server.url, credentials=credentials, drain_timeout=2)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - the condition has no event
            await asyncio.sleep(0.05)


def count(lines: list[Mapping[str, object]], event: str) -> int:
    return sum(line["event"] == event for line in lines)


async def ignore(message: BusMessage) -> None:
    pass


@pytest.mark.parametrize("pending", [0, 100_000], ids=["nothing_to_send", "something_to_send"])
async def test_every_task_ends_with_a_bus_that_is_closed_while_its_server_is_away(
    tmp_path: Path, pending: int
):
    async with EmbeddedNats(tmp_path) as server:
        before = asyncio.all_tasks()
        async with bus_on(server) as bus:
            await bus.consume("c", ignore, event_types=["a.b"], tenant_id="acme")
            await bus.subscribe("agent", ignore, tenant_id="acme")
            await bus.publish_event("a.b", 1, tenant_id="acme")
            await server.stop()
            await asyncio.sleep(0.5)
            if pending:
                await bus.publish("agent", "x" * pending, sender="s", tenant_id="acme")
        left = [task.get_name() for task in asyncio.all_tasks() - before]

    assert left == []


async def test_closing_that_fails_halfway_leaves_no_subscription_behind(
    embedded_nats: EmbeddedNats, monkeypatch: pytest.MonkeyPatch
):
    before = asyncio.all_tasks()
    async with bus_on(embedded_nats) as bus:
        client = bus._transport._connection.client  # type: ignore[attr-defined]  # NATS's

        async def fail() -> None:
            # As the driver does it: what it wanted to send met a connection that was gone.
            client._status = client.CLOSED
            raise ConnectionResetError

        monkeypatch.setattr(client, "close", fail)

    assert asyncio.all_tasks() - before == set()


async def test_client_that_never_was_connected_closes_without_a_word():
    client = _make_client()

    await _close_quietly(client, Wire(client))


async def test_outage_is_told_in_few_lines_and_its_end_in_one(
    tmp_path: Path, lines: list[Mapping[str, object]]
):
    async with EmbeddedNats(tmp_path) as server, bus_on(server) as bus:
        recorder = Recorder()
        await bus.consume("c", recorder, event_types=["a.b"], tenant_id="acme")
        await server.stop()
        await asyncio.sleep(2)
        told = Counter(line["event"] for line in lines)
        await server.start()
        await until(lambda: count(lines, "reconnected") == 1)
        await bus.publish_event("a.b", 1, tenant_id="acme")
        assert await recorder.wait(1) == [1]

    assert told == {"connection_error": 1, "disconnected": 1}
    (back,) = (line for line in lines if line["event"] == "reconnected")
    assert int(str(back["errors"])) > 3


async def test_first_error_of_the_next_outage_is_told_again(
    tmp_path: Path, lines: list[Mapping[str, object]]
):
    async with EmbeddedNats(tmp_path) as server, bus_on(server):
        for number in (1, 2):
            await server.stop()
            await asyncio.sleep(0.5)
            await server.start()
            await until(lambda: count(lines, "reconnected") == number)  # noqa: B023

    assert count(lines, "connection_error") == 2
