"""The bus in this process: what it does beyond the conformance kit."""

from __future__ import annotations

import asyncio

import pytest

from motadata.core.codec import MessagePackCodec
from motadata.core.errors import DeadlineExceededError
from motadata.core.messaging import create_in_process_bus
from motadata.core.protocols import BusMessage


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
