"""Events and work: stored, consumed, and what was given up of them, over any transport."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from motadata.core.errors import ConfigurationError
from motadata.core.identifiers import new_id_text
from motadata.core.messaging import _envelope as envelope
from motadata.core.messaging import _subject as subjects
from motadata.core.messaging._consumption import Consumption, Verdict
from motadata.core.messaging._dead_letters import dead_letter_headers, read_dead_letter
from motadata.core.messaging._envelope import Envelope
from motadata.core.messaging._frames import header_lines
from motadata.core.messaging._handling import Handling
from motadata.core.messaging._transport import Delivery, FeedPlace, FeedRequest, Transport
from motadata.core.observability import message_call
from motadata.core.protocols import (
    ConsumerOptions,
    DeadLetter,
    Handler,
    PublishedMessage,
)
from motadata.core.tenancy import Identifier, TenantId


if TYPE_CHECKING:
    from motadata.core.messaging._statistics import Counters

_MOST_DEAD_LETTERS: Final = 1000


class StoredMessages:
    """What is delivered at least once."""

    def __init__(
        self, transport: Transport, used: Envelope, counters: Counters, *, drain_timeout: float
    ) -> None:
        self._transport = transport
        self._envelope = used
        self._counters = counters
        self._drain_timeout = drain_timeout

    async def store(
        self,
        stream: str,
        subject: str,
        payload: object,
        *,
        tenant: TenantId,
        message_id: str | None,
        key: str | None,
    ) -> PublishedMessage:
        """Store a message and return when that is acknowledged."""
        own_id = new_id_text() if message_id is None else Identifier(message_id)
        # Without the lane: a repeated message is the same one, whatever its key.
        stored_id = subjects.stored_id(subject, own_id)
        data = self._envelope.encode(payload)
        system = self._transport.system
        with message_call(
            "publish", destination=stream, system=system, tenant_id=tenant, current=False
        ) as call:
            headers = self._envelope.headers(tenant) + envelope.trace_lines(*call.trace_headers)
            if key is not None:
                headers += header_lines({envelope.KEY: Identifier(key)})
                subject = subjects.in_lane(subject, subjects.lane_of(key, tenant))
            stored = await self._transport.store(
                stream, subject, data, headers, stored_id=stored_id
            )
        self._counters.stored += 1
        return PublishedMessage(
            message_id=own_id,
            sequence=stored.sequence,
            duplicate=stored.duplicate,
            durability=self._transport.durability,
        )

    async def consume_events(
        self,
        consumer: str,
        handler: Handler,
        event_types: Sequence[str],
        options: ConsumerOptions,
        *,
        tenant: TenantId | None,
    ) -> Consumption:
        """Handle each event of these types, of one tenant or, for None, of all."""
        if isinstance(event_types, str) or not event_types:
            message = f"event_types={event_types!r} names no list of event types."
            raise ConfigurationError(message, remedy="Pass one or more, such as ['ticket.opened'].")
        patterns = tuple(subjects.event_pattern(one, tenant) for one in dict.fromkeys(event_types))
        request = FeedRequest(subjects.EVENTS, _places(consumer, tenant, patterns), options)
        return await self._consume(request, consumer, handler, tenant)

    async def consume_work(
        self,
        workflow_id: str,
        handler: Handler,
        options: ConsumerOptions,
        *,
        tenant: TenantId | None,
    ) -> Consumption:
        """Handle the work of one workflow, of one tenant or, for None, of all."""
        patterns = (subjects.work_pattern(workflow_id, tenant),)
        request = FeedRequest(subjects.WORK, _places(workflow_id, tenant, patterns), options)
        return await self._consume(request, workflow_id, handler, tenant)

    async def dead_letters(
        self, name: str, *, limit: int, tenant: TenantId
    ) -> Sequence[DeadLetter]:
        """Return what was given up for the tenant, oldest first."""
        subject = subjects.dead_letter_subject(name, tenant)
        count = max(0, min(limit, _MOST_DEAD_LETTERS))
        found = await self._transport.read(subjects.DEAD_LETTERS, subject, count)
        handling = self._new_handling()
        return [read_dead_letter(sequence, incoming, handling) for sequence, incoming in found]

    def _new_handling(self) -> Handling:
        return Handling(self._envelope, system=self._transport.system)

    async def _consume(
        self, request: FeedRequest, name: str, handler: Handler, tenant: TenantId | None
    ) -> Consumption:
        _check_options(request.options)
        consumer = request.places[0].consumer

        async def give_up(delivery: Delivery, address: subjects.Address, verdict: Verdict) -> None:
            await self._transport.store(
                subjects.DEAD_LETTERS,
                subjects.dead_letter_subject(name, address.tenant),
                delivery.incoming.data,
                header_lines(
                    dead_letter_headers(delivery, reason=verdict.reason, error=verdict.error)
                ),
                stored_id=subjects.dead_letter_id(request.stream, consumer, delivery.sequence),
            )

        consumption = Consumption(
            handler,
            self._new_handling(),
            give_up,
            self._counters,
            request.options,
            tenant=tenant,
            drain_timeout=self._drain_timeout,
        )
        feed = await self._transport.feed(request, consumption.deliver)
        consumption.start(feed, len(request.places))
        return consumption


def _places(name: str, tenant: TenantId | None, patterns: tuple[str, ...]) -> tuple[FeedPlace, ...]:
    """Return the places of a consumer: one for what has no key, and one for each lane."""
    lanes = (
        FeedPlace(
            subjects.consumer_name(name, tenant, lane),
            tuple(subjects.in_lane(pattern, lane) for pattern in patterns),
            one_by_one=True,
        )
        for lane in range(subjects.LANES)
    )
    return (FeedPlace(subjects.consumer_name(name, tenant), patterns), *lanes)


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
