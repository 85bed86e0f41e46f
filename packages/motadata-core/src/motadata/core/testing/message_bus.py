"""The contract of a message bus as tests: subclass and give the fixture `open_bus`.

    class TestMine(MessageBusConformance):
        @pytest.fixture
        def open_bus(self) -> OpenBus:
            return lambda: create_mine("nats://…")

Each call of `open_bus` stands for a process: what it returns is entered by the test, and all of
them meet on one server. Every test uses names of its own, so the server may be shared and need not
be empty.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

import pytest

from motadata.core.errors import (
    CodecError,
    ConfigurationError,
    DeadlineExceededError,
    InvalidIdentifierError,
    MessagingError,
    ProviderError,
    TenantRequiredError,
)
from motadata.core.identifiers import new_id
from motadata.core.observability import current_trace_id, span
from motadata.core.protocols import BusMessage, ConsumerOptions, DeadLetter, MessageBus
from motadata.core.resilience import remaining
from motadata.core.tenancy import current_tenant, tenant_scope


OpenBus = Callable[[], AbstractAsyncContextManager[MessageBus]]

WAIT: Final = 20.0
"""Seconds in which what must happen has happened, on a busy machine."""

_SOON: Final = 0.3
"""Seconds in which what must not happen would have."""

QUICK: Final = ConsumerOptions(first_delay=0.02, max_delay=0.1, max_deliveries=3)

_INJECTED: Final = (
    "*",
    ">",
    "acme.>",
    "a.b",
    "a b",
    "",
    "a\r\nPUB x 0",
    "é",
    "a" * 65,
    "a=b",
    "a@b",
)


class Recorder:
    """A handler that keeps what it gets."""

    def __init__(self) -> None:
        self.messages: list[BusMessage] = []
        self._arrived = asyncio.Event()

    async def __call__(self, message: BusMessage) -> object:
        """Keep a message and answer with its payload."""
        self.messages.append(message)
        self._arrived.set()
        return message.payload

    @property
    def payloads(self) -> list[object]:
        """What was sent, in the order in which it came."""
        return [message.payload for message in self.messages]

    async def wait(self, count: int) -> list[object]:
        """Return the payloads when there are at least `count`."""
        async with asyncio.timeout(WAIT):
            while len(self.messages) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return self.payloads

    async def settle(self) -> list[object]:
        """Return the payloads after a while in which nothing more should have come."""
        await asyncio.sleep(_SOON)
        return self.payloads


async def eventually(condition: Callable[[], bool]) -> None:
    """Return when a condition holds; fail when it does not in time."""
    async with asyncio.timeout(WAIT):
        while not condition():  # noqa: ASYNC110 - the condition has no event
            await asyncio.sleep(0.01)


async def answers(bus: MessageBus, name: str) -> None:
    """Return when an agent of the tenant `acme` can be reached.

    In a cluster it takes a moment until every server knows of a subscription.
    """
    async with asyncio.timeout(WAIT):
        while True:
            try:
                await bus.request(name, "ready?", sender="triage", tenant_id="acme")
            except MessagingError:
                await asyncio.sleep(0.01)
            else:
                return


async def dead_letters_of(bus: MessageBus, name: str) -> Sequence[DeadLetter]:
    """Return the dead letters of the tenant `acme` as soon as there are any."""
    async with asyncio.timeout(WAIT):
        while not (letters := await bus.dead_letters(name, tenant_id="acme")):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return letters


class MessageBusConformance:
    """What every implementation of `motadata.core.protocols.MessageBus` must do."""

    @pytest.fixture
    def open_bus(self) -> OpenBus:
        """Supply what opens a bus of one more process on the same server."""
        message = "A subclass supplies the fixture `open_bus`."
        raise NotImplementedError(message)

    @pytest.fixture
    async def bus(self, open_bus: OpenBus) -> AsyncIterator[MessageBus]:
        """Open the bus of the first process."""
        async with open_bus() as bus:
            yield bus

    @pytest.fixture
    async def other_bus(self, open_bus: OpenBus) -> AsyncIterator[MessageBus]:
        """Open the bus of a second process."""
        async with open_bus() as bus:
            yield bus

    @pytest.fixture
    def name(self) -> str:
        """Return a name that no other test uses."""
        return f"t{new_id().hex}"

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

    async def test_consumer_runs_as_the_tenant_and_within_the_trace_of_the_publisher(
        self, bus: MessageBus, name: str
    ) -> None:
        seen: list[tuple[str | None, str | None]] = []

        async def look(_: BusMessage) -> None:
            seen.append((current_tenant(), current_trace_id()))

        with tenant_scope("initech"), span("test.consume"):
            await bus.consume_all_tenants(name, look, event_types=[name])
        with span("test.publish"), tenant_scope("acme"):
            await bus.publish_event(name, 1)
            expected = [("acme", current_trace_id())]
        await eventually(lambda: bool(seen))
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
        await asyncio.sleep(_SOON)
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

    async def test_no_tenant_hears_another(
        self, bus: MessageBus, other_bus: MessageBus, name: str
    ) -> None:
        agents, events, work = Recorder(), Recorder(), Recorder()
        await other_bus.subscribe(name, agents, tenant_id="acme")
        await other_bus.consume(name, events, event_types=[name, f"{name}.sub"], tenant_id="acme")
        await other_bus.work(name, work, tenant_id="acme")
        await answers(bus, name)
        agents.messages.clear()
        for tenant in ("globex", "acme", "acm", "acmee", "Acme"):
            await bus.publish(name, tenant, sender="triage", tenant_id=tenant)
            await bus.publish_event(name, tenant, tenant_id=tenant)
            await bus.publish_event(f"{name}.acme", tenant, tenant_id=tenant)
            await bus.submit_work(name, tenant, tenant_id=tenant)
        for recorder in (agents, events, work):
            await recorder.wait(1)
        await asyncio.sleep(_SOON)
        for recorder in (agents, events, work):
            assert recorder.payloads == ["acme"]

    async def test_operator_hears_every_tenant_as_itself(self, bus: MessageBus, name: str) -> None:
        agents, events, work = Recorder(), Recorder(), Recorder()
        await bus.subscribe_all_tenants(name, agents)
        await bus.consume_all_tenants(name, events, event_types=[name])
        await bus.work_all_tenants(name, work)
        for tenant in ("acme", "globex"):
            await bus.publish(name, tenant, sender="triage", tenant_id=tenant)
            await bus.publish_event(name, tenant, tenant_id=tenant)
            await bus.submit_work(name, tenant, tenant_id=tenant)
        for recorder in (agents, events, work):
            await recorder.wait(2)
            assert all(message.payload == message.tenant_id for message in recorder.messages)

    async def test_message_id_of_one_tenant_does_not_swallow_anothers(
        self, bus: MessageBus, name: str
    ) -> None:
        for tenant in ("acme", "globex"):
            receipt = await bus.publish_event(name, 1, message_id="m1", tenant_id=tenant)
            assert not receipt.duplicate
        assert not (
            await bus.publish_event(f"{name}.b", 1, message_id="m1", tenant_id="acme")
        ).duplicate

    @pytest.mark.parametrize("bad", _INJECTED)
    async def test_name_that_is_no_identifier_is_refused_everywhere(
        self, bus: MessageBus, name: str, bad: str
    ) -> None:
        recorder = Recorder()
        calls: tuple[Callable[[], Awaitable[object]], ...] = (
            lambda: bus.publish(name, 1, sender="triage", tenant_id=bad),
            lambda: bus.publish(bad, 1, sender="triage", tenant_id="acme"),
            lambda: bus.publish(name, 1, sender=bad, tenant_id="acme"),
            lambda: bus.request(name, 1, sender="triage", tenant_id=bad),
            lambda: bus.subscribe(name, recorder, tenant_id=bad),
            lambda: bus.subscribe(bad, recorder, tenant_id="acme"),
            lambda: bus.subscribe_all_tenants(bad, recorder),
            lambda: bus.publish_event(name, 1, tenant_id=bad),
            lambda: bus.publish_event(f"{name}.{bad}.x.y", 1, tenant_id="acme"),
            lambda: bus.publish_event(name, 1, message_id=bad, tenant_id="acme"),
            lambda: bus.publish_event(name, 1, key=bad, tenant_id="acme"),
            lambda: bus.consume(name, recorder, event_types=[name], tenant_id=bad),
            lambda: bus.consume(bad, recorder, event_types=[name], tenant_id="acme"),
            lambda: bus.consume(name, recorder, event_types=[f"{bad}.x.y.z"], tenant_id="acme"),
            lambda: bus.submit_work(bad, 1, tenant_id="acme"),
            lambda: bus.submit_work(name, 1, tenant_id=bad),
            lambda: bus.work(name, recorder, tenant_id=bad),
            lambda: bus.work_all_tenants(bad, recorder),
            lambda: bus.dead_letters(name, tenant_id=bad),
            lambda: bus.dead_letters(bad, tenant_id="acme"),
        )
        for call in calls:
            with pytest.raises(InvalidIdentifierError):
                await call()

    async def test_operation_without_tenant_is_refused(self, bus: MessageBus, name: str) -> None:
        recorder = Recorder()
        calls: tuple[Callable[[], Awaitable[object]], ...] = (
            lambda: bus.publish(name, 1, sender="triage"),
            lambda: bus.request(name, 1, sender="triage"),
            lambda: bus.subscribe(name, recorder),
            lambda: bus.publish_event(name, 1),
            lambda: bus.consume(name, recorder, event_types=[name]),
            lambda: bus.submit_work(name, 1),
            lambda: bus.work(name, recorder),
            lambda: bus.dead_letters(name),
        )
        for call in calls:
            with pytest.raises(TenantRequiredError):
                await call()

    async def test_event_is_stored_once_however_often_it_is_published(
        self, bus: MessageBus, other_bus: MessageBus, name: str
    ) -> None:
        recorder = Recorder()
        first = await bus.publish_event(name, 1, message_id="m1", tenant_id="acme")
        again = await other_bus.publish_event(name, 1, message_id="m1", tenant_id="acme")
        assert (first.duplicate, again.duplicate) == (False, True)
        assert again.sequence == first.sequence
        await bus.consume(name, recorder, event_types=[name], tenant_id="acme")
        await recorder.wait(1)
        assert await recorder.settle() == [1]
        assert recorder.messages[0].message_id == "m1"

    async def test_consumer_gets_what_was_published_before_it_unless_it_asks_for_the_new(
        self, bus: MessageBus, name: str
    ) -> None:
        everything, later = Recorder(), Recorder()
        await bus.publish_event(name, "before", tenant_id="acme")
        new = ConsumerOptions(start="new")
        await bus.consume(f"{name}-new", later, event_types=[name], options=new, tenant_id="acme")
        await bus.consume(f"{name}-all", everything, event_types=[name], tenant_id="acme")
        await bus.publish_event(name, "after", tenant_id="acme")
        assert await everything.wait(2) == ["before", "after"]
        assert await later.wait(1) == ["after"]

    async def test_consumer_goes_on_where_it_left_off(
        self, open_bus: OpenBus, bus: MessageBus, name: str
    ) -> None:
        first, second = Recorder(), Recorder()
        async with open_bus() as process:
            await process.consume(name, first, event_types=[name], tenant_id="acme")
            await bus.publish_event(name, 1, tenant_id="acme")
            await first.wait(1)
        await bus.publish_event(name, 2, tenant_id="acme")
        await bus.consume(name, second, event_types=[name], tenant_id="acme")
        await second.wait(1)
        assert (first.payloads, await second.settle()) == ([1], [2])

    async def test_processes_of_one_consumer_share_its_events_and_other_consumers_get_all(
        self, bus: MessageBus, other_bus: MessageBus, name: str
    ) -> None:
        one, two, every = Recorder(), Recorder(), Recorder()
        few = ConsumerOptions(max_in_flight=2)
        await bus.consume(name, one, event_types=[name], options=few, tenant_id="acme")
        await other_bus.consume(name, two, event_types=[name], options=few, tenant_id="acme")
        await bus.consume(f"{name}-b", every, event_types=[name], tenant_id="acme")
        for number in range(30):
            await bus.publish_event(name, number, tenant_id="acme")
        await every.wait(30)
        await eventually(lambda: len(one.messages) + len(two.messages) >= 30)
        assert sorted(int(str(p)) for p in (*one.payloads, *two.payloads)) == list(range(30))

    async def test_failed_message_is_tried_again_and_then_kept_as_dead_letter(
        self, bus: MessageBus, name: str
    ) -> None:
        recorder, behind = Recorder(), Recorder()

        async def fail(message: BusMessage) -> None:
            await recorder(message)
            if message.payload == "bad":
                text = "no"
                raise ValueError(text)
            await behind(message)

        await bus.work(name, fail, options=QUICK, tenant_id="acme")
        await bus.submit_work(name, "bad", message_id="m1", tenant_id="acme")
        await bus.submit_work(name, "good", tenant_id="acme")
        await behind.wait(1)
        await recorder.wait(4)
        letters = await dead_letters_of(bus, name)
        (letter,) = letters
        assert (letter.reason, letter.error) == ("handler_failed", "ValueError")
        assert (letter.message.payload, letter.message.message_id) == ("bad", "m1")
        assert (letter.message.kind, letter.message.deliveries) == ("work", 3)
        tries = [m.deliveries for m in recorder.messages if m.payload == "bad"]
        assert tries == [1, 2, 3]
        assert len(await recorder.settle()) == 4
        assert await bus.dead_letters(name, tenant_id="globex") == []

    async def test_message_that_succeeds_at_last_is_no_dead_letter(
        self, bus: MessageBus, name: str
    ) -> None:
        recorder = Recorder()

        async def flaky(message: BusMessage) -> None:
            await recorder(message)
            if message.deliveries < 3:
                text = "not yet"
                raise ValueError(text)

        await bus.consume(name, flaky, event_types=[name], options=QUICK, tenant_id="acme")
        await bus.publish_event(name, 1, tenant_id="acme")
        await recorder.wait(3)
        assert len(await recorder.settle()) == 3
        assert await bus.dead_letters(name, tenant_id="acme") == []

    async def test_handler_that_takes_too_long_has_failed(self, bus: MessageBus, name: str) -> None:
        async def hang(_: BusMessage) -> None:
            await asyncio.sleep(WAIT)

        options = ConsumerOptions(handler_timeout=0.05, first_delay=0.02, max_deliveries=2)
        await bus.work(name, hang, options=options, tenant_id="acme")
        await bus.submit_work(name, 1, tenant_id="acme")
        letters = await dead_letters_of(bus, name)
        assert letters[0].error == "deadline_exceeded"

    async def test_handler_that_outlasts_the_acknowledgement_wait_keeps_its_message(
        self, bus: MessageBus, name: str
    ) -> None:
        recorder = Recorder()

        async def slow(message: BusMessage) -> None:
            await asyncio.sleep(1.2)
            await recorder(message)

        options = ConsumerOptions(ack_wait=0.5)
        await bus.work(name, slow, options=options, tenant_id="acme")
        await bus.submit_work(name, 1, tenant_id="acme")
        await recorder.wait(1)
        assert await recorder.settle() == [1]

    async def test_messages_of_one_key_keep_their_order_even_when_one_fails(
        self, bus: MessageBus, name: str
    ) -> None:
        done: list[tuple[str | None, object]] = []

        async def fail_once(message: BusMessage) -> None:
            if message.payload == 3 and message.deliveries == 1:
                text = "once"
                raise ValueError(text)
            done.append((message.key, message.payload))

        for number in range(10):
            for key in ("a", "b"):
                await bus.publish_event(name, number, key=key, tenant_id="acme")
        await bus.consume(name, fail_once, event_types=[name], options=QUICK, tenant_id="acme")
        await eventually(lambda: len(done) >= 20)
        for key in ("a", "b"):
            assert [number for other, number in done if other == key] == list(range(10))

    async def test_no_more_than_the_allowed_number_is_in_hand(
        self, bus: MessageBus, name: str
    ) -> None:
        now = most = total = 0

        async def count(_: BusMessage) -> None:
            nonlocal now, most, total
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.005)
            now -= 1
            total += 1

        for number in range(40):
            await bus.publish_event(name, number, tenant_id="acme")
        options = ConsumerOptions(max_in_flight=4)
        await bus.consume(name, count, event_types=[name], options=options, tenant_id="acme")
        await eventually(lambda: total == 40)
        assert most == 4

    async def test_work_goes_to_one_worker_and_is_gone_when_it_is_done(
        self, bus: MessageBus, other_bus: MessageBus, name: str
    ) -> None:
        one, two, late = Recorder(), Recorder(), Recorder()
        subscriptions = [
            await bus.work(name, one, tenant_id="acme"),
            await other_bus.work(name, two, tenant_id="acme"),
        ]
        for number in range(20):
            await bus.submit_work(name, number, tenant_id="acme")
        await eventually(lambda: len(one.messages) + len(two.messages) >= 20)
        for subscription in subscriptions:
            await subscription.stop()
        await bus.work(name, late, tenant_id="acme")
        assert await late.settle() == []
        assert sorted(int(str(p)) for p in (*one.payloads, *two.payloads)) == list(range(20))

    async def test_work_of_a_tenant_cannot_be_taken_by_the_operator_as_well(
        self, bus: MessageBus, name: str
    ) -> None:
        await bus.work(name, Recorder(), tenant_id="acme")
        with pytest.raises(MessagingError) as caught:
            await bus.work_all_tenants(name, Recorder())
        assert not caught.value.retryable

    async def test_stopping_waits_for_what_is_in_hand_and_takes_nothing_more(
        self, bus: MessageBus, name: str
    ) -> None:
        started, release, late = asyncio.Event(), asyncio.Event(), Recorder()
        done: list[object] = []

        async def slow(message: BusMessage) -> None:
            started.set()
            await release.wait()
            done.append(message.payload)

        options = ConsumerOptions(max_in_flight=1)
        subscription = await bus.work(name, slow, options=options, tenant_id="acme")
        for number in range(3):
            await bus.submit_work(name, number, tenant_id="acme")
        await started.wait()
        stopping = asyncio.create_task(subscription.stop())
        await asyncio.sleep(0.05)
        assert not stopping.done()
        release.set()
        await stopping
        assert done == [0]
        await bus.work(name, late, tenant_id="acme")
        assert sorted(await late.wait(2), key=str) == [1, 2]

    async def test_closing_finishes_a_request_in_hand(
        self, open_bus: OpenBus, bus: MessageBus, name: str
    ) -> None:
        started = asyncio.Event()

        async def slow(_: BusMessage) -> str:
            started.set()
            await asyncio.sleep(0.2)
            return "done"

        async with open_bus() as process:
            await process.subscribe(name, slow, tenant_id="acme")
            await answers(bus, name)
            started.clear()
            asking = asyncio.create_task(bus.request(name, 1, sender="triage", tenant_id="acme"))
            await started.wait()
        assert await asking == "done"
        with pytest.raises(MessagingError):
            await bus.request(name, 1, sender="triage", tenant_id="acme")

    async def test_closing_that_is_cancelled_leaves_no_handler_behind(
        self, open_bus: OpenBus, bus: MessageBus, name: str
    ) -> None:
        started, cancelled = asyncio.Event(), asyncio.Event()

        async def stuck(_: BusMessage) -> None:
            started.set()
            try:
                await asyncio.sleep(10 * WAIT)
            except asyncio.CancelledError:
                cancelled.set()
                raise

        async def live() -> None:
            async with open_bus() as process:
                await process.work(name, stuck, tenant_id="acme")
                await bus.submit_work(name, 1, tenant_id="acme")
                await started.wait()

        life = asyncio.create_task(live())
        async with asyncio.timeout(WAIT):
            await started.wait()
            await asyncio.sleep(_SOON)
            assert not life.done()
            life.cancel()
            await asyncio.gather(life, return_exceptions=True)
            await cancelled.wait()

    async def test_closed_bus_refuses(self, open_bus: OpenBus, name: str) -> None:
        async with open_bus() as process:
            pass
        with pytest.raises(MessagingError) as caught:
            await process.publish(name, 1, sender="triage", tenant_id="acme")
        assert not caught.value.retryable
        with pytest.raises(MessagingError):
            await process.publish_event(name, 1, tenant_id="acme")
        assert (await process.health()).status == "down"

    @pytest.mark.parametrize("field", ["max_in_flight", "max_deliveries", "ack_wait"])
    async def test_option_that_lets_nothing_through_is_refused(
        self, bus: MessageBus, name: str, field: str
    ) -> None:
        options = ConsumerOptions(**{field: 0})  # type: ignore[arg-type]  # the field varies
        with pytest.raises(ConfigurationError, match=field):
            await bus.consume(
                name, Recorder(), event_types=[name], options=options, tenant_id="acme"
            )

    async def test_no_event_type_is_refused(self, bus: MessageBus, name: str) -> None:
        nothing: tuple[Sequence[str], ...] = ([], name)
        for none in nothing:
            with pytest.raises(ConfigurationError, match="event_types"):
                await bus.consume(name, Recorder(), event_types=none, tenant_id="acme")

    async def test_half_of_the_requests_cancelled_leaves_no_wrong_answer(
        self, bus: MessageBus, other_bus: MessageBus, name: str
    ) -> None:
        async def echo(message: BusMessage) -> object:
            await asyncio.sleep(0)
            return message.payload

        await other_bus.subscribe(name, echo, max_in_flight=500, tenant_id="acme")
        await answers(bus, name)
        wrong: list[tuple[int, object]] = []

        async def ask(number: int) -> None:
            answer = await bus.request(
                name, number, sender="triage", timeout=WAIT, tenant_id="acme"
            )
            if answer != number:
                wrong.append((number, answer))

        for batch in range(10):
            tasks = [asyncio.create_task(ask(batch * 100 + number)) for number in range(100)]
            for turn in range(50):
                if turn % 10 == 0:
                    await asyncio.sleep(0)
                tasks[turn * 2].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert not any(task.exception() for task in tasks if not task.cancelled()), (
                "an uncancelled request failed"
            )
        assert wrong == []

    async def test_health_is_ok_and_says_what_an_acknowledgement_means(
        self, bus: MessageBus, name: str
    ) -> None:
        receipt = await bus.publish_event(name, 1, tenant_id="acme")
        health = await bus.health()
        assert health.status == "ok"
        assert receipt.durability in health.detail
