"""Half of all calls cancelled in flight: nobody gets another's answer, and nothing is left over."""

from __future__ import annotations

import asyncio

import pytest

from motadata.core.embedded import EmbeddedNats
from motadata.core.errors import MessagingError
from motadata.core.identifiers import new_id
from motadata.core.messaging import NatsCredentials, NatsMessageBus, create_message_bus
from motadata.core.messaging._nats_transport import NatsTransport
from motadata.core.protocols import BusMessage
from motadata.core.testing.storm import storm


pytest.importorskip("nats")

TENANTS = ("acme", "globex")
AT_ONCE = 200


def bus_on(server: EmbeddedNats) -> NatsMessageBus:
    return create_message_bus(server.url, credentials=NatsCredentials(token=server.token))


async def test_half_of_2_000_calls_cancelled_leaves_no_wrong_answer_and_nothing_behind(
    embedded_nats: EmbeddedNats,
):
    await check_storm(embedded_nats, calls=2_000)


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_half_of_100_000_calls_cancelled_leaves_no_wrong_answer_and_nothing_behind(
    embedded_nats: EmbeddedNats,
):
    await check_storm(embedded_nats, calls=100_000)


async def check_storm(server: EmbeddedNats, *, calls: int) -> None:
    name = f"t{new_id().hex}"
    acknowledged: dict[int, str] = {}

    async def echo(message: BusMessage) -> object:
        await asyncio.sleep(0)
        return [message.tenant_id, message.payload]

    async with bus_on(server) as bus, bus_on(server) as agent:
        for tenant in TENANTS:
            await agent.subscribe(name, echo, max_in_flight=2 * AT_ONCE, tenant_id=tenant)

        async def call(number: int) -> None:
            tenant = TENANTS[number % 2]
            if number % 4 < 2:
                answer = await bus.request(name, number, sender="a", timeout=20, tenant_id=tenant)
                assert answer == [tenant, number]
            else:
                receipt = await bus.publish_event(
                    name, number, message_id=f"m{number}", tenant_id=tenant
                )
                acknowledged[number] = receipt.message_id

        report = await storm(call, calls=calls, at_once=AT_ONCE)

        assert report.share_cancelled == pytest.approx(0.5, abs=0.1)
        assert report.failures == []
        await check_nothing_is_left(bus)
        await check_repeats_are_recognised(bus, name, acknowledged)


async def check_nothing_is_left(bus: NatsMessageBus) -> None:
    transport = bus._transport
    assert isinstance(transport, NatsTransport)
    assert transport._requests._waiting == {}
    # One for all replies, whatever was asked and cancelled.
    assert len(transport._connection.wire._reader.receivers) == 1
    assert len(transport._connection.client._subs) == 1
    with pytest.raises(MessagingError, match="nobody"):
        await bus.request("nobody", 1, sender="a", tenant_id="acme")


async def check_repeats_are_recognised(
    bus: NatsMessageBus, name: str, acknowledged: dict[int, str]
) -> None:
    """What was acknowledged is stored, under its own id and tenant."""
    for number in list(acknowledged)[-50:]:
        tenant = TENANTS[number % 2]
        receipt = await bus.publish_event(
            name, number, message_id=acknowledged[number], tenant_id=tenant
        )
        assert receipt.duplicate
