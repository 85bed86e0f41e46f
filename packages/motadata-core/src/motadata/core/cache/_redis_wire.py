"""One connection to a server, which carries one exchange at a time.

The driver has connected it, signed in and encrypts it; then it is ours. What comes is taken apart
where it is read: the driver's way, with a stream, a timer and a task that wakes up for each answer,
costs more than everything else about an exchange.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, cast

from motadata.core.cache._redis_calls import DamagedAnswerError, Reply
from motadata.core.cache._redis_replies import INCOMPLETE, Reader


Answers = list["Reply | Exception"]
"""A server's answers; what it refused is among them."""

Done = Callable[["Answers | Exception"], None]
"""Takes the answers of an exchange, or why there are none."""

_LOST: Final = "The connection was lost."


class Wire(asyncio.Protocol):
    """A connection.

    After anything but complete answers to what was asked it is closed, for what still came would be
    taken for the answer to the next question.

    Args:
        writer: The driver's, of a connection on which nothing is expected any more.
        reader: Takes apart what comes.
        age: Tells the connections of before a doubt from those after it.
    """

    def __init__(self, writer: asyncio.StreamWriter, reader: Reader, *, age: int) -> None:
        self.age = age
        self.is_usable = not writer.is_closing()
        # Kept, for it would close the connection when it is collected.
        self._writer = writer
        self._transport = writer.transport
        self._reader = reader
        self._answers: Answers = []
        self._expected = 0
        self._done: Done | None = None
        self._transport.set_protocol(self)

    def begin(self, data: bytes, expected: int, done: Done) -> None:
        """Send commands; `done` is called once, not before this returns.

        Args:
            data: The commands.
            expected: How many there are.
            done: Takes the answers, or the error.
        """
        self._expected, self._done = expected, done
        try:
            self._transport.write(data)
        except (OSError, RuntimeError) as error:
            # Some event loops say at once that the connection is gone.
            asyncio.get_running_loop().call_soon(self.fail, error)

    def fail(self, error: Exception) -> None:
        """End the exchange without its answers, and close the connection."""
        self.is_usable = False
        self._transport.abort()
        self._settle(error)

    def close(self) -> None:
        """Close the connection, and answer nobody any more."""
        self.is_usable = False
        self._done = None
        # Closed politely, it would stay open until a halted server takes what was written.
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take what came, and end the exchange with its last answer."""
        reader, answers = self._reader, self._answers
        try:
            reader.feed(data)
            while len(answers) < self._expected and (answer := reader.gets()) is not INCOMPLETE:
                answers.append(cast("Reply | Exception", answer))
            is_whole = len(answers) == self._expected
            is_odd = is_whole and reader.has_data()
        except Exception:  # noqa: BLE001 - a damaged answer makes a parser fail in any way
            self.fail(DamagedAnswerError())
            return
        if is_odd:
            # It answers what nobody asked, so these may be answers to something else, too.
            self.fail(DamagedAnswerError())
        elif is_whole:
            self._answers = []
            self._expected = 0
            self._settle(answers)

    def connection_lost(self, error: Exception | None) -> None:
        """End the exchange without an answer."""
        self.is_usable = False
        self._settle(error or ConnectionResetError(_LOST))

    def _settle(self, outcome: Answers | Exception) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(outcome)
