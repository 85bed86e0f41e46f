"""What carries the bytes: the seam between the bus, which knows tenants, and a server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from motadata.core.models import Health
from motadata.core.protocols import ConsumerOptions, Durability


INBOX: str = "_INBOX."
"""How every address for replies begins; a reply to anything else is refused."""


@dataclass(slots=True)
class Incoming:
    """A message as it came off the wire."""

    subject: str
    data: bytes
    headers: dict[str, str]
    reply: str = ""


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a stream keeps a message."""

    sequence: int
    duplicate: bool


class Delivery(Protocol):
    """A stored message that waits for its verdict."""

    incoming: Incoming
    sequence: int
    deliveries: int

    async def ack(self) -> None:
        """Say that it is done."""
        ...

    async def nak(self, delay: float) -> None:
        """Ask for it again after `delay` seconds."""
        ...

    async def progress(self) -> None:
        """Say that it is still being worked on."""
        ...


class Listener(Protocol):
    """A pattern that is listened to."""

    async def stop(self) -> None:
        """Return when what has arrived was passed on."""
        ...


class Feed(Protocol):
    """Hands out stored messages, as many as were asked for."""

    async def want(self, count: int) -> None:
        """Take `count` more messages."""
        ...

    async def stop(self) -> None:
        """Hand out nothing more."""
        ...


@dataclass(frozen=True, slots=True)
class FeedRequest:
    """What a feed takes out of a stream, and under which name it keeps its place there."""

    stream: str
    consumer: str
    patterns: tuple[str, ...]
    options: ConsumerOptions


class Transport(Protocol):
    """Carries bytes between processes, or within one.

    Raises:
        MessagingError: The server cannot be reached or refuses.
        OverloadError: A buffer or a stream is full.
    """

    @property
    def durability(self) -> Durability:
        """What the acknowledgement of a stored message means."""
        ...

    async def open(self) -> None:
        """Connect."""
        ...

    async def close(self) -> None:
        """Send what is still buffered and disconnect."""
        ...

    async def send(self, subject: str, data: bytes, headers: dict[str, str]) -> None:
        """Send to whoever listens."""
        ...

    async def request(
        self, subject: str, data: bytes, headers: dict[str, str], *, timeout: float
    ) -> Incoming:
        """Send and return the first reply.

        Raises:
            TimeoutError: None came.
        """
        ...

    async def listen(
        self,
        pattern: str,
        callback: Callable[[Incoming], Awaitable[None]],
        *,
        group: str,
        on_drop: Callable[[], None],
    ) -> Listener:
        """Await `callback` for each message; `group` shares them with others of its name."""
        ...

    async def store(
        self, stream: str, subject: str, data: bytes, headers: dict[str, str], *, stored_id: str
    ) -> Stored:
        """Store once and return when that is acknowledged."""
        ...

    async def feed(self, request: FeedRequest, on_delivery: Callable[[Delivery], None]) -> Feed:
        """Open, or continue, a consumer."""
        ...

    async def read(self, stream: str, subject: str, limit: int) -> Sequence[tuple[int, Incoming]]:
        """Return the first stored messages of a subject, with their sequence."""
        ...

    async def health(self) -> Health:
        """Say whether messages get through."""
        ...
