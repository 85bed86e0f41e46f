"""What our buses refuse when they are made, and the largest message that they carry."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator

import pytest

from motadata.core.embedded import EmbeddedNats
from motadata.core.errors import ConfigurationError
from motadata.core.identifiers import new_id
from motadata.core.messaging import NatsCredentials, create_in_process_bus, create_message_bus
from motadata.core.messaging._frames import header_lines, message_size, write_frame
from motadata.core.protocols import BusMessage, MessageBus


pytest.importorskip("nats")


@pytest.fixture(params=["in_process", "nats"])
async def bus(
    request: pytest.FixtureRequest, embedded_nats: EmbeddedNats
) -> AsyncIterator[MessageBus]:
    if request.param == "in_process":
        async with create_in_process_bus() as made:
            yield made
    else:
        credentials = NatsCredentials(token=embedded_nats.token)
        async with create_message_bus(embedded_nats.url, credentials=credentials) as made:
            yield made


@pytest.fixture
def name() -> str:
    return f"t{new_id().hex}"


async def test_message_just_below_the_limit_passes(bus: MessageBus, name: str):
    async def answer(message: BusMessage) -> object:
        return len(str(message.payload))

    await bus.subscribe(name, answer, tenant_id="acme")

    got = await bus.request(name, "x" * 1_048_000, sender="triage", timeout=30, tenant_id="acme")

    assert got == 1_048_000


@pytest.mark.parametrize(
    "address",
    [
        "nats://h:99999",
        "nats://h:x",
        "nats://h:0",
        "nats://",
        "nats://:4222",
        "nats://[::1",
        "",
        5,
        None,
        b"nats://h",
        [5],
        [],
        ["nats://h", "nats://h:99999"],
    ],
    ids=repr,
)
def test_address_that_is_none_is_refused_when_the_bus_is_made(address: object):
    with pytest.raises(ConfigurationError, match="address"):
        create_message_bus(address)  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize("seconds", [math.nan, math.inf, "x", None], ids=repr)
@pytest.mark.parametrize("option", ["publish_timeout", "connect_timeout", "drain_timeout"])
def test_times_of_a_bus_that_are_none_are_refused(option: str, seconds: object):
    with pytest.raises(ConfigurationError, match=option):
        create_message_bus("nats://h", **{option: seconds})  # type: ignore[arg-type]


@pytest.mark.parametrize("headers", [{}, {"a": "b"}, {"motadata-tenant": "acme", "ü": "ß"}])
def test_size_of_a_message_is_what_stands_on_the_wire(headers: dict[str, str]):
    lines = header_lines(headers)
    frame = write_frame("subject", "", lines, b"payload")

    assert message_size(lines, b"payload") == len(frame) - frame.index(b"\r\n") - 4
