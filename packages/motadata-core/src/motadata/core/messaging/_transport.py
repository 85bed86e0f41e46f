"""What carries the bytes: the seam between the bus, which knows tenants, and a server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from motadata.core.models import Health
from motadata.core.protocols import ConsumerOptions, Durability


INBOX: str = "_INBOX."
"""How every address for replies begins; a reply to anything else is refused."""


@dataclass(slots=True)
class Incoming:
    """A message as it came off the wire; its headers may be those of others too."""

    subject: str
    data: bytes
    headers: Mapping[str, str]
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

    def ack(self) -> None:
        """Say that it is done."""
        ...

    def nak(self, delay: float) -> None:
        """Ask for it again after `delay` seconds."""
        ...

    def progress(self) -> None:
        """Say that it is still being worked on."""
        ...


class Listener(Protocol):
    """A pattern that is listened to."""

    async def stop(self) -> None:
        """Return when what has arrived was passed on."""
        ...


class Feed(Protocol):
    """Hands out stored messages, as many of each place as were asked for."""

    def want(self, place: int, count: int) -> None:
        """Take `count` more messages of a place."""
        ...

    async def stop(self) -> None:
        """Hand out nothing more."""
        ...


@dataclass(frozen=True, slots=True)
class FeedPlace:
    """A place in a stream that the server keeps, under a name.

    Attributes:
        consumer: The name.
        patterns: The subjects that it goes through.
        one_by_one: Whether the next message is handed out only after a verdict on the one before,
            whichever process gets either.
    """

    consumer: str
    patterns: tuple[str, ...]
    one_by_one: bool = False


@dataclass(frozen=True, slots=True)
class FeedRequest:
    """What a feed takes out of a stream."""

    stream: str
    places: tuple[FeedPlace, ...]
    options: ConsumerOptions


Take = Callable[[Delivery, int], None]
"""Takes a delivery and the number of its place among those of the request."""


class Transport(Protocol):
    """Carries bytes between processes, or within one.

    Headers that go out are lines, as `_frames.header_lines` writes them.

    Raises:
        MessagingError: The server cannot be reached or refuses.
        OverloadError: A buffer or a stream is full.
    """

    system: str
    """What carries the messages, as spans and metrics call it."""

    @property
    def durability(self) -> Durability:
        """What the acknowledgement of a stored message means."""
        ...

    @property
    def is_congested(self) -> bool:
        """Whether so much waits to be sent that whoever sends more should wait as well."""
        ...

    async def open(self) -> None:
        """Connect."""
        ...

    async def close(self) -> None:
        """Send what is still buffered and disconnect."""
        ...

    def post(self, subject: str, data: bytes, headers: bytes) -> None:
        """Send to whoever listens, however much waits to be sent."""
        ...

    async def send(self, subject: str, data: bytes, headers: bytes) -> None:
        """Send to whoever listens, and wait while too much waits to be sent."""
        ...

    async def request(
        self, subject: str, data: bytes, headers: bytes, *, timeout: float
    ) -> Incoming:
        """Send and return the first reply.

        Raises:
            TimeoutError: None came.
        """
        ...

    async def listen(
        self,
        pattern: str,
        receive: Callable[[Incoming], None],
        *,
        group: str,
    ) -> Listener:
        """Call `receive` for each message; `group` shares them with others of its name."""
        ...

    async def store(
        self, stream: str, subject: str, data: bytes, headers: bytes, *, stored_id: str
    ) -> Stored:
        """Store once and return when that is acknowledged."""
        ...

    async def feed(self, request: FeedRequest, take: Take) -> Feed:
        """Open the places, or continue from them."""
        ...

    async def read(self, stream: str, subject: str, limit: int) -> Sequence[tuple[int, Incoming]]:
        """Return the first stored messages of a subject, with their sequence."""
        ...

    async def health(self) -> Health:
        """Say whether messages get through."""
        ...
