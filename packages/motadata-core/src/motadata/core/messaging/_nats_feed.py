"""Stored messages from JetStream, pulled: the server never sends more than was asked for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from motadata.core.errors import MessagingError
from motadata.core.messaging._nats_connection import Connection, translated
from motadata.core.messaging._transport import Delivery, FeedRequest, Incoming
from motadata.core.observability import get_logger


if TYPE_CHECKING:
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

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

    __slots__ = ("_connection", "_reply", "deliveries", "incoming", "sequence")

    def __init__(self, connection: Connection, message: Msg) -> None:
        self._connection = connection
        self._reply = message.reply
        self.incoming = Incoming(message.subject, message.data, message.headers or {})
        # …<stream>.<consumer>.<delivered>.<stream sequence>.<consumer sequence>.<time>.<pending>,
        # with a domain and an account before and a token behind on servers that have domains.
        parts = message.reply.split(".")
        first = 4 if len(parts) == _ACK_SUBJECT_PARTS else 6
        self.deliveries = int(parts[first])
        self.sequence = int(parts[first + 1])

    async def ack(self) -> None:
        """Say that it is done."""
        await self._say(b"+ACK")

    async def nak(self, delay: float) -> None:
        """Ask for it again after `delay` seconds."""
        await self._say(b"-NAK " + json.dumps({"delay": int(delay * _SECOND)}).encode())

    async def progress(self) -> None:
        """Say that it is still being worked on."""
        await self._say(b"+WPI")

    async def _say(self, verdict: bytes) -> None:
        try:
            with translated("A verdict"):
                await self._connection.client.publish(self._reply, verdict)
        except TimeoutError as error:
            message = "A verdict could not be sent in time."
            raise MessagingError(message, remedy="The message is handed out again.") from error


class NatsFeed:
    """Keeps as many messages on order as there are free places."""

    def __init__(
        self,
        connection: Connection,
        request: FeedRequest,
        on_delivery: Callable[[Delivery], None],
    ) -> None:
        self._connection = connection
        self._on_delivery = on_delivery
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{request.stream}.{request.consumer}"
        self._inbox = ""
        self._free = 0
        self._ordered = 0
        self._batch = max(1, request.options.max_in_flight // 2)
        self._heard = 0.0
        self._subscription: Subscription | None = None
        self._watch: asyncio.Task[None] | None = None
        self._stopping = False

    async def start(self) -> None:
        """Listen for what is sent; nothing is until it is asked for."""
        client = self._connection.client
        self._inbox = client.new_inbox()
        with translated("A consumer"):
            self._subscription = await client.subscribe(self._inbox, cb=self._receive)
        self._watch = asyncio.create_task(self._keep_asking())

    async def want(self, count: int) -> None:
        """Take `count` more messages."""
        self._free += count
        # In batches: one order a message would double the traffic.
        if self._free - self._ordered >= self._batch:
            await self._order()

    async def stop(self) -> None:
        """Hand out nothing more; what arrives while this waits is handed out still."""
        self._stopping = True
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        if self._subscription is None:
            return
        try:
            async with asyncio.timeout(_SILENCE):
                with translated("Stopping a consumer"):
                    await self._subscription.drain()  # type: ignore[no-untyped-call]  # the driver's
        except (MessagingError, TimeoutError) as error:
            _log.warning("consumer_not_drained", error=error)

    async def _order(self) -> None:
        count = self._free - self._ordered
        if count <= 0 or self._stopping or not self._connection.is_up:
            return
        self._ordered += count
        order = {
            "batch": count,
            "expires": int(_EXPIRES * _SECOND),
            "idle_heartbeat": int(_HEARTBEAT * _SECOND),
        }
        try:
            with translated("An order"):
                await self._connection.client.publish(
                    self._subject, json.dumps(order).encode(), reply=self._inbox
                )
        except (MessagingError, TimeoutError) as error:
            self._ordered -= count
            _log.warning("order_failed", error=error)

    async def _receive(self, message: Msg) -> None:
        self._heard = asyncio.get_running_loop().time()
        status = None if message.headers is None else message.headers.get("Status")
        if status is not None and not message.data and message.subject == self._inbox:
            if status != _HEARTBEAT_STATUS:
                await self._order_ended(message.headers or {})
            return
        try:
            delivery = NatsDelivery(self._connection, message)
        except (ValueError, IndexError):
            _log.warning("not_from_jetstream", subject=message.subject[:200])
            return
        self._ordered = max(0, self._ordered - 1)
        self._free -= 1
        self._on_delivery(delivery)

    async def _order_ended(self, headers: dict[str, str]) -> None:
        """An order expired or was refused; what it did not bring is free again."""
        try:
            unfilled = int(headers.get(_UNFILLED, ""))
        except ValueError:
            unfilled = self._ordered
        self._ordered = max(0, self._ordered - unfilled)

    async def _keep_asking(self) -> None:
        """Order what is free, and again after a silence: a heartbeat comes every two seconds."""
        loop = asyncio.get_running_loop()
        self._heard = loop.time()
        while True:
            await asyncio.sleep(_PAUSE)
            if loop.time() - self._heard > _SILENCE:
                # The order got lost with a connection or a leader.
                self._ordered = 0
                self._heard = loop.time()
            await self._order()
