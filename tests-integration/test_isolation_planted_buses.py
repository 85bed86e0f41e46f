"""The isolation property finds the known mistakes of buses, logs and metrics, each planted here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import nats
import pytest

from motadata.core.embedded import EmbeddedNats
from motadata.core.messaging import NatsCredentials, create_in_process_bus, create_message_bus
from motadata.core.observability import get_logger
from motadata.core.protocols import (
    BusMessage,
    ConsumerOptions,
    DeadLetter,
    Handler,
    MessageBus,
    PublishedMessage,
    Subscription,
)
from motadata.core.protocols.message_bus import DEFAULT_CONSUMER
from motadata.core.tenancy import current_tenant, resolve_tenant, tenant_scope
from motadata.core.testing.isolation import (
    BusSite,
    Leak,
    LogSite,
    MetricSite,
    World,
    check_isolation,
)


# Each mistake is found within a minute; on a quiet machine it takes less than a second.
pytestmark = pytest.mark.timeout(60)


class CarelessBus:
    """Hands everything on to a bus that makes no mistake; each subclass makes one."""

    def __init__(self, bus: MessageBus) -> None:
        self.bus = bus

    def __getattr__(self, name: str) -> Callable[..., object]:
        return getattr(self.bus, name)


class PatternOfAllTenants(CarelessBus):
    """The subscription's pattern has a wildcard where the tenant stands."""

    async def subscribe(
        self,
        recipient: str,
        handler: Handler,
        *,
        shared: bool = True,
        max_in_flight: int = 64,
        tenant_id: str | None = None,
    ) -> Subscription:
        resolve_tenant(tenant_id)
        return await self.bus.subscribe_all_tenants(recipient, handler, shared=shared)


class WorkForAnyone(CarelessBus):
    """A worker takes what there is to do, whoever's it is."""

    async def work(
        self,
        workflow_id: str,
        handler: Handler,
        *,
        options: ConsumerOptions = DEFAULT_CONSUMER,
        tenant_id: str | None = None,
    ) -> Subscription:
        if tenant_id == "a":
            return await self.bus.work_all_tenants(workflow_id, handler, options=options)
        return await self.bus.subscribe(f"nobody-{tenant_id}", handler, tenant_id=tenant_id)


class MessageIdsOfEveryone(CarelessBus):
    """An id that another tenant used makes a message a repetition."""

    def __init__(self, bus: MessageBus) -> None:
        super().__init__(bus)
        self.stored: dict[str, PublishedMessage] = {}

    async def publish_event(
        self,
        event_type: str,
        payload: object,
        *,
        message_id: str | None = None,
        key: str | None = None,
        tenant_id: str | None = None,
    ) -> PublishedMessage:
        if message_id is not None and message_id in self.stored:
            return replace(self.stored[message_id], duplicate=True)
        receipt = await self.bus.publish_event(
            event_type, payload, message_id=message_id, key=key, tenant_id=tenant_id
        )
        self.stored[receipt.message_id] = receipt
        return receipt


class AnswersInOrder(CarelessBus):
    """An answer goes to who waits longest; one who gives up still stands in line."""

    def __init__(self, bus: MessageBus) -> None:
        super().__init__(bus)
        self.waiting: list[asyncio.Future[object]] = []
        self.asked: set[asyncio.Task[None]] = set()

    async def request(
        self,
        recipient: str,
        payload: object,
        *,
        sender: str,
        timeout: float = 5.0,
        tenant_id: str | None = None,
    ) -> object:
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self.waiting.append(answer)

        async def ask() -> None:
            said = await self.bus.request(recipient, payload, sender=sender, tenant_id=tenant_id)
            first = self.waiting.pop(0)
            if not first.done():
                first.set_result(said)

        task = asyncio.create_task(ask())
        self.asked.add(task)
        task.add_done_callback(self.asked.discard)
        try:
            return await asyncio.wait_for(answer, timeout)
        finally:
            task.cancel()


class HandlersInTheirOwnScope(CarelessBus):
    """Handlers run in the scope in which they were subscribed, if there was one."""

    async def consume_all_tenants(
        self,
        consumer: str,
        handler: Handler,
        *,
        event_types: Sequence[str],
        options: ConsumerOptions = DEFAULT_CONSUMER,
    ) -> Subscription:
        async def handle(message: BusMessage) -> object:
            with tenant_scope("a"):
                return await handler(message)

        return await self.bus.consume_all_tenants(
            consumer, handle, event_types=event_types, options=options
        )


