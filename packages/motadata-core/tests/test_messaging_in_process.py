"""The bus within one process keeps the contract, and its own bounds."""

from __future__ import annotations

import asyncio

import pytest

from motadata.core.codec import MessagePackCodec
from motadata.core.errors import DeadlineExceededError, OverloadError
from motadata.core.messaging import InProcessBroker, StreamLimits, create_in_process_bus
from motadata.core.protocols import BusMessage, ConsumerOptions
from motadata.core.testing.message_bus import MessageBusConformance, OpenBus, Recorder


class TestInProcessBus(MessageBusConformance):
    @pytest.fixture
    def open_bus(self) -> OpenBus:
        broker = InProcessBroker()
        return lambda: create_in_process_bus(broker)


async def test_full_stream_refuses_a_tenant_and_not_the_others():
    broker = InProcessBroker(limits=StreamLimits(max_messages_per_subject=3))
    async with create_in_process_bus(broker) as bus:
        for number in range(3):
            await bus.submit_work("flow", number, tenant_id="acme")
        with pytest.raises(OverloadError):
            await bus.submit_work("flow", 3, tenant_id="acme")
        await bus.submit_work("flow", 0, tenant_id="globex")


async def test_full_stream_takes_work_again_when_some_is_done():
    broker = InProcessBroker(limits=StreamLimits(max_messages_per_subject=3))
    async with create_in_process_bus(broker) as bus:
        recorder = Recorder()
        for number in range(3):
            await bus.submit_work("flow", number, tenant_id="acme")
        await bus.work("flow", recorder, tenant_id="acme")
        await recorder.wait(3)
        await bus.submit_work("flow", 3, tenant_id="acme")
        assert await recorder.wait(4) == [0, 1, 2, 3]


async def test_events_that_every_consumer_has_seen_make_room_and_others_do_not():
    broker = InProcessBroker(limits=StreamLimits(max_messages_per_subject=3))
    async with create_in_process_bus(broker) as bus:
        recorder, release = Recorder(), asyncio.Event()

        async def slow(message: object) -> None:
            await release.wait()

        await bus.consume("quick", recorder, event_types=["seen"], tenant_id="acme")
        await bus.consume("slow", slow, event_types=["unseen"], tenant_id="acme")
        for number in range(10):
            await bus.publish_event("seen", number, tenant_id="acme")
            await recorder.wait(number + 1)
        for number in range(3):
            await bus.publish_event("unseen", number, tenant_id="acme")
        with pytest.raises(OverloadError):
            await bus.publish_event("unseen", 3, tenant_id="acme")
        release.set()


async def test_bytes_of_a_stream_are_bounded():
    broker = InProcessBroker(limits=StreamLimits(max_bytes=10_000))
    async with create_in_process_bus(broker) as bus:
        for _ in range(9):
            await bus.submit_work("flow", b"x" * 900, tenant_id="acme")
        with pytest.raises(OverloadError):
            await bus.submit_work("flow", b"x" * 3000, tenant_id="acme")


async def test_consumer_that_may_be_forgotten_is_forgotten_after_its_last_process():
    broker = InProcessBroker(limits=StreamLimits(max_messages_per_subject=2))
    async with create_in_process_bus(broker) as bus:
        options = ConsumerOptions(forget_after=0.05)
        subscription = await bus.consume(
            "guest", Recorder(), event_types=["seen"], options=options, tenant_id="acme"
        )
        await subscription.stop()
        await bus.publish_event("seen", 1, tenant_id="acme")
        await bus.publish_event("seen", 2, tenant_id="acme")
        async with asyncio.timeout(10):
            while True:
                try:
                    await bus.publish_event("seen", 3, tenant_id="acme")
                except OverloadError:
                    await asyncio.sleep(0.01)
                else:
                    break


async def test_agent_messages_that_nobody_keeps_up_with_are_dropped_and_counted():
    async with create_in_process_bus() as bus:
        release = asyncio.Event()

        async def stuck(message: object) -> None:
            await release.wait()

        await bus.subscribe("slow", stuck, max_in_flight=1, tenant_id="acme")
        for number in range(3000):
            await bus.publish("slow", number, sender="triage", tenant_id="acme")
        assert bus.statistics.dropped > 1500
        release.set()


async def test_handler_that_swallows_its_cancellation_leaves_no_mark_on_what_follows() -> None:
    async def stubborn(message: BusMessage) -> object:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            return "late"
        return "never"

    async with create_in_process_bus() as bus:
        await bus.subscribe("agent", stubborn, tenant_id="acme")
        with pytest.raises(DeadlineExceededError):
            await bus.request("agent", 1, sender="a", timeout=0.05, tenant_id="acme")
        assert bus.statistics.delivered == 1


async def test_bus_reads_the_models_of_its_own_codec() -> None:
    from pydantic import BaseModel

    class Ticket(BaseModel):
        number: int

    async def next_one(message: BusMessage) -> object:
        assert isinstance(message.payload, Ticket)
        return Ticket(number=message.payload.number + 1)

    async with create_in_process_bus(codec=MessagePackCodec(models=[Ticket])) as bus:
        await bus.subscribe("agent", next_one, tenant_id="acme")
        answer = await bus.request("agent", Ticket(number=1), sender="a", tenant_id="acme")

    assert answer == Ticket(number=2)


async def test_metrics_call_the_bus_in_process_by_its_own_name() -> None:
    pytest.importorskip("opentelemetry.sdk")
    from motadata.core.testing.metrics import recorded_metrics

    with recorded_metrics() as recorded:
        async with create_in_process_bus() as bus:
            await bus.publish("agent", 1, sender="a", tenant_id="acme")
        points = recorded.points("messaging.client.operation.duration")

    assert [point.attributes["messaging.system"] for point in points] == ["in_process"]
