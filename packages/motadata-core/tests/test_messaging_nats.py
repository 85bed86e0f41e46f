"""The bus on a real NATS server: the contract, what foreign clients try, and a server that goes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from motadata.core.embedded import EmbeddedNats
from motadata.core.errors import (
    ConfigurationError,
    MessagingError,
    OverloadError,
)
from motadata.core.identifiers import new_id
from motadata.core.messaging import (
    NatsCredentials,
    NatsMessageBus,
    StreamLimits,
    create_message_bus,
)
from motadata.core.messaging._nats_connection import flush
from motadata.core.messaging._nats_transport import NatsTransport
from motadata.core.protocols import BusMessage, ConsumerOptions
from motadata.core.testing.message_bus import (
    QUICK,
    MessageBusConformance,
    OpenBus,
    Recorder,
    dead_letters_of,
    eventually,
)


pytest.importorskip("nats")


def open_on(server: EmbeddedNats, **options: object) -> NatsMessageBus:
    return create_message_bus(
        server.url,
        credentials=NatsCredentials(token=server.token),
        **options,  # type: ignore[arg-type]
    )


@pytest.fixture
async def bus(embedded_nats: EmbeddedNats) -> AsyncIterator[NatsMessageBus]:
    async with open_on(embedded_nats) as bus:
        yield bus


@pytest.fixture
def name() -> str:
    return f"t{new_id().hex}"


@asynccontextmanager
async def foreign_client(server: EmbeddedNats):
    import nats

    client = await nats.connect(server.url, token=server.token.get_secret_value())
    try:
        yield client
    finally:
        await client.close()


class TestNatsMessageBus(MessageBusConformance):
    @pytest.fixture
    def open_bus(self, embedded_nats: EmbeddedNats) -> OpenBus:
        return lambda: open_on(embedded_nats)


async def test_messages_are_taken_where_the_loop_reads_them(
    bus: NatsMessageBus, name: str, monkeypatch: pytest.MonkeyPatch
):
    async def answer(message: BusMessage) -> object:
        return message.payload

    await bus.subscribe(name, answer, tenant_id="acme")
    transport = bus._transport
    assert isinstance(transport, NatsTransport)
    reader, passed_on = transport._connection.wire._reader, list[bytes]()
    parse = reader.parse

    async def watched(data: bytes = b"") -> None:
        passed_on.append(data)
        await parse(data)

    monkeypatch.setattr(reader, "parse", watched)
    for number in range(20):
        assert number == await bus.request(name, number, sender="a", tenant_id="acme")
    # A ping of the server may be among them.
    assert not [data for data in passed_on if b"MSG " in data]


HEADERS = {"content-type": "application/json;v=1", "motadata-tenant": "acme"}


@pytest.mark.parametrize(
    "headers",
    [
        {**HEADERS, "motadata-tenant": "globex"},
        {**HEADERS, "motadata-tenant": "acme "} | {"motadata-tenant": "acme.b"},
        {"content-type": "application/json;v=1"},
        {**HEADERS, "motadata-sender": "boss"},
    ],
    ids=["other-tenant", "longer-tenant", "no-tenant", "other-sender"],
)
async def test_forged_agent_message_is_refused_and_counted(
    bus: NatsMessageBus, embedded_nats: EmbeddedNats, name: str, headers: dict[str, str]
):
    recorder = Recorder()
    await bus.subscribe_all_tenants(name, recorder)
    async with foreign_client(embedded_nats) as client:
        await client.publish(f"sdk.agent.triage.{name}.acme", b"1", headers=headers)
        await client.publish(f"sdk.agent.triage.{name}.acme", b"2", headers=HEADERS)
        await flush(client, timeout=5)
    assert await recorder.wait(1) == [2]
    assert bus.statistics.refused == 1


async def test_forged_work_becomes_a_dead_letter_of_the_tenant_in_the_subject(
    bus: NatsMessageBus, embedded_nats: EmbeddedNats, name: str
):
    recorder = Recorder()
    await bus.work(name, recorder, tenant_id="acme")
    async with foreign_client(embedded_nats) as client:
        forged = {**HEADERS, "motadata-tenant": "globex"}
        await client.jetstream().publish(f"sdk.workflow.{name}.acme", b"1", headers=forged)
    (letter,) = await dead_letters_of(bus, name)
    assert (letter.reason, letter.error) == ("refused", "names another tenant")
    assert letter.message.tenant_id == "acme"
    assert await recorder.settle() == []
    assert bus.statistics.refused == 1


@pytest.mark.parametrize(
    ("content_type", "data"),
    [
        ("application/json;v=2", b"1"),
        ("application/json", b"1"),
        ("application/x-pickle;v=1", b"1"),
        ("application/json;v=1", b"{"),
        ("application/json;v=1", b"[" * 100_000),
    ],
    ids=["unknown-version", "no-version", "unknown-codec", "malformed", "too-deep"],
)
async def test_work_that_cannot_be_read_becomes_a_dead_letter_at_once(
    bus: NatsMessageBus, embedded_nats: EmbeddedNats, name: str, content_type: str, data: bytes
):
    recorder = Recorder()
    await bus.work(name, recorder, options=QUICK, tenant_id="acme")
    async with foreign_client(embedded_nats) as client:
        headers = {**HEADERS, "content-type": content_type}
        await client.jetstream().publish(f"sdk.workflow.{name}.acme", data, headers=headers)
    (letter,) = await dead_letters_of(bus, name)
    assert (letter.reason, letter.error) == ("undecodable", "codec_error")
    assert letter.message.payload is None
    assert letter.message.deliveries == 1


async def test_work_of_another_codec_is_read(
    bus: NatsMessageBus, embedded_nats: EmbeddedNats, name: str
):
    recorder = Recorder()
    await bus.work(name, recorder, tenant_id="acme")
    async with foreign_client(embedded_nats) as client:
        await client.jetstream().publish(f"sdk.workflow.{name}.acme", b'{"a":1}', headers=HEADERS)
    assert await recorder.wait(1) == [{"a": 1}]


async def test_answer_is_sent_to_an_inbox_only(
    bus: NatsMessageBus, embedded_nats: EmbeddedNats, name: str
):
    recorder, victim = Recorder(), Recorder()
    await bus.subscribe(name, recorder, tenant_id="acme")
    await bus.consume(name, victim, event_types=[name], tenant_id="globex")
    async with foreign_client(embedded_nats) as client:
        await client.publish(
            f"sdk.agent.triage.{name}.acme",
            b"1",
            reply=f"sdk.events.{name}.globex",
            headers=HEADERS,
        )
        await flush(client, timeout=5)
    await eventually(lambda: bus.statistics.refused == 1)
    assert await victim.settle() == []
    assert recorder.payloads == []


async def test_answer_for_another_tenant_is_refused(
    bus: NatsMessageBus, embedded_nats: EmbeddedNats, name: str
):
    async with foreign_client(embedded_nats) as client:

        async def answer(message: Any) -> None:
            await client.publish(
                message.reply, b"1", headers={**HEADERS, "motadata-tenant": "globex"}
            )

        await client.subscribe(f"sdk.agent.*.{name}.acme", cb=answer)
        await flush(client, timeout=5)
        with pytest.raises(MessagingError, match="not for the tenant"):
            await bus.request(name, 1, sender="triage", tenant_id="acme")


async def test_message_that_kills_its_worker_every_time_becomes_a_dead_letter(
    bus: NatsMessageBus, embedded_nats: EmbeddedNats, name: str
):
    from nats.js.api import ConsumerConfig

    # A worker that takes the message and never gives a verdict, as often as is allowed.
    async with foreign_client(embedded_nats) as client:
        stream = client.jetstream()
        config = ConsumerConfig(
            durable_name=f"{name}@acme",
            name=f"{name}@acme",
            filter_subject=f"sdk.workflow.{name}.acme",
            ack_wait=0.1,
        )
        await stream.add_consumer("SDK_WORK", config)
        await bus.submit_work(name, "poison", tenant_id="acme")
        puller = await stream.pull_subscribe_bind(f"{name}@acme", "SDK_WORK")
        for _ in range(QUICK.max_deliveries):
            await puller.fetch(1, timeout=5)
    recorder = Recorder()
    options = ConsumerOptions(max_deliveries=QUICK.max_deliveries, ack_wait=0.3)
    await bus.work(name, recorder, options=options, tenant_id="acme")
    (letter,) = await dead_letters_of(bus, name)
    assert (letter.reason, letter.error) == ("handler_failed", "no_verdict")
    assert recorder.payloads == []


async def test_full_stream_refuses_a_tenant_and_not_the_others(tmp_path: Path):
    limits = StreamLimits(max_messages_per_subject=3)
    async with EmbeddedNats(tmp_path) as server, open_on(server, limits=limits) as bus:
        for number in range(3):
            await bus.publish_event("ticket.opened", number, tenant_id="acme")
        with pytest.raises(OverloadError):
            await bus.publish_event("ticket.opened", 3, tenant_id="acme")
        await bus.publish_event("ticket.opened", 0, tenant_id="globex")


async def test_message_larger_than_the_server_takes_is_refused(bus: NatsMessageBus, name: str):
    for call in (
        lambda: bus.publish(name, b"x" * 2_000_000, sender="triage", tenant_id="acme"),
        lambda: bus.publish_event(name, b"x" * 2_000_000, tenant_id="acme"),
    ):
        with pytest.raises(MessagingError, match="larger") as caught:
            await call()
        assert not caught.value.retryable


async def test_server_that_is_killed_and_comes_back_loses_nothing_and_stores_nothing_twice(
    tmp_path: Path,
):
    async with EmbeddedNats(tmp_path) as server, open_on(server) as bus:
        recorder, answers = Recorder(), Recorder()
        await bus.consume("all", recorder, event_types=["ticket.opened"], tenant_id="acme")
        await bus.subscribe("resolver", answers, tenant_id="acme")
        acknowledged: set[int] = set()

        async def publish(first: int) -> None:
            for number in range(first, first + 40):
                await bus.publish_event("ticket.opened", number, tenant_id="acme")
                acknowledged.add(number)

        publishers = [asyncio.create_task(publish(first * 100)) for first in range(4)]
        await eventually(lambda: len(acknowledged) > 20)
        await server.kill()
        assert (await bus.health()).status == "down"
        await server.start()
        await asyncio.gather(*publishers)
        await recorder.wait(160)
        await eventually(lambda: len({m.message_id for m in recorder.messages}) == 160)
        assert acknowledged <= set(recorder.payloads)
        stored = await bus.publish_event("ticket.opened", -1, tenant_id="acme")
        assert stored.sequence == 161
        assert await bus.request("resolver", 1, sender="triage", tenant_id="acme") == 1
        assert (await bus.health()).status == "ok"


PUBLISHER = """
import asyncio, sys
from pydantic import SecretStr
from motadata.core.messaging import NatsCredentials, create_message_bus

