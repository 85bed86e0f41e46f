"""The bus itself: whose a call is, and the end of everything that was begun."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Protocol, Self

from motadata.core.codec import MessagePackCodec
from motadata.core.messaging import _subject as subjects
from motadata.core.messaging._agents import AgentMessages
from motadata.core.messaging._envelope import Envelope
from motadata.core.messaging._statistics import BusStatistics, Counters
from motadata.core.messaging._stored import StoredMessages
from motadata.core.messaging._transport import Transport
from motadata.core.models import Health
from motadata.core.protocols import (
    Codec,
    ConsumerOptions,
    DeadLetter,
    Handler,
    PublishedMessage,
    Subscription,
)
from motadata.core.protocols.message_bus import DEFAULT_CONSUMER
from motadata.core.resilience import check_deadline, time_limit
from motadata.core.tenancy import resolve_tenant


DRAIN_TIMEOUT: Final = 30.0


class _Stoppable(Protocol):
    async def stop(self) -> None: ...


class Bus:
    """What both buses do alike; see `motadata.core.protocols.MessageBus`."""

    def __init__(
        self,
        transport: Transport,
        *,
        codec: Codec | None = None,
        drain_timeout: float = DRAIN_TIMEOUT,
    ) -> None:
        self._transport = transport
        self._counters = Counters()
        used = Envelope(codec or MessagePackCodec())
        self._agents = AgentMessages(transport, used, self._counters, drain_timeout=drain_timeout)
        self._stored = StoredMessages(transport, used, self._counters, drain_timeout=drain_timeout)
        self._active: list[_Stoppable] = []

    @property
    def statistics(self) -> BusStatistics:
        """What this bus has done so far."""
        return self._counters.snapshot()

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            MessagingError: The server cannot be reached or refuses.
            ConfigurationError: The server does not keep what the durability promises.
            DeadlineExceededError: The caller's deadline ended first.
        """
        await self._transport.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Drain: take nothing more, finish what is in hand, send what is buffered, disconnect.

        Raises:
            DeadlineExceededError: The caller's deadline ended first: what was in hand is cancelled.
        """
        try:
            active, self._active = self._active, []
            async with time_limit(None, what="what is in hand to be finished"):
                await asyncio.gather(*(one.stop() for one in active))
            # They keep to the deadline themselves, and may be the first to find that it is over.
            check_deadline(what="the end of what was in hand")
        finally:
            await self._transport.close()

    async def publish(
        self, recipient: str, payload: object, *, sender: str, tenant_id: str | None = None
    ) -> None:
        """Send a message to an agent; see `MessageBus.publish`."""
        tenant = resolve_tenant(tenant_id)
        await self._agents.publish(recipient, payload, sender=sender, tenant=tenant)

    async def request(
        self,
        recipient: str,
        payload: object,
        *,
        sender: str,
        timeout: float = 5.0,
        tenant_id: str | None = None,
    ) -> object:
        """Send a message to an agent and return its answer; see `MessageBus.request`."""
        tenant = resolve_tenant(tenant_id)
        return await self._agents.request(
            recipient, payload, sender=sender, timeout=timeout, tenant=tenant
        )

    async def subscribe(
        self,
        recipient: str,
        handler: Handler,
        *,
        shared: bool = True,
        max_in_flight: int = 64,
        tenant_id: str | None = None,
    ) -> Subscription:
        """Handle what is sent to an agent of the tenant; see `MessageBus.subscribe`."""
        tenant = resolve_tenant(tenant_id)
        return self._activate(
            await self._agents.listen(
                recipient, handler, tenant=tenant, shared=shared, max_in_flight=max_in_flight
            )
        )

    async def subscribe_all_tenants(
        self, recipient: str, handler: Handler, *, shared: bool = True, max_in_flight: int = 64
    ) -> Subscription:
        """Handle what any tenant sends to an agent; see `MessageBus.subscribe_all_tenants`."""
        return self._activate(
            await self._agents.listen(
                recipient, handler, tenant=None, shared=shared, max_in_flight=max_in_flight
            )
        )

    async def publish_event(
        self,
        event_type: str,
        payload: object,
        *,
        message_id: str | None = None,
        key: str | None = None,
        tenant_id: str | None = None,
    ) -> PublishedMessage:
        """Store an event and return when it is acknowledged; see `MessageBus.publish_event`."""
        tenant = resolve_tenant(tenant_id)
        subject = subjects.event_subject(event_type, tenant)
        return await self._stored.store(
            subjects.EVENTS, subject, payload, tenant=tenant, message_id=message_id, key=key
        )

    async def submit_work(
        self,
        workflow_id: str,
        payload: object,
        *,
        message_id: str | None = None,
        key: str | None = None,
        tenant_id: str | None = None,
    ) -> PublishedMessage:
        """Store a piece of work; see `MessageBus.submit_work`."""
        tenant = resolve_tenant(tenant_id)
        subject = subjects.work_subject(workflow_id, tenant)
        return await self._stored.store(
            subjects.WORK, subject, payload, tenant=tenant, message_id=message_id, key=key
        )

    async def consume(
        self,
        consumer: str,
        handler: Handler,
        *,
        event_types: Sequence[str],
        options: ConsumerOptions = DEFAULT_CONSUMER,
        tenant_id: str | None = None,
    ) -> Subscription:
        """Handle each event of these types of the tenant; see `MessageBus.consume`."""
        tenant = resolve_tenant(tenant_id)
        return self._activate(
            await self._stored.consume_events(
                consumer, handler, event_types, options, tenant=tenant
            )
        )

    async def consume_all_tenants(
        self,
        consumer: str,
        handler: Handler,
        *,
        event_types: Sequence[str],
        options: ConsumerOptions = DEFAULT_CONSUMER,
    ) -> Subscription:
        """Handle each event of these types of every tenant; see `MessageBus`."""
        return self._activate(
            await self._stored.consume_events(consumer, handler, event_types, options, tenant=None)
        )

    async def work(
        self,
        workflow_id: str,
        handler: Handler,
        *,
        options: ConsumerOptions = DEFAULT_CONSUMER,
        tenant_id: str | None = None,
    ) -> Subscription:
        """Handle the work of one workflow of the tenant; see `MessageBus.work`."""
        tenant = resolve_tenant(tenant_id)
        return self._activate(
            await self._stored.consume_work(workflow_id, handler, options, tenant=tenant)
        )

    async def work_all_tenants(
        self, workflow_id: str, handler: Handler, *, options: ConsumerOptions = DEFAULT_CONSUMER
    ) -> Subscription:
        """Handle the work of one workflow for every tenant; see `MessageBus.work_all_tenants`."""
        return self._activate(
            await self._stored.consume_work(workflow_id, handler, options, tenant=None)
        )

    async def dead_letters(
        self, name: str, *, limit: int = 100, tenant_id: str | None = None
    ) -> Sequence[DeadLetter]:
        """Return what was given up for the tenant, oldest first; see `MessageBus.dead_letters`."""
        tenant = resolve_tenant(tenant_id)
        return await self._stored.dead_letters(name, limit=limit, tenant=tenant)

    async def health(self) -> Health:
        """Say whether the bus carries messages, and what its acknowledgements are worth."""
        return await self._transport.health()

    def _activate(self, one: _Stoppable) -> Subscription:
        self._active.append(one)
        return _Active(one, self._active)


class _Active:
    """A subscription of the bus; stopping it twice does nothing more."""

    def __init__(self, one: _Stoppable, active: list[_Stoppable]) -> None:
        self._one = one
        self._active = active

    async def stop(self) -> None:
        """Take no more messages and return when those in hand are handled.

        Raises:
            DeadlineExceededError: The caller's deadline ended first: those in hand are cancelled.
        """
        if self._one in self._active:
            self._active.remove(self._one)
            async with time_limit(None, what="messages in hand to be handled"):
                await self._one.stop()
            check_deadline(what="the end of a subscription")
