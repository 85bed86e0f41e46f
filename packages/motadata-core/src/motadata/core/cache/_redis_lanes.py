"""Connections to one server, each of which carries one exchange at a time.

The driver connects, signs in and encrypts. What it does around each command beyond that (retries,
health checks, instruments, streams) costs more than the exchange; a batch needs none of it, for it
is timed, counted and retried by those who send it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from motadata.core.cache._redis_calls import Packed, Reply, Word
from motadata.core.cache._redis_replies import find_packer, make_reader
from motadata.core.cache._redis_slots import Slots
from motadata.core.cache._redis_wire import Answers, Done, Wire


if TYPE_CHECKING:
    from redis.asyncio import ConnectionPool
    from redis.asyncio.connection import Connection


class Lanes:
    """Opens connections as they are needed and keeps them.

    An exchange may be begun at once where a connection is idle, or waited for. `slots` bounds both.
    One timer watches those that nobody waits for: one for each would cost as much as two values.

    Args:
        pool: Knows how to connect; none of its own connections is used.
        slots: Bounds how many exchanges there are at once, and thus how many connections.
        timeout: Seconds that an exchange may take for which nobody waits.
    """

    def __init__(self, pool: ConnectionPool, slots: Slots, *, timeout: float) -> None:
        from redis.exceptions import RedisError, ResponseError

        self._pool = pool
        self._errors = RedisError, ResponseError
        self._slots = slots
        self._timeout = timeout
        self._pack = find_packer()
        self._idle: list[Wire] = []
        # In the order in which they end.
        self._watched: dict[Wire, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._age = 0

    def begin(self, commands: Sequence[Packed], done: Done) -> bool:
        """Send commands at once; `done` is called with the answers, or why there are none.

        Nothing is sent and nobody called when it returns False: no connection is idle.
        """
        data = b"".join([command.packed(self._pack) for command in commands])
        if not self._slots.take():
            return False
        wire = self._take()
        if wire is None:
            self._slots.give_back()
            return False

        def end(outcome: Answers | Exception) -> None:
            del self._watched[wire]
            self._slots.give_back()
            self._give_back(wire)
            done(self._checked(outcome))

        self._watch(wire)
        wire.begin(data, len(commands), end)
        return True

    async def exchange(self, commands: Sequence[Sequence[Word]]) -> list[Reply | Exception]:
        """Send commands at once and return their answers, for who holds a slot.

        What the server refused is among them. A caller that is cancelled gives the connection up.

        Raises:
            RedisError, OSError: The server is away, or broke off.
            DamagedAnswerError: What it answered is no answer.
        """
        wire = self._take() or await self._open()
        answered: asyncio.Future[Answers | Exception] = asyncio.get_running_loop().create_future()

        def end(outcome: Answers | Exception) -> None:
            if not answered.done():
                answered.set_result(outcome)

        data = b"".join([self._pack(words) for words in commands])
        try:
            wire.begin(data, len(commands), end)
            outcome = self._checked(await answered)
        except BaseException:
            wire.close()
            raise
        self._give_back(wire)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def close(self) -> None:
        """Close the connections; those in use, when their exchange is over."""
        self._is_closed = True
        if self._timer is not None and not self._watched:
            self._timer.cancel()
        while self._idle:
            self._idle.pop().close()
        # The event loop closes the sockets in its next turn.
        await asyncio.sleep(0)

    def distrust(self) -> None:
        """Use none of the present connections again: one of them may be an answer behind."""
        self._age += 1

    def _take(self) -> Wire | None:
        while self._idle:
            wire = self._idle.pop()
            if wire.is_usable and wire.age == self._age:
                return wire
            wire.close()
        return None

    def _give_back(self, wire: Wire) -> None:
        if wire.is_usable and wire.age == self._age and not self._is_closed:
            self._idle.append(wire)
        else:
            wire.close()

    def _watch(self, wire: Wire) -> None:
        loop = asyncio.get_running_loop()
        end = self._watched[wire] = loop.time() + self._timeout
        if self._timer is None:
            self._timer = loop.call_at(end, self._look)

    def _look(self) -> None:
        """Give up what has taken too long, and look again when the next may have."""
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        for wire, end in list(self._watched.items()):
            if end > now:
                self._timer = loop.call_at(end, self._look)
                return
            wire.fail(TimeoutError())

    def _checked(self, outcome: Answers | Exception) -> Answers | Exception:
        """Return an error for answers of which one says that the server cannot be used."""
        error, refusal = self._errors
        if isinstance(outcome, list):
            for answer in outcome:
                if isinstance(answer, error) and not isinstance(answer, refusal):
                    return answer
        return outcome

    async def _open(self) -> Wire:
        age = self._age
        made = cast("Connection", self._pool.connection_class(**self._pool.connection_kwargs))
        try:
            await made.connect()  # type: ignore[no-untyped-call]  # theirs
        except BaseException:
            await made.disconnect(nowait=True)
            raise
        # The attributes with underscores are the driver's; every test of the cache notices when
        # they change. Without its streams the driver's half has nothing to close or to warn of.
        writer, made._writer, made._reader = made._writer, None, None  # noqa: SLF001
        if writer is None:
            raise ConnectionResetError
        refusal = made._parser.parse_error  # noqa: SLF001
        return Wire(writer, make_reader(refusal), age=age)
