"""What the behaviours share: a handler that records, and waits that end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

from motadata.core.errors import (
    MessagingError,
)
from motadata.core.protocols import BusMessage, ConsumerOptions, DeadLetter, MessageBus


OpenBus = Callable[[], AbstractAsyncContextManager[MessageBus]]

WAIT: Final = 20.0
"""Seconds in which what must happen has happened, on a busy machine."""

SOON: Final = 0.3
"""Seconds in which what must not happen would have."""

QUICK: Final = ConsumerOptions(first_delay=0.02, max_delay=0.1, max_deliveries=3)


class Recorder:
    """A handler that keeps what it gets."""

    def __init__(self) -> None:
        self.messages: list[BusMessage] = []
        self._arrived = asyncio.Event()

    async def __call__(self, message: BusMessage) -> object:
        """Keep a message and answer with its payload."""
        self.messages.append(message)
        self._arrived.set()
        return message.payload

    @property
    def payloads(self) -> list[object]:
        """What was sent, in the order in which it came."""
        return [message.payload for message in self.messages]

    async def wait(self, count: int) -> list[object]:
        """Return the payloads when there are at least `count`."""
        async with asyncio.timeout(WAIT):
            while len(self.messages) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return self.payloads

    async def settle(self) -> list[object]:
        """Return the payloads after a while in which nothing more should have come."""
        await asyncio.sleep(SOON)
        return self.payloads


async def eventually(condition: Callable[[], bool]) -> None:
    """Return when a condition holds; fail when it does not in time."""
    async with asyncio.timeout(WAIT):
        while not condition():  # noqa: ASYNC110 - the condition has no event
            await asyncio.sleep(0.01)


async def answers(bus: MessageBus, name: str) -> None:
    """Return when an agent of the tenant `acme` can be reached.

    In a cluster it takes a moment until every server knows of a subscription.
    """
    async with asyncio.timeout(WAIT):
        while True:
            try:
                await bus.request(name, "ready?", sender="triage", tenant_id="acme")
            except MessagingError:
                await asyncio.sleep(0.01)
            else:
                return


async def dead_letters_of(bus: MessageBus, name: str) -> Sequence[DeadLetter]:
    """Return the dead letters of the tenant `acme` as soon as there are any."""
    async with asyncio.timeout(WAIT):
        while not (letters := await bus.dead_letters(name, tenant_id="acme")):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return letters
