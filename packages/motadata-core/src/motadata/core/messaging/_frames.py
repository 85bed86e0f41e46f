"""Messages on NATS's wire: to bytes and back, without the driver's detours.

Here is what every message passes: one frame out, one frame in. Everything else that a connection
says (`INFO`, `PING`, `-ERR`, …) goes on to the driver's own parser.
The protocol: https://docs.nats.io/reference/reference-protocols/nats-protocol
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from motadata.core.errors import MessagingError
from motadata.core.messaging._transport import Incoming


_END: Final = b"\r\n"
_VERSION: Final = "NATS/1.0"
_STATUS: Final = slice(9, 12)
_MESSAGES: Final = (b"HMSG ", b"MSG ")
_WITH_HEADERS: Final = b"HMSG"
_LONGEST_LINE: Final = 1024 * 1024
_LARGEST: Final = 64 * 1024 * 1024
_ERROR: Final = b"-ERR"
# What the driver tells apart itself: wrong credentials, forbidden subjects, a stale connection.
_DRIVERS_ERRORS: Final = (b"authorization violation", b"permissions violation", b"stale connection")

Deliver = Callable[[Incoming], None]
"""Takes a message off the wire, at once; it raises nothing and waits for nothing."""


def write_frame(subject: str, reply: str, headers: dict[str, str], data: bytes) -> bytes:
    """Return the frame that publishes a message.

    Raises:
        MessagingError: A header holds a line break, so that it would read as several.
    """
    if not headers:
        return b"".join((f"PUB {subject} {reply} {len(data)}\r\n".encode(), data, _END))
    lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
    block = f"{_VERSION}\r\n{''.join(lines)}\r\n"
    if not block.count("\n") == block.count("\r") == len(lines) + 2:
        message = "A header of a message holds a line break."
        raise MessagingError(message, remedy="Leave it out.", retryable=False)
    encoded = block.encode()
    size = len(encoded)
    start = f"HPUB {subject} {reply} {size} {size + len(data)}\r\n"
    return b"".join((start.encode(), encoded, data, _END))


def message_size(headers: dict[str, str], data: bytes) -> int:
    """Return the bytes of headers and payload on the wire, which is what a server limits."""
    if not headers:
        return len(data)
    lines = sum(len(name.encode()) + len(value.encode()) + 4 for name, value in headers.items())
    return len(_VERSION) + lines + 4 + len(data)


def too_large(size: int) -> MessagingError:
    """Return the error of a message with a payload of `size` bytes."""
    message = f"A message of {size} bytes is larger than the bus takes."
    remedy = "Send a reference to the data instead."
    return MessagingError(message, remedy=remedy, retryable=False)


def read_headers(block: bytes) -> dict[str, str]:
    """Return the headers of a block, and a status line's number as `Status`.

    Malformed lines are skipped: who needs a header sees that it is not there.
    """
    first, *lines = block.decode("utf-8", "replace").split("\r\n")
    headers = {}
    if len(first) > len(_VERSION):
        headers["Status"] = first[_STATUS]
    for line in lines:
        name, separator, value = line.partition(":")
        if separator:
            headers[name] = value.strip()
    return headers


class ControlParser(Protocol):
    """The driver's parser, as far as it is used."""

    async def parse(self, data: bytes = b"") -> None:
        """Take in what is no message."""
        ...

    def reset(self) -> None:
        """Begin with a new connection."""
        ...


class FrameReader:
    """Cuts a connection's bytes into messages and delivers them, in the driver's parser's place.

    A frame that cannot be, after bytes were lost or changed, ends the connection; the driver makes
    a new one then.

    Args:
        control: Gets everything that is no message of ours.
        broken: Makes the error that ends a connection, for what is wrong with it.
    """

    def __init__(self, control: ControlParser, *, broken: Callable[[str], Exception]) -> None:
        self._control = control
        self._broken = broken
        self._rest = bytearray()
        self._needed = 0
        self._connections = 0
        self.receivers: dict[bytes, Deliver] = {}

    def reset(self) -> None:
        """Begin with a new connection."""
        self._rest = bytearray()
        self._needed = 0
        self._connections += 1
        self._control.reset()

    async def parse(self, data: bytes = b"") -> None:
        """Deliver every message that is complete by now.

        Raises:
            Exception: What `broken` makes, for bytes that are no NATS protocol.
        """
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return
            data, self._rest = bytes(self._rest), bytearray()
        position, size = 0, len(data)
        connection, self._needed = self._connections, 0
        while (end := data.find(_END, position)) >= 0:
            if data.startswith(_MESSAGES, position):
                line = data[position:end].split()
                body = end + 2
                after = body + self._size(line) + 2
                if after > size:
                    self._needed = after - position
                    break
                if data[after - 2 : after] != _END:
                    raise self._broken("a message of another length than announced")
                receiver = self.receivers.get(line[2])
                if receiver is None:
                    await self._pass_on(data[position:after])
                else:
                    receiver(_read_frame(line, data, body, after - 2))
                position = after
            else:
                await self._pass_on(data[position : end + 2])
                position = end + 2
        if connection != self._connections:
            # What was passed on made the driver begin anew: the rest is the old connection's.
            return
        if not self._needed and size - position > _LONGEST_LINE:
            raise self._broken("a line without an end")
        if position < size:
            self._rest += data[position:]

    def _size(self, line: list[bytes]) -> int:
        """Return how many bytes follow the line of a message."""
        try:
            size = int(line[-1])
            header_size = int(line[-2]) if line[0] == _WITH_HEADERS else 0
        except (ValueError, IndexError):
            raise self._broken("a malformed line") from None
        fewest = 5 if line[0] == _WITH_HEADERS else 4
        if not fewest <= len(line) <= fewest + 1 or not 0 <= header_size <= size <= _LARGEST:
            raise self._broken("an impossible length")
        return size

    async def _pass_on(self, data: bytes) -> None:
        # The driver would close for good after most errors that a server names; a connection that
        # was damaged on its way deserves a new one.
        if data.startswith(_ERROR) and not any(one in data.lower() for one in _DRIVERS_ERRORS):
            raise self._broken(data[:200].decode("utf-8", "replace").strip())
        try:
            await self._control.parse(data)
        except (ValueError, AttributeError, TypeError) as error:
            what = f"a line that cannot be read ({type(error).__name__})"
            raise self._broken(what) from error


def _read_frame(line: list[bytes], data: bytes, body: int, end: int) -> Incoming:
    """Return the message between `body` and `end`, whose first line is cut into words."""
    headers: dict[str, str] = {}
    reply = b""
    payload = body
    if line[0] == _WITH_HEADERS:
        payload += int(line[-2])
        headers = read_headers(data[body:payload])
        if len(line) == 6:  # noqa: PLR2004 - HMSG subject sid reply header-size size
            reply = line[3]
    elif len(line) == 5:  # noqa: PLR2004 - MSG subject sid reply size
        reply = line[3]
    return Incoming(
        line[1].decode("utf-8", "replace"),
        data[payload:end],
        headers,
        reply.decode("utf-8", "replace"),
    )
