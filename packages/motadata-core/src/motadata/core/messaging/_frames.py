"""What a message is on NATS's wire: its frame, and the lines of its headers.

The protocol: https://docs.nats.io/reference/reference-protocols/nats-protocol
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from motadata.core.errors import MessagingError


_END: Final = b"\r\n"
_VERSION: Final = "NATS/1.0"
_AROUND_LINES: Final = len(_VERSION) + 4
# What differs from message to message stands behind what does not: see `read_headers`.
_DEADLINE: Final = b"\r\nmotadata-deadline:"
_TRACE: Final = b"\r\ntraceparent:"
_LONGEST_KNOWN: Final = 512
_MOST_KNOWN: Final = 1024
_STATUS: Final = slice(9, 12)


def header_lines(headers: Mapping[str, str]) -> bytes:
    """Return headers as lines.

    Raises:
        MessagingError: A header holds a line break, so that it would read as several.
    """
    text = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if not text.count("\n") == text.count("\r") == len(headers):
        message = "A header of a message holds a line break."
        raise MessagingError(message, remedy="Leave it out.", retryable=False)
    return text.encode()


def write_frame(subject: str, reply: str, headers: bytes, data: bytes) -> bytes:
    """Return the frame that publishes a message, with headers of `header_lines`."""
    if not headers:
        return b"".join((f"PUB {subject} {reply} {len(data)}\r\n".encode(), data, _END))
    size = len(headers) + _AROUND_LINES
    start = f"HPUB {subject} {reply} {size} {size + len(data)}\r\n{_VERSION}\r\n"
    return b"".join((start.encode(), headers, _END, data, _END))


def message_size(headers: bytes, data: bytes) -> int:
    """Return the bytes of headers and payload on the wire, which is what a server limits."""
    return len(headers) + _AROUND_LINES + len(data) if headers else len(data)


def too_large(size: int) -> MessagingError:
    """Return the error of a message with a payload of `size` bytes."""
    message = f"A message of {size} bytes is larger than the bus takes."
    remedy = "Send a reference to the data instead."
    return MessagingError(message, remedy=remedy, retryable=False)


def read_headers(block: bytes) -> Mapping[str, str]:
    """Return the headers of a block, and a status line's number as `Status`.

    Malformed lines are skipped: who needs a header sees that it is not there. What stands before
    the deadline and the trace is the same in most messages of a tenant, and read once: nobody may
    change what is returned.
    """
    end = block.find(_TRACE)
    if end < 0:
        return _read_known(block) if len(block) <= _LONGEST_KNOWN else _read_block(block)
    deadline = block.find(_DEADLINE, 0, end)
    if deadline >= 0:
        end = deadline
    first = block[:end]
    known = _read_known(first) if end <= _LONGEST_KNOWN else _read_block(first)
    headers = dict(known)
    _read_lines(block[end + 2 :].decode("utf-8", "replace").split("\r\n"), headers)
    return headers


def _read_block(block: bytes) -> dict[str, str]:
    first, *lines = block.decode("utf-8", "replace").split("\r\n")
    headers = {"Status": first[_STATUS]} if len(first) > len(_VERSION) else {}
    _read_lines(lines, headers)
    return headers


_read_known: Final = lru_cache(_MOST_KNOWN)(_read_block)


def _read_lines(lines: list[str], headers: dict[str, str]) -> None:
    for line in lines:
        name, separator, value = line.partition(":")
        if separator:
            headers[name] = value.strip()
