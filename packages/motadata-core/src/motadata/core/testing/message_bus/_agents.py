"""How agents speak: at most once, answered, in time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest

from motadata.core.errors import (
    CodecError,
    DeadlineExceededError,
    MessagingError,
    ProviderError,
)
from motadata.core.observability import current_trace_id, span
from motadata.core.protocols import BusMessage, MessageBus
from motadata.core.resilience import remaining
from motadata.core.tenancy import current_tenant, tenant_scope
from motadata.core.testing.message_bus._fixtures import BusFixtures
from motadata.core.testing.message_bus._tools import (
    SOON,
    WAIT,
    Recorder,
    answers,
    eventually,
)
from motadata.core.testing.storm import storm


class AgentBehaviour(BusFixtures):
    """What every bus does with messages between agents."""

    async def test_request_returns_what_the_handler_returns(
        self, bus: MessageBus, other_bus: MessageBus, name: str
    ) -> None:
        recorder = Recorder()
        await other_bus.subscribe(name, recorder, tenant_id="acme")
        await answers(bus, name)
        recorder.messages.clear()
        answer = await bus.request(name, {"ticket": 7}, sender="triage", tenant_id="acme")
        assert answer == {"ticket": 7}
        (message,) = recorder.messages
        assert (message.kind, message.name, message.sender) == ("agent", name, "triage")
        assert message.tenant_id == "acme"

    async def test_payload_arrives_exactly_as_it_was_sent(self, bus: MessageBus, name: str) -> None:
        payload = {
            "when": datetime(2026, 11, 22, 9, 30, tzinfo=UTC),
            "id": UUID(int=7),
            "price": Decimal("0.10"),
            "raw": b"\x00\xff",
            "big": 2**80,
            "text": "Grüße 🙂",
        }
        await bus.subscribe(name, Recorder(), tenant_id="acme")
        assert await bus.request(name, payload, sender="triage", tenant_id="acme") == payload

    async def test_payload_without_encoding_is_refused(self, bus: MessageBus, name: str) -> None:
        with pytest.raises(CodecError):
            await bus.publish(name, object(), sender="triage", tenant_id="acme")
        with pytest.raises(CodecError):
            await bus.publish_event(name, float("nan"), tenant_id="acme")

    async def test_request_to_nobody_fails_at_once(self, bus: MessageBus, name: str) -> None:
        with pytest.raises(MessagingError) as caught:
            await bus.request(name, 1, sender="triage", timeout=WAIT, tenant_id="acme")
        assert caught.value.retryable

    async def test_request_without_answer_in_time_says_so(self, bus: MessageBus, name: str) -> None:
        never = asyncio.Event()

        async def hang(_: BusMessage) -> None:
            await never.wait()

        await bus.subscribe(name, hang, tenant_id="acme")
        with pytest.raises(DeadlineExceededError):
            await bus.request(name, 1, sender="triage", timeout=0.1, tenant_id="acme")

    async def test_deadline_of_a_request_cancels_its_handler(
        self, bus: MessageBus, name: str
    ) -> None:
        cancelled = asyncio.Event()

        async def hang(_: BusMessage) -> None:
            left = remaining()
            assert left is not None
            assert left <= 0.2
            try:
                await asyncio.sleep(WAIT)
            except asyncio.CancelledError:
                cancelled.set()
                raise

        await bus.subscribe(name, hang, tenant_id="acme")
        with pytest.raises(DeadlineExceededError):
            await bus.request(name, 1, sender="triage", timeout=0.2, tenant_id="acme")
        async with asyncio.timeout(WAIT):
            await cancelled.wait()

    async def test_error_of_a_handler_reaches_the_asker_without_its_text(
        self, bus: MessageBus, name: str
    ) -> None:
        async def fail(_: BusMessage) -> None:
            text = "the password is hunter2"
            raise KeyError(text)

        await bus.subscribe(name, fail, tenant_id="acme")
        with pytest.raises(MessagingError, match="KeyError") as caught:
            await bus.request(name, 1, sender="triage", tenant_id="acme")
        assert "hunter2" not in str(caught.value)
        assert not caught.value.retryable

    async def test_error_of_the_sdk_keeps_its_code_and_outlook(
        self, bus: MessageBus, name: str
    ) -> None:
        async def fail(_: BusMessage) -> None:
            text = "The provider is down."
            raise ProviderError(text, retryable=True)

        await bus.subscribe(name, fail, tenant_id="acme")
        with pytest.raises(MessagingError, match=r"provider_error.*The provider is down") as caught:
            await bus.request(name, 1, sender="triage", tenant_id="acme")
        assert caught.value.retryable

    async def test_handler_runs_as_the_tenant_and_within_the_trace_of_the_sender(
        self, bus: MessageBus, name: str
    ) -> None:
        seen: list[tuple[str | None, str | None]] = []

        async def look(_: BusMessage) -> None:
            seen.append((current_tenant(), current_trace_id()))

        with tenant_scope("initech"), span("test.subscribe"):
            await bus.subscribe_all_tenants(name, look)
        with span("test.request"):
            await bus.request(name, 1, sender="triage", tenant_id="acme")
            expected = [("acme", current_trace_id())]
        assert seen == expected

    async def test_those_who_share_get_each_message_once_and_the_others_all(
        self, bus: MessageBus, other_bus: MessageBus, name: str
    ) -> None:
        one, two, every = Recorder(), Recorder(), Recorder()
        await bus.subscribe(name, one, tenant_id="acme")
        await other_bus.subscribe(name, two, tenant_id="acme")
        await other_bus.subscribe(name, every, shared=False, tenant_id="acme")
        async with asyncio.timeout(WAIT):
            # The subscriptions of one process become known in their order.
            while not every.messages:
                await bus.publish(name, "ready?", sender="triage", tenant_id="acme")
                await asyncio.sleep(0.01)
        await asyncio.sleep(SOON)
        for recorder in (one, two, every):
            recorder.messages.clear()
        for number in range(20):
            await bus.publish(name, number, sender="triage", tenant_id="acme")
        await every.wait(20)
        await eventually(lambda: len(one.messages) + len(two.messages) >= 20)
        assert sorted([*one.payloads, *two.payloads], key=str) == sorted(range(20), key=str)

    async def test_request_beyond_what_an_agent_may_handle_is_refused_at_once(
        self, bus: MessageBus, name: str
    ) -> None:
        release = asyncio.Event()
        busy = asyncio.Event()

        async def wait(_: BusMessage) -> None:
            busy.set()
            await release.wait()

        await bus.subscribe(name, wait, max_in_flight=1, tenant_id="acme")
        first = asyncio.create_task(
            bus.request(name, 1, sender="triage", timeout=WAIT, tenant_id="acme")
        )
        await busy.wait()
        with pytest.raises(MessagingError, match="overloaded") as caught:
            await bus.request(name, 2, sender="triage", timeout=WAIT, tenant_id="acme")
        assert caught.value.retryable
        release.set()
        await first

    async def test_half_of_the_requests_cancelled_leaves_no_wrong_answer(
        self, bus: MessageBus, other_bus: MessageBus, name: str
    ) -> None:
        async def echo(message: BusMessage) -> object:
            await asyncio.sleep(0)
            return message.payload

        await other_bus.subscribe(name, echo, max_in_flight=500, tenant_id="acme")
        await answers(bus, name)

        async def ask(number: int) -> None:
            answer = await bus.request(
                name, number, sender="triage", timeout=WAIT, tenant_id="acme"
            )
            assert answer == number

        report = await storm(ask, calls=1_000, at_once=100)

        assert report.share_cancelled == pytest.approx(0.5, abs=0.1)
        assert report.failures == []
