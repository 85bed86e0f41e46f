"""The server's answers, looked at before the driver reads them, since it believes what they say.

asyncpg takes the length of a column as it stands in a row. A bit that was flipped on its way can
make it read beyond its memory, which ends the process. TLS notices such damage, and sockets of the
same machine do none; on other connections each row is measured first.

The format is that of the PostgreSQL documentation, 54.7, "Message Formats".
"""

from __future__ import annotations

import asyncio
import socket
from struct import Struct
from typing import Final

from motadata.core.observability import get_logger


_log = get_logger("database")

_KINDS: Final = frozenset(b"RKSTDCEZIN123tncsdAGHWvV")
_ROW: Final = ord("D")
_HEADER: Final = 5
_LEAST: Final = 4
_NULL: Final = -1
_length: Final = Struct("!i").unpack_from
_count: Final = Struct("!h").unpack_from
_LENGTH: Final = 4
_COUNT: Final = 2


class Answers:
    """Measures messages, however they are cut into pieces."""

    __slots__ = ("_missing", "_pieces")

    def __init__(self) -> None:
        # The beginning of a message, and how many bytes it lacks at least.
        self._pieces: list[bytes] = []
        self._missing = 0

    def fit(self, data: bytes) -> bool:
        """Tell whether all messages that end in `data` are as long as they say."""
        self._pieces.append(data)
        self._missing -= len(data)
        if self._missing > 0:
            return True
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        start, end = 0, len(data)
        missing = _HEADER
        while end - start >= _HEADER:
            size = _length(data, start + 1)[0]
            if size < _LEAST or data[start] not in _KINDS:
                return False
            stop = start + 1 + size
            if stop > end:
                missing = stop - start
                break
            if data[start] == _ROW and not _is_row(data, start + _HEADER, stop):
                return False
            start = stop
        self._pieces = [data[start:]] if start < end else []
        self._missing = missing - (end - start)
        return True


class CheckedAnswers(asyncio.Protocol):
    """Passes on to the driver what its parser can take; anything else ends the connection.

    Args:
        transport: The driver's.
        driver: Its protocol, which is connected.
    """

    def __init__(self, transport: asyncio.Transport, driver: asyncio.Protocol) -> None:
        self._transport = transport
        self._answers = Answers()
        self._is_damaged = False
        self._receive = driver.data_received
        self.connection_lost = driver.connection_lost  # type: ignore[method-assign]  # as it is
        self.eof_received = driver.eof_received  # type: ignore[method-assign]
        self.pause_writing = driver.pause_writing  # type: ignore[method-assign]
        self.resume_writing = driver.resume_writing  # type: ignore[method-assign]

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        if self._is_damaged:
            return
        if self._answers.fit(data):
            self._receive(data)
            return
        self._is_damaged = True
        _log.warning("answer_damaged")
        # The driver hears that the connection is lost, and so does whoever waits for an answer.
        self._transport.abort()


def check_answers(transport: asyncio.Transport, driver: asyncio.Protocol) -> None:
    """Look at what comes from now on, where it could have been damaged on its way."""
    end = transport.get_extra_info("socket")
    is_remote = end is not None and end.family in (socket.AF_INET, socket.AF_INET6)
    if is_remote and transport.get_extra_info("ssl_object") is None:
        transport.set_protocol(CheckedAnswers(transport, driver))


def _is_row(data: bytes, start: int, stop: int) -> bool:
    """Tell whether the columns of a row are as long as the row."""
    if stop - start < _COUNT:
        return False
    columns = _count(data, start)[0]
    start += _COUNT
    for _ in range(columns):
        if stop - start < _LENGTH:
            return False
        size = _length(data, start)[0]
        start += _LENGTH
        if size > 0:
            start += size
        elif size < _NULL:
            return False
    return columns >= 0 and start == stop
