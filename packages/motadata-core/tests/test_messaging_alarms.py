"""Time limits that share the loop's timers: none early, none late, none left behind."""

from __future__ import annotations

import asyncio
import time

import pytest

from motadata.core.codec import MessagePackCodec
from motadata.core.errors import DeadlineExceededError
from motadata.core.messaging import create_in_process_bus
from motadata.core.messaging._alarms import Alarms
from motadata.core.protocols import BusMessage


async def test_each_wait_ends_at_its_time_and_not_before() -> None:
    rung: dict[float, float] = {}
    alarms: Alarms[float] = Alarms(lambda seconds: rung.setdefault(seconds, time.monotonic()))
    began = time.monotonic()
    for seconds in (0.0, 0.05, 0.24, 0.26, 0.3, 0.31):
        alarms.add(seconds, seconds)
    while len(rung) < 6:
        assert time.monotonic() - began < 5
        await asyncio.sleep(0.01)

    assert all(seconds <= at - began + 0.001 for seconds, at in rung.items())
    assert list(rung) == sorted(rung)


@pytest.mark.parametrize("seconds", [0.01, 100.0])
async def test_a_wait_that_ended_leaves_no_timer(seconds: float) -> None:
    alarms: Alarms[int] = Alarms(lambda _: None)
    moments = [(number, alarms.add(number, seconds)) for number in range(100)]
    for number, moment in moments:
        alarms.remove(number, moment)
        alarms.remove(number, moment)

    assert not alarms._moments


async def test_timers_of_many_waits_are_few() -> None:
    alarms: Alarms[int] = Alarms(lambda _: None)
    moments = {id(alarms.add(number, 5.0)) for number in range(1_000)}

    assert len(moments) < 100


async def test_a_wait_that_ended_is_not_rung_with_the_others_of_its_moment() -> None:
    rung: list[int] = []
    end = asyncio.Event()

    def ring(number: int) -> None:
        rung.append(number)
        end.set()

    alarms: Alarms[int] = Alarms(ring)
    moments = [alarms.add(number, 0.3) for number in range(4)]
    alarms.remove(1, moments[1])
    alarms.add(4, 0.35)
    async with asyncio.timeout(5):
        while 4 not in rung:
            end.clear()
            await end.wait()

    assert sorted(rung) == [0, 2, 3, 4]


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
