"""What is stored: at least once, in order of its key, tried again, kept apart at last."""

from __future__ import annotations

import asyncio

from motadata.core.observability import current_trace_id, span
from motadata.core.protocols import BusMessage, ConsumerOptions, Handler, MessageBus
from motadata.core.tenancy import current_tenant, tenant_scope
from motadata.core.testing.message_bus._fixtures import BusFixtures
from motadata.core.testing.message_bus._tools import (
    QUICK,
    WAIT,
    OpenBus,
    Recorder,
    dead_letters_of,
    eventually,
)


class StoredBehaviour(BusFixtures):
    """What every bus does with events and work."""

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

    async def test_messages_of_one_key_keep_their_order_across_processes(
        self, bus: MessageBus, other_bus: MessageBus, name: str
    ) -> None:
        begun: list[tuple[str | None, object]] = []
        busy: set[str | None] = set()
        handlers = set[int]()

        def handler_of(process: int) -> Handler:
            async def handle(message: BusMessage) -> None:
                assert message.key not in busy, "two of one key at once"
                busy.add(message.key)
                handlers.add(process)
                begun.append((message.key, message.payload))
                await asyncio.sleep(0.002)
                busy.discard(message.key)

            return handle

        for process, one in enumerate((bus, other_bus)):
            await one.work(name, handler_of(process), options=QUICK, tenant_id="acme")
        keys = ("a", "b", "c", "d")
        for number in range(12):
            for key in keys:
                await bus.submit_work(name, number, key=key, tenant_id="acme")
        await eventually(lambda: len(begun) >= 12 * len(keys))
        for key in keys:
            assert [number for other, number in begun if other == key] == list(range(12))
        assert handlers == {0, 1}
        assert await bus.dead_letters(name, tenant_id="acme") == []
