"""Server-sent events out of bytes that may be cut anywhere.

After https://html.spec.whatwg.org/multipage/server-sent-events.html, with one leniency: an event
whose last blank line is missing counts when the stream ends in good order, as some servers forget
it behind `[DONE]`. Names, ids and retry times of events are left out; the formats read here say
everything in the data.
"""

from __future__ import annotations

from typing import Final


_MARK: Final = b"\xef\xbb\xbf"


class EventTooLargeError(ValueError):
    """An event is larger than what may be held of one."""


class EventReader:
    """Turns pieces of a stream into the data of whole events.

    Bytes are only decoded by whoever reads the data, so a character that is cut in two is none of
    its concern. Work is linear in the bytes, however they are cut.

    Args:
        largest: Most bytes of one event.
    """

    def __init__(self, *, largest: int) -> None:
        self._largest = largest
        self._pieces: list[bytes] = []
        self._data: list[bytes] = []
        self._held = 0
        self._begun = False

    def feed(self, piece: bytes) -> list[bytes]:
        """Take in bytes and return the data of the events that they complete, in order.

        Raises:
            EventTooLargeError: An event has more than `largest` bytes.
        """
        self._held += len(piece)
        if b"\n" not in piece and b"\r" not in piece and self._begun:
            self._pieces.append(piece)
            self._check(self._held)
            return []
        text = b"".join((*self._pieces, piece)) if self._pieces else piece
        if not self._begun:
            if _MARK.startswith(text[: len(_MARK)]) and len(text) < len(_MARK):
                self._pieces = [text]
                return []
            text = text.removeprefix(_MARK)
            self._begun = True
        lines = text.splitlines(keepends=True)
        # A carriage return at the end may be half of a line's end: the next byte tells.
        self._pieces = [lines.pop()] if lines and not lines[-1].endswith(b"\n") else []
        events = self._taken(lines)
        self._held = sum(map(len, self._pieces)) + sum(map(len, self._data))
        self._check(max(map(len, events), default=self._held))
        return events

    def flush(self) -> list[bytes]:
        """Return the data of the event that the end of the stream completes, if there is one."""
        rest = b"".join(self._pieces)
        self._pieces, self._held = [], 0
        return self._taken([*rest.splitlines(keepends=True), b"\n"])

    def _taken(self, lines: list[bytes]) -> list[bytes]:
        events: list[bytes] = []
        for whole in lines:
            line = whole.rstrip(b"\r\n")
            if not line:
                if self._data:
                    events.append(b"\n".join(self._data))
                    self._data = []
            elif line.startswith(b"data:"):
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            elif line == b"data":
                self._data.append(b"")
        return events

    def _check(self, size: int) -> None:
        if size > self._largest:
            message = f"an event has more than {self._largest} bytes"
            raise EventTooLargeError(message)
