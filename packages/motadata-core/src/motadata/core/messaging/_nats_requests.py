"""Requests over one connection: one subscription for all replies, a future for each.

The driver has requests of its own. These take less of the event loop's time, which is where a
message spends most of its way, and answer "nobody listens" alike.
"""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING, Final

from motadata.core.errors import MessagingError
from motadata.core.messaging._nats_connection import Connection


if TYPE_CHECKING:
    from nats.aio.msg import Msg

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
        self._waiting: dict[str, asyncio.Future[Msg]] = {}

    async def open(self) -> None:
        """Listen for replies."""
        client = self._connection.client
        self._prefix = client.new_inbox() + "."
        await client.subscribe(self._prefix + "*", cb=self._receive)

    async def request(
        self, subject: str, data: bytes, headers: dict[str, str], *, timeout: float
    ) -> Msg:
        """Send and return the first reply.

        Raises:
            TimeoutError: None came.
            MessagingError: Nobody listens.
        """
        loop = asyncio.get_running_loop()
        inbox = self._prefix + str(next(self._tokens))
        answer: asyncio.Future[Msg] = loop.create_future()
        self._waiting[inbox] = answer
        timer = loop.call_later(timeout, _give_up, answer)
        try:
            await self._connection.client.publish(subject, data, inbox, headers)
            reply = await answer
        finally:
            timer.cancel()
            del self._waiting[inbox]
        if not reply.data and reply.headers is not None and reply.headers.get("Status") == _NOBODY:
            message = "A request: nobody listens."
            raise MessagingError(message, remedy="Start who should, then repeat.")
        return reply

    async def _receive(self, reply: Msg) -> None:
        answer = self._waiting.get(reply.subject)
        if answer is not None and not answer.done():
            answer.set_result(reply)


def _give_up(answer: asyncio.Future[Msg]) -> None:
    if not answer.done():
        answer.set_exception(TimeoutError())
