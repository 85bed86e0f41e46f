"""How a bus is stopped, what it refuses, how it says how it is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from motadata.core.errors import (
    ConfigurationError,
    MessagingError,
)
from motadata.core.protocols import BusMessage, ConsumerOptions, MessageBus
from motadata.core.testing.message_bus._fixtures import BusFixtures
from motadata.core.testing.message_bus._tools import (
    SOON,
    WAIT,
    OpenBus,
    Recorder,
    answers,
)


class LifecycleBehaviour(BusFixtures):
    """What every bus does at its ends."""

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
            await asyncio.sleep(SOON)
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

    async def test_health_is_ok_and_says_what_an_acknowledgement_means(
        self, bus: MessageBus, name: str
    ) -> None:
        receipt = await bus.publish_event(name, 1, tenant_id="acme")
        health = await bus.health()
        assert health.status == "ok"
        assert receipt.durability in health.detail
