"""Connections to one server, each of which carries one exchange at a time.

The driver connects, signs in, encrypts and parses. What it does around each command beyond
that (retries, health checks, instruments) costs as much as the exchange; a batch needs none of it,
for it is timed, counted and retried by those who send it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, cast

from motadata.core.cache._redis_calls import Reply, Word


if TYPE_CHECKING:
    from redis.asyncio import ConnectionPool
    from redis.asyncio.connection import Connection


class Lanes:
    """Opens connections as they are needed and keeps them; how many at once, the caller bounds.

    Args:
        pool: Knows how to connect; none of its own connections is used.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._pack = _find_packer()
        self._idle: list[tuple[int, Connection]] = []
        self._is_closed = False
        self._age = 0

    async def exchange(self, commands: Sequence[Sequence[Word]]) -> list[Reply | Exception]:
        """Send commands at once and return their answers; what the server refused is among them.

        A connection on which anything else goes wrong, cancellation too, is given up: an answer
        that was not read would be taken for the next one's.

        Raises:
            RedisError, OSError: The server is away, or broke off.
        """
        from redis.exceptions import InvalidResponse, RedisError, ResponseError

        age = self._age
        connection = await self._open()
        try:
            packed = b"".join([self._pack(words) for words in commands])
            await connection.send_packed_command(packed, check_health=False)
            answers: list[Reply | Exception] = []
            for _ in commands:
                try:
                    answers.append(cast("Reply", await connection.read_response()))
                except ResponseError as refusal:
                    answers.append(refusal)
        except BaseException as error:
            await _give_up(connection)
            # A damaged answer makes a parser fail in any way.
            if isinstance(error, Exception) and not isinstance(error, RedisError | OSError):
                message = "The answer could not be parsed."
                raise InvalidResponse(message) from error
            raise
        if self._is_closed or age != self._age:
            await _give_up(connection)
        else:
            self._idle.append((age, connection))
        return answers

    async def close(self) -> None:
        """Close the connections; those in use, when their exchange is over."""
        self._is_closed = True
        while self._idle:
            await _give_up(self._idle.pop()[1])

    def distrust(self) -> None:
        """Use none of the present connections again: one of them may be an answer behind."""
        self._age += 1

    async def _open(self) -> Connection:
        while self._idle:
            age, connection = self._idle.pop()
            if age == self._age and await _is_usable(connection):
                return connection
            await _give_up(connection)
        # Without a limit of its own for each read: the exchange as a whole has one.
        options = {**self._pool.connection_kwargs, "socket_timeout": None}
        made = cast("Connection", self._pool.connection_class(**options))
        try:
            await made.connect()  # type: ignore[no-untyped-call]  # theirs
        except BaseException:
            await _give_up(made)
            raise
        return made


def _find_packer() -> Callable[[Sequence[Word]], bytes]:
    """Return what writes a command in the server's form; in C where that is installed."""
    try:
        from hiredis import pack_command
    except ImportError:
        return _pack_slowly
    return lambda words: pack_command(tuple(words))  # type: ignore[arg-type]  # they say one word


def _pack_slowly(words: Sequence[Word]) -> bytes:
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        data = word if isinstance(word, bytes) else str(word).encode()
        parts += (b"$%d\r\n" % len(data), data, b"\r\n")
    return b"".join(parts)


async def _is_usable(connection: Connection) -> bool:
    """Tell whether a connection that was idle is still open and has nothing to say."""
    from redis.exceptions import RedisError

    # The driver has changed the name.
    name = "can_read" if hasattr(connection, "can_read") else "can_read_destructive"
    has_something = cast("Callable[[], Awaitable[bool]]", getattr(connection, name))
    writer = getattr(connection, "_writer", None)
    if writer is None or writer.is_closing():
        # One that was reset has no end of file; the driver does not look for it.
        return False
    try:
        return connection.is_connected and not await has_something()
    except (RedisError, OSError):
        return False


async def _give_up(connection: Connection) -> None:
    await connection.disconnect(nowait=True)
