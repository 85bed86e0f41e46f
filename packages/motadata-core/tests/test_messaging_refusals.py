"""What either bus refuses: times that are none, messages that are too large, addresses."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator

import pytest

from motadata.core.embedded import EmbeddedNats
from motadata.core.errors import ConfigurationError, MessagingError
from motadata.core.identifiers import new_id
from motadata.core.messaging import NatsCredentials, create_in_process_bus, create_message_bus
from motadata.core.messaging._frames import message_size, write_frame
from motadata.core.protocols import BusMessage, MessageBus


pytest.importorskip("nats")

TOO_LARGE = "x" * 1_100_000


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


async def test_asker_hears_at_once_that_the_answer_is_too_large(bus: MessageBus, name: str):
    async def answer(message: BusMessage) -> object:
        return TOO_LARGE

    await bus.subscribe(name, answer, tenant_id="acme")
    began = asyncio.get_running_loop().time()

    with pytest.raises(MessagingError, match="larger than") as caught:
        await bus.request(name, 1, sender="triage", timeout=30, tenant_id="acme")

    assert not caught.value.retryable
    assert asyncio.get_running_loop().time() - began < 10


async def test_asker_hears_at_once_that_the_text_of_an_error_is_too_large(
    bus: MessageBus, name: str
):
    async def answer(message: BusMessage) -> object:
        raise MessagingError(TOO_LARGE)

    await bus.subscribe(name, answer, tenant_id="acme")

    with pytest.raises(MessagingError, match="larger than") as caught:
        await bus.request(name, 1, sender="triage", timeout=30, tenant_id="acme")

    assert not caught.value.retryable


async def test_agent_answers_the_next_request_after_one_that_was_too_large(
    bus: MessageBus, name: str
):
    async def answer(message: BusMessage) -> object:
        return "x" * int(str(message.payload))

    await bus.subscribe(name, answer, max_in_flight=1, tenant_id="acme")
    with pytest.raises(MessagingError, match="larger than"):
        await bus.request(name, 1_100_000, sender="triage", timeout=30, tenant_id="acme")
    await asyncio.sleep(0)

    assert await bus.request(name, 3, sender="triage", timeout=30, tenant_id="acme") == "xxx"


async def test_message_that_is_too_large_is_refused_however_it_is_sent(bus: MessageBus, name: str):
    for send in (
        lambda: bus.publish(name, TOO_LARGE, sender="triage", tenant_id="acme"),
        lambda: bus.request(name, TOO_LARGE, sender="triage", tenant_id="acme"),
        lambda: bus.publish_event(name, TOO_LARGE, tenant_id="acme"),
        lambda: bus.submit_work(name, TOO_LARGE, tenant_id="acme"),
    ):
        with pytest.raises(MessagingError, match="larger than") as caught:
            await send()
        assert not caught.value.retryable


async def test_message_just_below_the_limit_passes(bus: MessageBus, name: str):
    async def answer(message: BusMessage) -> object:
        return len(str(message.payload))

    await bus.subscribe(name, answer, tenant_id="acme")

    got = await bus.request(name, "x" * 1_048_000, sender="triage", timeout=30, tenant_id="acme")

    assert got == 1_048_000


@pytest.mark.parametrize("timeout", [math.nan, math.inf, -math.inf, "x", None], ids=repr)
async def test_time_for_a_request_that_is_none_is_refused(
    bus: MessageBus, name: str, timeout: object
):
    with pytest.raises(ConfigurationError, match="timeout="):
        await bus.request(
            name,
            1,
            sender="triage",
            timeout=timeout,  # type: ignore[arg-type]  # that is the point
            tenant_id="acme",
        )


async def test_request_may_be_given_more_time_than_anybody_has(bus: MessageBus, name: str):
    async def answer(message: BusMessage) -> object:
        return "in time"

    await bus.subscribe(name, answer, tenant_id="acme")

    got = await bus.request(name, 1, sender="triage", timeout=1e308, tenant_id="acme")

    assert got == "in time"


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
    frame = write_frame("subject", "", headers, b"payload")

    assert message_size(headers, b"payload") == len(frame) - frame.index(b"\r\n") - 4
