"""Stored messages from JetStream, pulled: the server never sends more than was asked for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from motadata.core.errors import SDKError
from motadata.core.messaging._nats_connection import Connection
from motadata.core.messaging._nats_errors import translated
from motadata.core.messaging._nats_wire import WireSubscription
from motadata.core.messaging._transport import FeedRequest, Incoming, Take
from motadata.core.observability import get_logger
from motadata.core.resilience import context_without_deadline, time_limit


_log = get_logger("messaging")

_SECOND: Final = 1_000_000_000
_EXPIRES: Final = 30.0
_HEARTBEAT: Final = 2.0
_SILENCE: Final = 5.0
_PAUSE: Final = 0.5
_HEARTBEAT_STATUS: Final = "100"
_UNFILLED: Final = "Nats-Pending-Messages"
_ACK_SUBJECT_PARTS: Final = 9


class NatsDelivery:
    """A message of JetStream that waits for its verdict."""

    __slots__ = ("_connection", "consumer", "deliveries", "incoming", "sequence")

    def __init__(self, connection: Connection, incoming: Incoming) -> None:
        self._connection = connection
        self.incoming = incoming
        # $JS.ACK.<stream>.<consumer>.<delivered>.<stream sequence>.<consumer sequence>.<time>
        # .<pending>; with a domain and an account before the stream on servers that have domains.
        parts = incoming.reply.split(".")
        first = 3 if len(parts) == _ACK_SUBJECT_PARTS else 5
        self.consumer = parts[first]
        self.deliveries = int(parts[first + 1])
        self.sequence = int(parts[first + 2])

    def ack(self) -> None:
        """Say that it is done."""
        self._say(b"+ACK")

    def nak(self, delay: float) -> None:
        """Ask for it again after `delay` seconds."""
        self._say(b"-NAK " + json.dumps({"delay": int(delay * _SECOND)}).encode())

    def progress(self) -> None:
        """Say that it is still being worked on."""
        self._say(b"+WPI")

    def _say(self, verdict: bytes) -> None:
        self._connection.wire.post(self.incoming.reply, verdict, b"")


@dataclass(slots=True)
class _Order:
    """What is on order from one place.

    Attributes:
        subject: Where orders go.
        inbox: Where messages come.
        batch: How many free places make an order worth its message.
        free: Messages that may come.
        ordered: How many of them the server knows of.
        heard: When something came last.
    """

    subject: str
    inbox: str
    batch: int
    free: int = 0
    ordered: int = 0
    heard: float = 0.0


class NatsFeed:
    """Keeps as many messages on order as may come."""

    def __init__(self, connection: Connection, request: FeedRequest, take: Take) -> None:
        self._connection = connection
        self._take = take
        inbox = connection.client.new_inbox()
        self._orders = [
            _Order(
                subject=f"$JS.API.CONSUMER.MSG.NEXT.{request.stream}.{place.consumer}",
                inbox=f"{inbox}.{number}",
                batch=max(1, request.options.max_in_flight // 2),
            )
            for number, place in enumerate(request.places)
        ]
        self._inboxes = f"{inbox}.*"
        self._by_inbox = {order.inbox: order for order in self._orders}
        self._by_consumer = {place.consumer: n for n, place in enumerate(request.places)}
        self._subscription: WireSubscription | None = None
        self._watch: asyncio.Task[None] | None = None
        self._stopping = False

    async def start(self) -> None:
        """Listen for what is sent; nothing is until it is asked for."""
        wire = self._connection.wire
        async with time_limit(None, what="the server to subscribe"):
            with translated("A consumer"):
                self._subscription = await wire.subscribe(self._inboxes, self._receive)
        self._watch = asyncio.create_task(self._keep_asking(), context=context_without_deadline())

    def want(self, place: int, count: int) -> None:
        """Take `count` more messages of a place."""
        order = self._orders[place]
        order.free += count
        # In batches: one order a message would double the traffic.
        if order.free - order.ordered >= order.batch:
            self._send(order)

    async def stop(self) -> None:
        """Hand out nothing more; what arrives while this waits is handed out still."""
        self._stopping = True
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        if self._subscription is not None:
            await self._subscription.stop()

    def _send(self, order: _Order) -> None:
        count = order.free - order.ordered
        if count <= 0 or self._stopping or not self._connection.is_up:
            return
        wish = {
            "batch": count,
            "expires": int(_EXPIRES * _SECOND),
            "idle_heartbeat": int(_HEARTBEAT * _SECOND),
        }
        try:
            self._connection.wire.post(order.subject, json.dumps(wish).encode(), b"", order.inbox)
        except SDKError as error:
            _log.warning("order_failed", error=error)
        else:
            order.ordered += count

    def _receive(self, incoming: Incoming) -> None:
        # A message keeps its own subject; what the server says about an order has the inbox's.
        order = self._by_inbox.get(incoming.subject)
        if order is not None:
            order.heard = asyncio.get_running_loop().time()
            if incoming.headers.get("Status") != _HEARTBEAT_STATUS:
                _end(order, incoming.headers)
            return
        try:
            delivery = NatsDelivery(self._connection, incoming)
            place = self._by_consumer[delivery.consumer]
        except (ValueError, IndexError, KeyError):
            _log.warning("not_from_jetstream", subject=incoming.subject[:200])
            return
        order = self._orders[place]
        order.heard = asyncio.get_running_loop().time()
        order.ordered = max(0, order.ordered - 1)
        order.free -= 1
        self._take(delivery, place)

    async def _keep_asking(self) -> None:
        """Order what is free, and again after a silence: a heartbeat comes every two seconds."""
        loop = asyncio.get_running_loop()
        for order in self._orders:
            order.heard = loop.time()
        connections = self._connection.count
        while True:
            await asyncio.sleep(_PAUSE)
            is_new = connections != self._connection.count
            connections = self._connection.count
            for order in self._orders:
                if is_new or loop.time() - order.heard > _SILENCE:
                    # The order got lost with a connection or a leader.
                    order.ordered = 0
                    order.heard = loop.time()
                self._send(order)


def _end(order: _Order, headers: Mapping[str, str]) -> None:
    """Count what an order that expired or was refused did not bring as free again."""
    try:
        unfilled = int(headers.get(_UNFILLED, ""))
    except ValueError:
        unfilled = order.ordered
    order.ordered = max(0, order.ordered - unfilled)
