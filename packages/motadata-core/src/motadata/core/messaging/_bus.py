"""The bus itself: tenants, subjects, envelopes and traces over any transport."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Final, Protocol, Self

from motadata.core.codec import MessagePackCodec
from motadata.core.errors import (
    CodecError,
    ConfigurationError,
    DeadlineExceededError,
    MessagingError,
)
from motadata.core.identifiers import new_id
from motadata.core.messaging import _envelope as envelope
from motadata.core.messaging import _subject as subjects
from motadata.core.messaging._consumption import Consumption, Verdict
from motadata.core.messaging._handling import read_message
from motadata.core.messaging._listening import AgentListener
from motadata.core.messaging._statistics import BusStatistics, Counters
from motadata.core.messaging._transport import Delivery, FeedRequest, Incoming, Transport
from motadata.core.models import Health
from motadata.core.observability import span
from motadata.core.protocols import (
    BusMessage,
    Codec,
    ConsumerOptions,
    DeadLetter,
    Handler,
    PublishedMessage,
    Subscription,
)
from motadata.core.protocols.message_bus import DEFAULT_CONSUMER
from motadata.core.resilience import remaining
from motadata.core.tenancy import Identifier, TenantId, resolve_tenant


DRAIN_TIMEOUT: Final = 30.0
_MOST_DEAD_LETTERS: Final = 1000


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
        self._codec: Codec = codec or MessagePackCodec()
        self._content_type = envelope.content_type_of(self._codec)
        self._drain_timeout = drain_timeout
        self._counters = Counters()
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
        """
        await self._transport.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Drain: take nothing more, finish what is in hand, send what is buffered, disconnect."""
        try:
            active, self._active = self._active, []
            await asyncio.gather(*(one.stop() for one in active))
        finally:
            await self._transport.close()

    async def publish(
        self, recipient: str, payload: object, *, sender: str, tenant_id: str | None = None
    ) -> None:
        """Send a message to an agent; see `MessageBus.publish`."""
        tenant = resolve_tenant(tenant_id)
        subject = subjects.agent_subject(sender, recipient, tenant)
        data = self._codec.encode(payload)
        with span("bus.publish", kind="producer", tenant_id=tenant, destination=recipient):
            headers = envelope.make_headers(self._content_type, tenant)
            await self._transport.send(subject, data, headers)
        self._counters.published += 1

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
        subject = subjects.agent_subject(sender, recipient, tenant)
        data = self._codec.encode(payload)
        limit = remaining(timeout)
        assert limit is not None
        with span("bus.request", kind="client", tenant_id=tenant, destination=recipient):
            headers = envelope.make_headers(self._content_type, tenant)
            headers[envelope.DEADLINE] = str(int(limit * 1000))
            self._counters.published += 1
            try:
                if limit <= 0:
                    raise TimeoutError  # noqa: TRY301 - the same as one that ran out on the way
                reply = await self._transport.request(subject, data, headers, timeout=limit)
            except TimeoutError as error:
                message = f"The agent {recipient!r} did not answer within {limit:.3g} s."
                raise DeadlineExceededError(
                    message, remedy="Allow more time, or start more instances.", tenant_id=tenant
                ) from error
            return self._read_reply(recipient, tenant, reply)

    def _read_reply(self, recipient: str, tenant: TenantId, reply: Incoming) -> object:
        if reply.headers.get(envelope.TENANT) != tenant:
            self._counters.refused += 1
            message = f"The answer of the agent {recipient!r} is not for the tenant that asked."
            raise MessagingError(
                message, remedy="Find out who answers on this subject.", retryable=False
            )
        payload = envelope.decode_payload(reply.headers, reply.data)
        failure = reply.headers.get(envelope.ERROR)
        if failure is not None:
            raise envelope.reply_failure(recipient, failure, payload)
        return payload

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
        return await self._listen(
            recipient, handler, resolve_tenant(tenant_id), shared=shared, limit=max_in_flight
        )

    async def subscribe_all_tenants(
        self, recipient: str, handler: Handler, *, shared: bool = True, max_in_flight: int = 64
    ) -> Subscription:
        """Handle what any tenant sends to an agent; see `MessageBus.subscribe_all_tenants`."""
        return await self._listen(recipient, handler, None, shared=shared, limit=max_in_flight)

    async def _listen(
        self, recipient: str, handler: Handler, tenant: TenantId | None, *, shared: bool, limit: int
    ) -> Subscription:
        if limit < 1:
            message = f"max_in_flight={limit!r} lets nothing through."
            raise ConfigurationError(message, remedy="Give a positive number.")
        pattern = subjects.agent_pattern(recipient, tenant)
        agent = AgentListener(
            self._transport,
            self._codec,
            self._counters,
            handler,
            tenant=tenant,
            max_in_flight=limit,
            drain_timeout=self._drain_timeout,
        )
        agent.listener = await self._transport.listen(
            pattern,
            agent.receive,
            group=Identifier(recipient) if shared else "",
            on_drop=agent.dropped,
        )
        return self._activate(agent)

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
        return await self._store(subjects.EVENTS, subject, payload, tenant, message_id, key)

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
        return await self._store(subjects.WORK, subject, payload, tenant, message_id, key)

    async def _store(
        self,
        stream: str,
        subject: str,
        payload: object,
        tenant: TenantId,
        message_id: str | None,
        key: str | None,
    ) -> PublishedMessage:
        own_id = str(new_id()) if message_id is None else Identifier(message_id)
        data = self._codec.encode(payload)
        with span("bus.store", kind="producer", tenant_id=tenant, stream=stream):
            headers = envelope.make_headers(self._content_type, tenant)
            if key is not None:
                headers[envelope.KEY] = Identifier(key)
            stored = await self._transport.store(
                stream, subject, data, headers, stored_id=subjects.stored_id(subject, own_id)
            )
        self._counters.stored += 1
        return PublishedMessage(
            message_id=own_id,
            sequence=stored.sequence,
            duplicate=stored.duplicate,
            durability=self._transport.durability,
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
        return await self._consume_events(consumer, handler, event_types, options, tenant)

    async def consume_all_tenants(
        self,
        consumer: str,
        handler: Handler,
        *,
        event_types: Sequence[str],
        options: ConsumerOptions = DEFAULT_CONSUMER,
    ) -> Subscription:
        """Handle each event of these types of every tenant; see `MessageBus`."""
        return await self._consume_events(consumer, handler, event_types, options, None)

    async def _consume_events(
        self,
        consumer: str,
        handler: Handler,
        event_types: Sequence[str],
        options: ConsumerOptions,
        tenant: TenantId | None,
    ) -> Subscription:
        if isinstance(event_types, str) or not event_types:
            message = f"event_types={event_types!r} names no list of event types."
            raise ConfigurationError(message, remedy="Pass one or more, such as ['ticket.opened'].")
        patterns = tuple(subjects.event_pattern(one, tenant) for one in dict.fromkeys(event_types))
        name = subjects.consumer_name(consumer, tenant)
        request = FeedRequest(subjects.EVENTS, name, patterns, options)
        return await self._feed(request, consumer, handler, tenant)

    async def work(
        self,
        workflow_id: str,
        handler: Handler,
        *,
        options: ConsumerOptions = DEFAULT_CONSUMER,
        tenant_id: str | None = None,
    ) -> Subscription:
        """Handle the work of one workflow of the tenant; see `MessageBus.work`."""
        return await self._work(workflow_id, handler, options, resolve_tenant(tenant_id))

    async def work_all_tenants(
        self, workflow_id: str, handler: Handler, *, options: ConsumerOptions = DEFAULT_CONSUMER
    ) -> Subscription:
        """Handle the work of one workflow for every tenant; see `MessageBus.work_all_tenants`."""
        return await self._work(workflow_id, handler, options, None)

    async def _work(
        self, workflow_id: str, handler: Handler, options: ConsumerOptions, tenant: TenantId | None
    ) -> Subscription:
        name = subjects.consumer_name(workflow_id, tenant)
        patterns = (subjects.work_pattern(workflow_id, tenant),)
        request = FeedRequest(subjects.WORK, name, patterns, options)
        return await self._feed(request, workflow_id, handler, tenant)

    async def _feed(
        self, request: FeedRequest, name: str, handler: Handler, tenant: TenantId | None
    ) -> Subscription:
        _check_options(request.options)

        async def give_up(delivery: Delivery, address: subjects.Address, verdict: Verdict) -> None:
            await self._keep_dead_letter(request, name, delivery, address, verdict)

        consumption = Consumption(
            handler,
            give_up,
            self._counters,
            request.options,
            tenant=tenant,
            drain_timeout=self._drain_timeout,
        )
        await consumption.start(await self._transport.feed(request, consumption.deliver))
        return self._activate(consumption)

    async def _keep_dead_letter(
        self,
        request: FeedRequest,
        name: str,
        delivery: Delivery,
        address: subjects.Address,
        verdict: Verdict,
    ) -> None:
        incoming = delivery.incoming
        headers = {
            key: value
            for key, value in incoming.headers.items()
            if not key.lower().startswith("nats-")
        }
        headers[envelope.DEAD_SUBJECT] = incoming.subject
        headers[envelope.DEAD_REASON] = verdict.reason
        headers[envelope.DEAD_ERROR] = verdict.error
        headers[envelope.DEAD_DELIVERIES] = str(delivery.deliveries)
        headers[envelope.DEAD_ID] = incoming.headers.get(envelope.STORED_ID, "")
        await self._transport.store(
            subjects.DEAD_LETTERS,
            subjects.dead_letter_subject(name, address.tenant),
            incoming.data,
            headers,
            stored_id=subjects.dead_letter_id(request.stream, request.consumer, delivery.sequence),
        )

    async def dead_letters(
        self, name: str, *, limit: int = 100, tenant_id: str | None = None
    ) -> Sequence[DeadLetter]:
        """Return what was given up for the tenant, oldest first; see `MessageBus.dead_letters`."""
        tenant = resolve_tenant(tenant_id)
        subject = subjects.dead_letter_subject(name, tenant)
        count = max(0, min(limit, _MOST_DEAD_LETTERS))
        found = await self._transport.read(subjects.DEAD_LETTERS, subject, count)
        return [_read_dead_letter(sequence, incoming) for sequence, incoming in found]

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
        """Take no more messages and return when those in hand are handled."""
        if self._one in self._active:
            self._active.remove(self._one)
            await self._one.stop()


def _check_options(options: ConsumerOptions) -> None:
    positive = {
        "max_in_flight": options.max_in_flight,
        "max_deliveries": options.max_deliveries,
        "first_delay": options.first_delay,
        "max_delay": options.max_delay,
        "ack_wait": options.ack_wait,
        "handler_timeout": options.handler_timeout,
        "forget_after": 1.0 if options.forget_after is None else options.forget_after,
    }
    for name, value in positive.items():
        if not value > 0:
            message = f"{name}={value!r} is not positive."
            raise ConfigurationError(message, remedy="Give a positive number.")


def _read_dead_letter(sequence: int, incoming: Incoming) -> DeadLetter:
    """Read what `_keep_dead_letter` wrote, as far as it is there.

    The tenant is that of the dead letter's own subject, whatever the rest says.
    """
    headers = incoming.headers
    own = subjects.parse_subject(incoming.subject)
    try:
        address = subjects.parse_subject(headers.get(envelope.DEAD_SUBJECT, incoming.subject))
    except MessagingError:
        address = own
    address = replace(address, tenant=own.tenant)
    count = headers.get(envelope.DEAD_DELIVERIES, "")
    deliveries = int(count) if count.isdecimal() else 1
    original = {**headers, envelope.STORED_ID: headers.get(envelope.DEAD_ID, "")}
    try:
        message = read_message(
            Incoming(incoming.subject, incoming.data, original), address, deliveries=deliveries
        )
    except CodecError:
        message = BusMessage(
            kind=address.kind,
            name=address.name,
            tenant_id=address.tenant,
            payload=None,
            message_id=subjects.message_id_of(original[envelope.STORED_ID]),
            deliveries=deliveries,
        )
    reason, error = headers.get(envelope.DEAD_REASON, ""), headers.get(envelope.DEAD_ERROR, "")
    return DeadLetter(message=message, reason=reason, error=error, sequence=sequence)
