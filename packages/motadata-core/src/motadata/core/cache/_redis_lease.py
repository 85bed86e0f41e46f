"""One computation for all instances: a lock that names its holder and ends when the holder dies."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Final

from motadata.core.cache._key import RedisNames, digest
from motadata.core.cache._redis_calls import Call, ServerUnavailableError
from motadata.core.cache._redis_scripts import ACQUIRE, RELEASE, RENEW
from motadata.core.cache._redis_server import RedisServer
from motadata.core.cache._redis_writing import Entry
from motadata.core.resilience import context_without_deadline


_FIRST_WAIT: Final = 0.005
_LONGEST_WAIT: Final = 0.1


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to compute and store one value.

    Attributes:
        lock: The lock's key; it is of one generation, so what is invalidated cannot be stored.
        token: What the lock holds while the right is ours, and nobody's ever again.
        names: Of the value's namespace.
        key: The value's key.
        life: The value's, in milliseconds.
        tags: The value's tags with the words that they bore when the computation began.
    """

    lock: str
    token: str
    names: RedisNames
    key: str
    life: int
    tags: tuple[tuple[str, str], ...]

    def entry(self, data: bytes) -> Entry:
        """Return what is stored if the right is still ours by then."""
        return Entry(digest(self.key), self.key, self.life, data, self.tags, self.token)


class Leases:
    """Acquires, renews and gives back leases.

    Args:
        server: Where the locks are.
        lease: Seconds after which a lock whose holder has died is free.
    """

    def __init__(self, server: RedisServer, *, lease: float) -> None:
        self.failures = 0
        self._server = server
        self._lease = lease
        self._background: set[asyncio.Task[None]] = set()

    async def acquire(
        self, names: RedisNames, key: str, life: int, tags: tuple[str, ...]
    ) -> Lease | bytes:
        """Return the right to compute a value, or the value once another has computed it.

        Raises:
            ServerUnavailableError: The server does not answer.
        """
        marks = [digest(tag) for tag in tags]
        token, milliseconds = secrets.token_hex(8), round(self._lease * 1000)
        wait = _FIRST_WAIT
        while True:
            arguments = [names.head, names.lock_head, names.tail, secrets.token_hex(8)]
            call = Call(
                ACQUIRE,
                [names.generation_key, names.namespace_key, names.index_key],
                [*arguments, digest(key), key, milliseconds, token, life, *marks],
            )
            match await self._ask(call, token):
                case [1, bytes(value)]:
                    return value
                case [2, bytes(lock), *words]:
                    held = [word.decode() for word in words if isinstance(word, bytes)]
                    pairs = tuple(zip(marks, held, strict=True))
                    return Lease(lock.decode(), token, names, key, life, pairs)
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            wait = min(wait * 1.5, _LONGEST_WAIT)

    async def _ask(self, call: Call, token: str) -> object:
        """Ask for a lock, and give it back where the caller is gone when it comes."""
        asking = asyncio.create_task(self._call(call))
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            self._spawn(self._give_back_when_asked(asking, token))
            raise

    async def _give_back_when_asked(self, asking: asyncio.Task[object], token: str) -> None:
        try:
            answer = await asking
            match answer:
                case [2, bytes(lock), *_]:
                    await self._call(Call(RELEASE, [lock.decode()], [token]))
        except ServerUnavailableError:
            # It ends by itself.
            return

    async def hold(self, lease: Lease, compute: Callable[[], Awaitable[object]]) -> object:
        """Compute while the lock is renewed; without a result the lock is given back."""
        renewing = asyncio.create_task(self._renew(lease))
        value = None
        try:
            value = await compute()
        finally:
            renewing.cancel()
            try:
                await asyncio.wait((renewing,))
            except asyncio.CancelledError:
                # Whoever is cancelled when it has just computed does not store it any more.
                value = None
                raise
            finally:
                if value is None:
                    self.give_back(lease)
        return value

    def give_back(self, lease: Lease) -> None:
        """Free a lock whose value will not be stored, without waiting for it."""
        self._spawn(self._release(lease))

    async def close(self) -> None:
        """Wait until every lock that is being given back is."""
        while self._background:
            await asyncio.wait(self._background)

    async def _renew(self, lease: Lease) -> None:
        names = lease.names
        while True:
            await asyncio.sleep(self._lease / 3)
            held = (lease.token, round(self._lease * 1000), lease.key)
            try:
                answer = await self._call(Call(RENEW, [lease.lock, names.index_key], held))
            except ServerUnavailableError:
                # Tried again until the lock has ended; then the value is not stored.
                continue
            if answer != 1:
                return

    async def _release(self, lease: Lease) -> None:
        try:
            await self._call(Call(RELEASE, [lease.lock], [lease.token]))
        except ServerUnavailableError:
            # It ends by itself.
            return

    async def _call(self, call: Call) -> object:
        try:
            return await self._server.call(call)
        except ServerUnavailableError:
            self.failures += 1
            raise

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work, context=context_without_deadline())
        self._background.add(task)
        task.add_done_callback(self._background.discard)
