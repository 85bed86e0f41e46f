"""Whose a message is: no tenant hears, hides or forges another's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import pytest

from motadata.core.errors import (
    InvalidIdentifierError,
    MessagingError,
    TenantRequiredError,
)
from motadata.core.protocols import MessageBus
from motadata.core.testing.message_bus._fixtures import BusFixtures
from motadata.core.testing.message_bus._tools import (
    SOON,
    Recorder,
    answers,
)


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


class TenantBehaviour(BusFixtures):
    """What every bus keeps apart."""

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
        await asyncio.sleep(SOON)
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

    async def test_work_of_a_tenant_cannot_be_taken_by_the_operator_as_well(
        self, bus: MessageBus, name: str
    ) -> None:
        await bus.work(name, Recorder(), tenant_id="acme")
        with pytest.raises(MessagingError) as caught:
            await bus.work_all_tenants(name, Recorder())
        assert not caught.value.retryable

    async def test_equal_keys_of_two_tenants_meet_nowhere(
        self, bus: MessageBus, other_bus: MessageBus, name: str
    ) -> None:
        recorders = {tenant: Recorder() for tenant in ("acme", "globex")}
        for tenant, recorder in recorders.items():
            await other_bus.consume(name, recorder, event_types=[name], tenant_id=tenant)
        for number in range(10):
            for tenant in recorders:
                await bus.publish_event(name, [tenant, number], key="k", tenant_id=tenant)
        for tenant, recorder in recorders.items():
            await recorder.wait(10)
            assert await recorder.settle() == [[tenant, number] for number in range(10)]
            assert {message.tenant_id for message in recorder.messages} == {tenant}