class DeadLettersOfEveryone(CarelessBus):
    """What was given up is listed by the consumer's name alone."""

    async def dead_letters(
        self, name: str, *, limit: int = 100, tenant_id: str | None = None
    ) -> Sequence[DeadLetter]:
        resolve_tenant(tenant_id)
        return [
            letter
            for tenant in ("a", "b", "ab")
            for letter in await self.bus.dead_letters(name, limit=limit, tenant_id=tenant)
        ]


PLANTED = [
    PatternOfAllTenants,
    WorkForAnyone,
    MessageIdsOfEveryone,
    AnswersInOrder,
    HandlersInTheirOwnScope,
    DeadLettersOfEveryone,
]


def world_of(
    careless: Callable[[MessageBus], MessageBus],
) -> Callable[[], AsyncIterator[World]]:
    @asynccontextmanager
    async def open_world() -> AsyncIterator[World]:
        async with create_in_process_bus() as bus, World([BusSite(careless(bus))]) as world:
            yield world

    return open_world


def test_a_bus_without_mistakes_passes():
    check_isolation(world_of(CarelessBus), examples=10, operations=500)


@pytest.mark.parametrize("careless", PLANTED)
def test_a_planted_mistake_of_a_bus_is_found(careless: Callable[[MessageBus], MessageBus]):
    with pytest.raises(Leak):
        check_isolation(world_of(careless), shrink=False)


class RawSubjects(CarelessBus):
    """A subject is put together from whatever text comes: the tenant `>` hears everybody."""

    def __init__(self, bus: MessageBus, client: nats.NATS) -> None:
        super().__init__(bus)
        self.client = client

    async def subscribe(
        self,
        recipient: str,
        handler: Handler,
        *,
        shared: bool = True,
        max_in_flight: int = 64,
        tenant_id: str | None = None,
    ) -> Subscription:
        if tenant_id not in ("*", ">"):
            return await self.bus.subscribe(recipient, handler, tenant_id=tenant_id)
        heard = await self.client.subscribe(f"sdk.agent.*.{recipient}.{tenant_id}")
        return StoppedByUnsubscribing(heard)


class StoppedByUnsubscribing:
    def __init__(self, heard: nats.aio.client.Subscription) -> None:
        self.heard = heard

    async def stop(self) -> None:
        await self.heard.unsubscribe()


def test_a_subject_of_raw_strings_is_found(embedded_nats: EmbeddedNats):
    @asynccontextmanager
    async def open_world() -> AsyncIterator[World]:
        token = embedded_nats.token
        async with create_message_bus(
            embedded_nats.url, credentials=NatsCredentials(token=token)
        ) as bus:
            client = await nats.connect(embedded_nats.url, token=token.get_secret_value())
            try:
                async with World([BusSite(RawSubjects(bus, client))]) as world:
                    yield world
            finally:
                await client.close()

    with pytest.raises(Leak):
        check_isolation(open_world, shrink=False)


class TenantOfTheProcess(LogSite):
    """Lines name the tenant that a variable of the process held last."""

    latest: str | None = None

    def write(self, owner: str) -> None:
        previous, self.latest = self.latest, current_tenant()
        get_logger("careless").info("line", owner=owner, tenant_id=previous or owner)


def test_a_log_line_that_names_another_tenant_is_found():
    @asynccontextmanager
    async def open_world() -> AsyncIterator[World]:
        async with World([TenantOfTheProcess()]) as world:
            yield world

    with pytest.raises(Leak):
        check_isolation(open_world, shrink=False)


class LabelOfTheProcess(MetricSite):
    """Sums bear the label of the tenant that a variable of the process held last."""

    latest: str | None = None

    def count(self, owner: str, *, tenant_id: str | None = None) -> None:
        previous, self.latest = self.latest, tenant_id or current_tenant()
        super().count(owner, tenant_id=previous or owner)


def test_a_sum_that_bears_the_label_of_another_tenant_is_found():
    pytest.importorskip("opentelemetry.sdk")

    @asynccontextmanager
    async def open_world() -> AsyncIterator[World]:
        async with World([LabelOfTheProcess()]) as world:
            yield world

    with pytest.raises(Leak):
        check_isolation(open_world, shrink=False)
