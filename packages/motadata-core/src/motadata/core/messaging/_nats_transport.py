"""The bytes on NATS: agent messages on core NATS, events and work on JetStream."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from typing import Final

from motadata.core.errors import DeadlineExceededError, MessagingError, OverloadError
from motadata.core.messaging._envelope import STORED_ID
from motadata.core.messaging._frames import header_lines
from motadata.core.messaging._nats_connection import Connection, flush
from motadata.core.messaging._nats_errors import translated
from motadata.core.messaging._nats_feed import NatsFeed
from motadata.core.messaging._nats_requests import Requests
from motadata.core.messaging._nats_streams import JetStream, StreamLimits, check_disk_writes
from motadata.core.messaging._transport import (
    Feed,
    FeedRequest,
    Incoming,
    Listener,
    Stored,
    Take,
)
from motadata.core.models import Health
from motadata.core.protocols import Durability
from motadata.core.resilience import remaining, time_limit


_FLUSH: Final = 5
_ATTEMPT: Final = 2.0
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 0.5
_HEALTH: Final = 1
_UNAVAILABLE: Final = 503


class NatsTransport:
    """Carries bytes over one connection to NATS."""

    def __init__(
        self,
        connection: Connection,
        *,
        durability: Durability,
        limits: StreamLimits,
        publish_timeout: float,
        monitoring_urls: Sequence[str],
    ) -> None:
        self.system = "nats"
        self._connection = connection
        self._durability = durability
        self._limits = limits
        self._publish_timeout = publish_timeout
        self._monitoring_urls = monitoring_urls
        self._requests = Requests(connection)
        # Itself and not by a method around it: each coroutine costs every request.
        self.request = self._requests.request
        self._jetstream = JetStream(self._requests, timeout=publish_timeout)

    @property
    def durability(self) -> Durability:
        """What the acknowledgement of a stored message means."""
        return self._durability

    @property
    def is_congested(self) -> bool:
        """Whether so much waits to be sent that whoever sends more should wait as well."""
        return self._connection.wire.is_congested

    async def open(self) -> None:
        """Connect and make sure that the streams are there."""
        async with time_limit(None, what="the NATS server"):
            await self._open()

    async def _open(self) -> None:
        if self._durability == "fsync":
            await check_disk_writes(self._monitoring_urls)
        await self._connection.open()
        try:
            await self._requests.open()
            await self._jetstream.ensure_streams(self._durability, self._limits)
        except BaseException:
            await self._connection.close()
            raise

    async def close(self) -> None:
        """Send what is still buffered and disconnect."""
        await self._connection.close()

    def post(self, subject: str, data: bytes, headers: bytes) -> None:
        """Send to whoever listens, however much waits to be sent."""
        self._connection.wire.post(subject, data, headers)

    async def send(self, subject: str, data: bytes, headers: bytes) -> None:
        """Send to whoever listens, and wait while too much waits to be sent."""
        wire = self._connection.wire
        if wire.is_congested:
            await wire.drain()
        wire.post(subject, data, headers)

    async def listen(
        self, pattern: str, receive: Callable[[Incoming], None], *, group: str
    ) -> Listener:
        """Call `receive` for each message; a subscription that is given up is not left behind.

        Raises:
            MessagingError: The server did not take it in time.
            DeadlineExceededError: The caller's deadline ended first.
        """
        async with time_limit(None, what="the server to subscribe"):
            return await self._listen(pattern, receive, group=group)

    async def _listen(
        self, pattern: str, receive: Callable[[Incoming], None], *, group: str
    ) -> Listener:
        with translated("Subscribing"):
            subscription = await self._connection.wire.subscribe(pattern, receive, group=group)
            try:
                if self._connection.is_up:
                    # From here on the server passes messages on.
                    await flush(self._connection.client, timeout=_FLUSH)
            except BaseException:
                subscription.abandon()
                raise
        return subscription

    async def store(
        self, stream: str, subject: str, data: bytes, headers: bytes, *, stored_id: str
    ) -> Stored:
        """Store once, and again with the same id until that is acknowledged.

        A stream has no leader for some seconds after one was lost.
        """
        headers += header_lines({STORED_ID: stored_id})
        limit = remaining(self._publish_timeout)
        assert limit is not None
        loop = asyncio.get_running_loop()
        end = loop.time() + limit
        pause = _FIRST_PAUSE
        last: BaseException | None = None
        while (left := end - loop.time()) > 0:
            try:
                if not self._connection.is_up:
                    await self._connection.wait_until_up(left)
                return await self._store_once(
                    subject, data, headers, min(_ATTEMPT, max(0.001, end - loop.time()))
                )
            except (MessagingError, TimeoutError) as error:
                if isinstance(error, MessagingError) and not error.retryable:
                    raise
                last = error
            await asyncio.sleep(min(pause * random.random(), max(0.0, end - loop.time())))  # noqa: S311 - jitter
            pause = min(2 * pause, _LONGEST_PAUSE)
        message = f"The stream {stream!r} did not acknowledge a message within {limit:.3g} s."
        remedy = "It may be stored: repeat with the same message_id."
        kind = DeadlineExceededError if remaining() == 0.0 else MessagingError
        raise kind(message, remedy=remedy) from last

    async def _store_once(
        self, subject: str, data: bytes, headers: bytes, timeout: float
    ) -> Stored:
        reply = await self._requests.request(subject, data, headers, timeout=timeout)
        try:
            # As text: of bytes the parser finds the encoding out first, which takes as long again.
            answer = json.loads(reply.data.decode())
            problem = answer.get("error")
            if problem is None:
                return Stored(int(answer["seq"]), bool(answer.get("duplicate", False)))
            description = str(problem.get("description", ""))[:200]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            # Damaged on its way. Storing again under the same id stores nothing twice.
            message = "The stream's acknowledgement could not be read."
            remedy = "Repeat with the same message_id; use TLS where this happens often."
            raise MessagingError(message, remedy=remedy, retryable=True) from error
        if "maximum" in description:
            message = f"The stream is full: {description}."
            raise OverloadError(message, remedy="Let its consumers catch up, or raise the limits.")
        message = f"The stream refuses a message: {description}."
        raise MessagingError(
            message,
            remedy="Look at the server's log.",
            retryable=problem.get("code") == _UNAVAILABLE,
        )

    async def feed(self, request: FeedRequest, take: Take) -> Feed:
        """Open the places, or continue from them."""
        await self._jetstream.ensure_places(request)
        feed = NatsFeed(self._connection, request, take)
        await feed.start()
        return feed

    async def read(self, stream: str, subject: str, limit: int) -> Sequence[tuple[int, Incoming]]:
        """Return the first stored messages of a subject."""
        return await self._jetstream.read(stream, subject, limit)

    async def health(self) -> Health:
        """Say whether the server answers."""
        if not self._connection.is_up:
            return Health(
                "down", detail=f"Not connected to {self._connection.address}; trying again."
            )
        try:
            async with time_limit(None, what="an answer to a ping"):
                with translated("A ping"):
                    await self._connection.client.flush(timeout=_HEALTH)
        except (MessagingError, TimeoutError):
            return Health("down", detail=f"No answer from {self._connection.address}.")
        return Health("ok", detail=f"Acknowledgements mean: {self._durability}.")
