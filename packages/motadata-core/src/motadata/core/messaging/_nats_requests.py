"""Requests over one connection: one subscription for all replies, a future for each."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Final

from motadata.core.errors import MessagingError
from motadata.core.messaging._nats_connection import Connection
from motadata.core.messaging._nats_errors import translated
from motadata.core.messaging._transport import Incoming
from motadata.core.resilience import Alarms


_NOBODY: Final = "503"


class Requests:
    """Matches replies with those who wait for them.

    The inbox's name is random and each request's token is used once: a reply which comes too late,
    after a timeout or a cancellation, finds nobody instead of the next caller.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._prefix = ""
        self._tokens = count()
        self._waiting: dict[str, asyncio.Future[Incoming]] = {}
        self._limits = Alarms(_give_up)

    async def open(self) -> None:
        """Listen for replies."""
        self._prefix = self._connection.client.new_inbox() + "."
        with translated("Opening"):
            await self._connection.wire.subscribe(self._prefix + "*", self._receive)

    async def request(
        self, subject: str, data: bytes, headers: bytes, *, timeout: float
    ) -> Incoming:
        """Send and return the first reply.

        Raises:
            TimeoutError: None came.
            MessagingError: Nobody listens.
        """
        loop = asyncio.get_running_loop()
        wire = self._connection.wire
        if wire.is_congested:
            end = loop.time() + timeout
            async with asyncio.timeout(timeout):
                await wire.drain()
            timeout = max(0.0, end - loop.time())
        inbox = self._prefix + str(next(self._tokens))
        answer: asyncio.Future[Incoming] = loop.create_future()
        self._waiting[inbox] = answer
        moment = self._limits.add(answer, timeout)
        try:
            wire.post(subject, data, headers, inbox)
            reply = await answer
        finally:
            self._limits.remove(answer, moment)
            del self._waiting[inbox]
        if not reply.data and reply.headers.get("Status") == _NOBODY:
            message = "A request: nobody listens."
            raise MessagingError(message, remedy="Start who should, then repeat.")
        return reply

    def _receive(self, reply: Incoming) -> None:
        answer = self._waiting.get(reply.subject)
        if answer is not None and not answer.done():
            answer.set_result(reply)


def _give_up(answer: asyncio.Future[Incoming]) -> None:
    if not answer.done():
        answer.set_exception(TimeoutError())
