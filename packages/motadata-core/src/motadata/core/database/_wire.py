"""Messages of PostgreSQL's protocol 3 that are sent beside the driver's own.

The format is that of the PostgreSQL documentation, 54.7, "Message Formats".
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Protocol


class Transport(Protocol):
    """What we use of an event loop's transport."""

    write: Callable[[bytes], None]


class InFront:
    """Sends bytes in front of the next thing that is written, in the same piece.

    So they leave only together with what they belong to: when the driver finds that an argument
    cannot be encoded, it writes nothing, and `clear` takes them back.
    """

    __slots__ = ("_pending", "_write")

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._pending = b""

    def put(self, data: bytes) -> None:
        """Have `data` sent in front of the next write."""
        self._pending = data

    def clear(self) -> None:
        """Take back what was not sent."""
        self._pending = b""

    def __call__(self, data: bytes) -> None:
        """Write, what is pending first."""
        if self._pending:
            data, self._pending = self._pending + data, b""
        self._write(data)


def in_front_of(transport: Transport) -> InFront | None:
    """Return what sends in front of the transport's writes; None where none can be attached."""
    in_front = InFront(transport.write)
    try:
        transport.write = in_front
    except AttributeError:
        return None  # a transport of another event loop, written in C
    return in_front


def execution(statement: str, arguments: Sequence[str] = ()) -> bytes:
    """Return Bind and Execute for a prepared statement; no Sync follows, so more may.

    Args:
        statement: The name under which it was prepared.
        arguments: Their text forms; results come as text, too.
    """
    bind = bytearray(b"\0" + statement.encode() + b"\0")  # the unnamed portal
    bind += struct.pack("!hh", 0, len(arguments))  # no formats: all of them are text
    for argument in arguments:
        encoded = argument.encode()
        bind += struct.pack("!i", len(encoded)) + encoded
    bind += struct.pack("!h", 0)
    execute = b"\0" + struct.pack("!i", 0)  # the unnamed portal, all rows
    return _message(b"B", bytes(bind)) + _message(b"E", execute)


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body
