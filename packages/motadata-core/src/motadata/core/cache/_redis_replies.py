"""The server's form of commands and answers: hiredis where it is installed, Python where not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, cast

from motadata.core.cache._redis_calls import Pack, Reply, Word


INCOMPLETE: Final = object()
"""What a reader gives while an answer has not come to its end."""

_LONGEST_NUMBER: Final = 32


class MalformedAnswerError(Exception):
    """What came is no answer of the protocol."""


class Reader(Protocol):
    """Takes what comes from a server apart."""

    def feed(self, data: bytes, /) -> None:
        """Take what came."""
        ...

    def gets(self) -> object:
        """Return the next answer, or `INCOMPLETE`; a refusal is an exception that is returned."""
        ...

    def has_data(self) -> bool:
        """Tell whether something came behind the answer that `gets` has just returned."""
        ...


def make_reader(refusal: Callable[[str], Exception], *, in_python: bool = False) -> Reader:
    """Return a reader.

    Args:
        refusal: Makes an error of what the server says instead of an answer.
        in_python: Do without hiredis.
    """
    if not in_python:
        try:
            import hiredis
        except ImportError:
            pass
        else:
            return hiredis.Reader(
                protocolError=MalformedAnswerError, replyError=refusal, notEnoughData=INCOMPLETE
            )
    return PlainReader(refusal)


def find_packer() -> Pack:
    """Return what writes a command in the server's form."""
    try:
        from hiredis import pack_command
    except ImportError:
        return pack_plainly
    return lambda words: cast("bytes", pack_command(tuple(words)))  # type: ignore[arg-type]  # they say one word


def pack_plainly(words: Sequence[Word]) -> bytes:
    """Write a command without hiredis."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        data = word if isinstance(word, bytes) else str(word).encode()
        parts += (b"$%d\r\n" % len(data), data, b"\r\n")
    return b"".join(parts)


@dataclass(slots=True)
class _List:
    """A list whose elements are still coming."""

    size: int
    items: list[Reply | Exception] = field(default_factory=list)


class PlainReader:
    """A `Reader` without hiredis; lists within each other are kept aside, not called into.

    Args:
        refusal: Makes an error of what the server says instead of an answer.
    """

    def __init__(self, refusal: Callable[[str], Exception]) -> None:
        self._refusal = refusal
        self._data = bytearray()
        self._at = 0
        self._open: list[_List] = []

    def feed(self, data: bytes, /) -> None:
        """Take what came."""
        del self._data[: self._at]
        self._at = 0
        self._data += data

    def has_data(self) -> bool:
        """Tell whether something came behind the answer that `gets` has just returned."""
        return self._at < len(self._data)

    def gets(self) -> object:
        """Return the next answer, or `INCOMPLETE`.

        Raises:
            MalformedAnswerError: What came is none.
        """
        while (part := self._part()) is not INCOMPLETE:
            if isinstance(part, _List) and part.size:
                self._open.append(part)
                continue
            value = part.items if isinstance(part, _List) else cast("Reply | Exception", part)
            while self._open:
                around = self._open[-1]
                around.items.append(cast("Reply", value))
                if len(around.items) < around.size:
                    break
                value = self._open.pop().items
            else:
                return value
        return INCOMPLETE

    def _part(self) -> object:
        """Return the next element or the head of a list, if it is here to its end."""
        end = self._data.find(b"\r\n", self._at)
        if end < 0:
            return INCOMPLETE
        kind, line = self._data[self._at : self._at + 1], self._data[self._at + 1 : end]
        after = end + 2
        match bytes(kind):
            case b"+":
                value: object = bytes(line)
            case b"-":
                value = self._refusal(line.decode("utf-8", "replace"))
            case b":":
                value = _number(line)
            case b"*":
                size = _number(line)
                value = None if size < 0 else _List(size)
            case b"$":
                size = _number(line)
                value = None
                if size >= 0:
                    if len(self._data) < after + size + 2:
                        return INCOMPLETE
                    value = bytes(self._data[after : after + size])
                    after += size + 2
                    if self._data[after - 2 : after] != b"\r\n":
                        raise MalformedAnswerError
            case _:
                raise MalformedAnswerError
        self._at = after
        return value


def _number(line: bytearray) -> int:
    if len(line) > _LONGEST_NUMBER or not line.removeprefix(b"-").isdigit():
        raise MalformedAnswerError
    return int(line)
