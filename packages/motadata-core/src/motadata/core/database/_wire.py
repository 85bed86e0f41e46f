"""Messages of PostgreSQL's protocol 3 that are sent beside the driver's own.

The format is that of the PostgreSQL documentation, 54.7, "Message Formats".
"""

from __future__ import annotations

import struct
from collections.abc import Sequence


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