async def main():
    url, token, event_type = sys.argv[1:]
    bus = create_message_bus(url, credentials=NatsCredentials(token=SecretStr(token)))
    async with bus:
        transport = bus._transport
        once = transport._store_once
        async def stored_but_unacknowledged(*arguments):
            await once(*arguments)
            print("stored", flush=True)
            await asyncio.sleep(60)
        transport._store_once = stored_but_unacknowledged
        await bus.publish_event(event_type, "x", message_id="m1", tenant_id="acme")

asyncio.run(main())
"""


async def test_publisher_killed_before_its_acknowledgement_and_repeated_stores_once(
    bus: NatsMessageBus, embedded_nats: EmbeddedNats, name: str
):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", PUBLISHER, embedded_nats.url, embedded_nats.token.get_secret_value(), name),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"stored\n"
    process.kill()
    await process.communicate()
    receipt = await bus.publish_event(name, "x", message_id="m1", tenant_id="acme")
    assert receipt.duplicate
    recorder = Recorder()
    await bus.consume(name, recorder, event_types=[name], tenant_id="acme")
    await recorder.wait(1)
    assert await recorder.settle() == ["x"]


async def test_store_that_is_never_acknowledged_says_that_it_may_be_repeated(tmp_path: Path):
    async with EmbeddedNats(tmp_path) as server, open_on(server, publish_timeout=0.5) as bus:
        await server.kill()
        with pytest.raises(MessagingError, match="same message_id") as caught:
            await bus.publish_event("ticket.opened", 1, tenant_id="acme")
        assert caught.value.retryable


async def test_bus_closes_in_time_while_the_server_is_gone(tmp_path: Path):
    async with EmbeddedNats(tmp_path) as server:
        async with open_on(server, drain_timeout=1) as bus:
            await bus.subscribe("resolver", Recorder(), tenant_id="acme")
            await bus.consume("all", Recorder(), event_types=["a"], tenant_id="acme")
            await server.kill()
            began = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - began < 15


async def test_server_that_is_not_there_is_an_error_in_time():
    began = asyncio.get_running_loop().time()
    with pytest.raises(MessagingError, match=r"answered in 0\.3 s"):
        async with create_message_bus("nats://user:hunter2@127.0.0.1:9", connect_timeout=0.3):
            pass
    assert asyncio.get_running_loop().time() - began < 5


async def test_error_about_an_address_shows_no_password():
    with pytest.raises(MessagingError) as caught:
        async with create_message_bus("nats://user:hunter2@127.0.0.1:9", connect_timeout=0.2):
            pass
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigurationError) as refused:
        create_message_bus("http://user:hunter2@127.0.0.1:9")
    assert "hunter2" not in str(refused.value)


async def test_fsync_is_refused_when_the_server_does_not_do_it(embedded_nats: EmbeddedNats):
    with pytest.raises(ConfigurationError, match="monitoring_urls"):
        async with open_on(embedded_nats, durability="fsync"):
            pass
    with pytest.raises(ConfigurationError, match="before it writes"):
        async with open_on(
            embedded_nats, durability="fsync", monitoring_urls=[embedded_nats.monitoring_url]
        ):
            pass


async def test_fsync_is_given_when_the_server_does_it(tmp_path: Path):
    async with EmbeddedNats(tmp_path, sync_always=True) as server:
        urls = [server.monitoring_url]
        async with open_on(server, durability="fsync", monitoring_urls=urls) as bus:
            receipt = await bus.publish_event("ticket.opened", 1, tenant_id="acme")
            assert receipt.durability == "fsync"


async def test_stream_that_keeps_less_than_asked_for_is_refused(tmp_path: Path):
    async with EmbeddedNats(tmp_path) as server:
        async with open_on(server, durability="memory"):
            pass
        with pytest.raises(ConfigurationError, match="storage='memory'"):
            async with open_on(server, durability="file"):
                pass


async def test_replicas_without_a_cluster_are_refused(tmp_path: Path):
    async with EmbeddedNats(tmp_path) as server:
        with pytest.raises(MessagingError, match="replicas"):
            async with open_on(server, durability="replicated", publish_timeout=2):
                pass


def test_retries_longer_than_the_duplicate_window_allows_are_refused():
    with pytest.raises(ConfigurationError, match="duplicate window"):
        create_message_bus("nats://localhost", publish_timeout=61)


async def test_consumer_hears_everything_after_a_silence_of_its_server(tmp_path: Path):
    async with EmbeddedNats(tmp_path) as server, open_on(server) as bus:
        recorder = Recorder()
        await bus.work("flow", recorder, tenant_id="acme")
        await bus.submit_work("flow", 1, tenant_id="acme")
        await recorder.wait(1)
        await server.stop()
        await server.start()
        await bus.submit_work("flow", 2, tenant_id="acme")
        assert await recorder.wait(2) == [1, 2]


async def test_forged_dead_letter_shows_as_the_tenants_own_and_breaks_nothing(
    bus: NatsMessageBus, embedded_nats: EmbeddedNats, name: str
):
    async with foreign_client(embedded_nats) as client:
        for subject in ("sdk.workflow.flow.globex", "nonsense"):
            headers = {"motadata-dead-subject": subject, "motadata-dead-deliveries": "many"}
            await client.jetstream().publish(f"sdk.dead_letters.{name}.acme", b"?", headers=headers)
    letters = await bus.dead_letters(name, tenant_id="acme")
    assert [letter.message.tenant_id for letter in letters] == ["acme", "acme"]
    assert [letter.message.payload for letter in letters] == [None, None]


async def test_key_that_belongs_to_another_lane_is_refused(
    bus: NatsMessageBus, embedded_nats: EmbeddedNats, name: str
):
    recorder = Recorder()
    await bus.work(name, recorder, tenant_id="acme")
    async with foreign_client(embedded_nats) as client:
        for subject in (f"sdk.workflow.{name}.acme", f"sdk.workflow.{name}.=0.acme"):
            # The key "a" of this tenant belongs to the lane 6.
            forged = {**HEADERS, "motadata-key": "a"}
            await client.jetstream().publish(subject, b"1", headers=forged)
    await eventually(lambda: bus.statistics.dead_lettered == 2)
    assert bus.statistics.refused == 2
    assert recorder.payloads == []
