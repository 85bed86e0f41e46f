"""Stored messages on the receiving side: bounded, tried again, given up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context
from dataclasses import dataclass
from typing import Final

from motadata.core.errors import CodecError, MessagingError, SDKError
from motadata.core.messaging._envelope import RefusedError, check_headers
from motadata.core.messaging._handling import Handling
from motadata.core.messaging._statistics import Counters
from motadata.core.messaging._subject import Address, parse_subject
from motadata.core.messaging._tasks import finish
from motadata.core.messaging._transport import Delivery, Feed
from motadata.core.observability import get_logger
from motadata.core.protocols import BusMessage, ConsumerOptions, Handler
from motadata.core.tenancy import TenantId, tenant_scope


_log = get_logger("messaging")

_SIGNS_PER_WAIT: Final = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a message is given up (`handler_failed`, `refused`, `undecodable`) and the last error."""

    reason: str
    error: str


GiveUp = Callable[[Delivery, Address, Verdict], Awaitable[None]]
"""Stores a dead letter."""


class Consumption:
    """Handles what a feed hands out, each message in a task of its own.

    The feed keeps messages of one key in order: of each lane it hands out one at a time. Of
    everything else it hands out as many as may be in flight. All together share the places.
    """

    def __init__(
        self,
        handler: Handler,
        handling: Handling,
        give_up: GiveUp,
        counters: Counters,
        options: ConsumerOptions,
        *,
        tenant: TenantId | None,
        drain_timeout: float,
    ) -> None:
        self._handler = handler
        self._handling = handling
        self._give_up = give_up
        self._counters = counters
        self._options = options
        self._tenant = tenant
        self._drain_timeout = drain_timeout
        self._feed: Feed | None = None
        self._held: dict[int, Delivery] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._places = asyncio.Semaphore(options.max_in_flight)
        self._signs: asyncio.Task[None] | None = None
        self._stopping = False

    def start(self, feed: Feed, places: int) -> None:
        """Begin to take messages of all its places."""
        self._feed = feed
        self._signs = asyncio.create_task(self._show_signs_of_life(), context=Context())
        for place in range(places):
            feed.want(place, self._options.max_in_flight)

    async def stop(self) -> None:
        """Take no more messages and return when those in hand are handled.

        Those that are not within the drain timeout are cancelled and handed out again elsewhere.
        """
        self._stopping = True
        try:
            if self._feed is not None:
                await self._feed.stop()
        finally:
            try:
                await finish(self._tasks, self._drain_timeout)
            finally:
                if self._signs is not None:
                    self._signs.cancel()
        for delivery in list(self._held.values()):
            self._again(delivery, 0.0)

    def deliver(self, delivery: Delivery, place: int) -> None:
        """Take a message that the feed hands out; called on the event loop."""
        if delivery.sequence in self._held:
            # Handed out again although it is here: a sign of life was late. Once is enough.
            self._replace(place)
            return
        self._held[delivery.sequence] = delivery
        if self._stopping:
            return
        # A fresh context: the subscriber's own tenant, trace and deadline are not the message's.
        task = asyncio.get_running_loop().create_task(
            self._process(delivery, place), context=Context()
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _process(self, delivery: Delivery, place: int) -> None:
        async with self._places:
            if self._stopping:
                # It waited for a place until now; another process may take it.
                return
            try:
                await self._judge(delivery)
            except Exception as error:  # noqa: BLE001 - one message's trouble must not stop the others
                # No verdict got through: the server hands the message out again after its wait.
                _log.error("verdict_lost", error=error)
            self._held.pop(delivery.sequence, None)
        self._replace(place)

    def _replace(self, place: int) -> None:
        if self._feed is not None and not self._stopping:
            self._feed.want(place, 1)

    async def _judge(self, delivery: Delivery) -> None:
        incoming = delivery.incoming
        try:
            address = parse_subject(incoming.subject)
        except MessagingError as error:
            # Without a tenant there is nobody to keep it for.
            self._counters.refused += 1
            _log.error("message_refused", error=error)
            delivery.ack()
            return
        try:
            if self._tenant is not None and address.tenant != self._tenant:
                message = "belongs to another tenant"
                raise RefusedError(message)  # noqa: TRY301 - one place refuses
            check_headers(incoming.headers, address)
        except RefusedError as error:
            self._counters.refused += 1
            _log.error("message_refused", subject=incoming.subject, reason=str(error))
            await self._bury(delivery, address, Verdict("refused", str(error)))
            return
        await self._try(delivery, address)

    async def _try(self, delivery: Delivery, address: Address) -> None:
        options = self._options
        if delivery.deliveries > options.max_deliveries:
            # All that is known of a message whose last try never came back.
            await self._bury(delivery, address, Verdict("handler_failed", "no_verdict"))
            return
        try:
            message = self._handling.read(
                delivery.incoming, address, deliveries=delivery.deliveries
            )
        except CodecError as failure:
            await self._bury(delivery, address, Verdict("undecodable", failure.code))
            return
        failed = await self._call(message, delivery.incoming.headers)
        if failed is None:
            delivery.ack()
        elif delivery.deliveries == options.max_deliveries:
            await self._bury(delivery, address, Verdict("handler_failed", failed))
        else:
            self._counters.redelivered += 1
            doublings = min(delivery.deliveries - 1, 60)
            self._again(delivery, min(options.max_delay, options.first_delay * 2.0**doublings))

    async def _call(self, message: BusMessage, headers: Mapping[str, str]) -> str | None:
        """Run the handler; return None, or what to call its failure."""
        self._counters.delivered += 1
        task = asyncio.current_task()
        assert task is not None
        try:
            await self._handling.run(
                self._handler, message, headers, task=task, timeout=self._options.handler_timeout
            )
        except Exception as error:  # noqa: BLE001 - the message is tried again or kept apart
            failure: BaseException = error
        except asyncio.CancelledError as error:
            if task.cancelling():
                raise
            failure = error
        else:
            return None
        self._counters.failed += 1
        with tenant_scope(message.tenant_id):
            _log.warning(
                "handler_failed",
                kind=message.kind,
                destination=message.name,
                deliveries=message.deliveries,
                failure=failure,
            )
        return failure.code if isinstance(failure, SDKError) else type(failure).__name__

    async def _bury(self, delivery: Delivery, address: Address, verdict: Verdict) -> None:
        try:
            await self._give_up(delivery, address, verdict)
        except SDKError as error:
            # It stays where it is rather than getting lost between the two.
            _log.error("dead_letter_failed", error=error)
            self._again(delivery, self._options.max_delay)
            return
        self._counters.dead_lettered += 1
        with tenant_scope(address.tenant):
            _log.error("message_given_up", destination=address.name, reason=verdict.reason)
        delivery.ack()

    def _again(self, delivery: Delivery, delay: float) -> None:
        self._held.pop(delivery.sequence, None)
        try:
            delivery.nak(delay)
        except SDKError as error:
            _log.warning("verdict_lost", error=error)

    async def _show_signs_of_life(self) -> None:
        while True:
            await asyncio.sleep(self._options.ack_wait / _SIGNS_PER_WAIT)
            for delivery in list(self._held.values()):
                try:
                    delivery.progress()
                except SDKError as error:
                    _log.warning("sign_of_life_lost", error=error)
