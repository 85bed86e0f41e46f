"""Messages out of a connection's bytes, without the driver's detours.

Here is what every message that comes passes. Everything else that a connection says (`INFO`,
`PING`, `-ERR`, …) goes on to the driver's own parser.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from motadata.core.messaging._frames import read_headers
from motadata.core.messaging._transport import Incoming


_END: Final = b"\r\n"
_MESSAGES: Final = (b"HMSG ", b"MSG ")
_WITH_HEADERS: Final = b"HMSG"
_LONGEST_LINE: Final = 1024 * 1024
_LARGEST: Final = 64 * 1024 * 1024
_ERROR: Final = b"-ERR"
# What the driver tells apart itself: wrong credentials, forbidden subjects, a stale connection.
_DRIVERS_ERRORS: Final = (b"authorization violation", b"permissions violation", b"stale connection")

_NO_HEADERS: Final[Mapping[str, str]] = {}

Deliver = Callable[[Incoming], None]
"""Takes a message off the wire, at once; it raises nothing and waits for nothing."""


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
        began: Called when the first bytes of a connection are here.
    """

    def __init__(
        self,
        control: ControlParser,
        *,
        broken: Callable[[str], Exception],
        began: Callable[[], None] = lambda: None,
    ) -> None:
        self._control = control
        self._make_error = broken
        self._began = began
        self._rest = bytearray()
        self._needed = 0
        self._is_new = True
        self._is_parsing = False
        self._failure: BaseException | None = None
        self.connections = 0
        self.receivers: dict[bytes, Deliver] = {}

    def reset(self) -> None:
        """Begin with a new connection."""
        self._rest = bytearray()
        self._needed = 0
        self._is_new = True
        self._failure = None
        self.connections += 1
        self._control.reset()

    def take(self, data: bytes) -> bytes:
        """Deliver, at once, the messages that `data` begins with; return what is for `parse`.

        Everything in between, and all that follows a failure, is `parse`'s, which raises it.
        """
        if self._is_parsing or self._failure is not None:
            return data
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return b""
            data, self._rest = bytes(self._rest), bytearray()
        self._needed = 0
        try:
            position = self._deliver(data, 0)
        except Exception as error:  # noqa: BLE001 - kept for `parse`, whose caller ends the connection
            self._failure = error
            return data
        left = len(data) - position
        if self._end_of_other(data, position) or (not self._needed and left > _LONGEST_LINE):
            self._needed = 0
            return data[position:]
        if left:
            self._rest += data[position:]
        return b""

    async def parse(self, data: bytes = b"") -> None:
        """Deliver every message that is complete by now.

        Raises:
            Exception: What `broken` makes, for bytes that are no NATS protocol.
        """
        if self._failure is not None:
            raise self._failure
        if self._is_new:
            self._is_new = False
            self._began()
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return
            data, self._rest = bytes(self._rest), bytearray()
        connection, self._needed, self._is_parsing = self.connections, 0, True
        try:
            position = self._deliver(data, 0)
            while end := self._end_of_other(data, position):
                await self._pass_on(data[position:end])
                position = self._deliver(data, end)
        except BaseException as error:
            # What still comes of this connection would be read from the middle of something.
            self._failure = error
            raise
        finally:
            self._is_parsing = False
        if connection != self.connections:
            # What was passed on made the driver begin anew: the rest is the old connection's.
            return
        if not self._needed and len(data) - position > _LONGEST_LINE:
            raise self._broken("a line without an end")
        if position < len(data):
            self._rest += data[position:]

    def _deliver(self, data: bytes, position: int) -> int:
        """Deliver the messages that stand there; return where something else begins."""
        size = len(data)
        while data.startswith(_MESSAGES, position) and (end := data.find(_END, position)) >= 0:
            line = data[position:end].split()
            after = end + 4 + self._size(line)
            if after > size:
                self._needed = after - position
                break
            if data[after - 2 : after] != _END:
                raise self._broken("a message of another length than announced")
            receiver = self.receivers.get(line[2])
            if receiver is None:
                break
            receiver(_read_frame(line, data, end + 2, after - 2))
            position = after
        return position

    def _end_of_other(self, data: bytes, position: int) -> int:
        """Return where what `_deliver` left ends, 0 where that is still to come."""
        end = -1 if self._needed else data.find(_END, position)
        if end < 0:
            return 0
        if data.startswith(_MESSAGES, position):
            return end + 4 + self._size(data[position:end].split())
        return end + 2

    def _broken(self, what: str) -> Exception:
        error = self._make_error(what)
        self._failure = error
        return error

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
    headers: Mapping[str, str] = _NO_HEADERS
    payload = body
    # MSG subject sid [reply] size, HMSG subject sid [reply] header-size size
    words = 4
    if line[0] == _WITH_HEADERS:
        words = 5
        payload += int(line[-2])
        headers = read_headers(data[body:payload])
    return Incoming(
        line[1].decode("utf-8", "replace"),
        data[payload:end],
        headers,
        line[3].decode("utf-8", "replace") if len(line) > words else "",
    )
