"""Reads and writes of one turn of the event loop travel together."""

from __future__ import annotations

import asyncio
import secrets
from asyncio import Future
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, TypeVar

from motadata.core.cache._key import RedisNames
from motadata.core.cache._redis_calls import (
    Call,
    DamagedAnswerError,
    ServerUnavailableError,
    flags_of,
)
from motadata.core.cache._redis_reading import Found, Reading
from motadata.core.cache._redis_scripts import WRITE
from motadata.core.cache._redis_server import RedisServer
from motadata.core.errors import CacheError, OverloadError
from motadata.core.resilience import context_without_deadline


# So much in one script: the server answers others in between.
_MOST_ENTRIES: Final = 64
_MOST_BYTES: Final = 1_000_000
_MOST_WAITING: Final = 50_000
_MOST_FLYING: Final = 4

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Entry:
    """A value to be stored.

    Attributes:
        digest: What stands for the key.
        key: The key.
        life: Milliseconds.
        data: The encoded value.
        tags: Digest of each tag, and the word that it bore when the value was computed; an empty
            word takes the one of the moment.
        guard: The content of the lock under which alone the value may be stored; empty for any.
    """

    digest: str
    key: str
    life: int
    data: bytes
    tags: tuple[tuple[str, str], ...] = ()
    guard: str = ""

    def arguments(self) -> list[str | bytes | int]:
        """Return what the script takes."""
        tags = [part for tag in self.tags for part in tag]
        return [self.digest, self.key, self.life, self.guard, self.data, len(self.tags), *tags]


_Reads = dict[str, list["Future[Found | None]"]]
"""By digest, everybody who waits for the value."""
_Write = tuple[Entry, "Future[bool]"]


OnFailure = Callable[[RedisNames, ServerUnavailableError, Sequence[str]], object]
"""Takes the names of a namespace, why the server failed, and the keys that were to be written."""


class Batches:
    """Collects what is asked for in one turn of the loop, and sends it as one.

    Who asks gets a future; giving up on it disturbs nobody else. No more than four batches are on
    their way at once: what is asked for meanwhile waits for the next one, and thus makes it longer.

    Args:
        server: Where to send them.
        quota: Most bytes of one tenant; 0 sets no limit.
        with_left: Whether reads ask for the time that values have left.
    """

    def __init__(self, server: RedisServer, *, quota: int, with_left: bool) -> None:
        self.failures = 0
        # Told where the server failed, even if nobody waits for the answer any more.
        self.on_failure: OnFailure | None = None
        self._server = server
        self._quota = quota
        self._reading = Reading(server, with_left=with_left)
        self._reads: dict[RedisNames, _Reads] = {}
        self._writes: dict[RedisNames, list[_Write]] = {}
        self._waiting = 0
        self._is_scheduled = False
        self._is_closed = False
        self._flying: set[asyncio.Task[None]] = set()

    def read(self, names: RedisNames, digest: str) -> Future[Found | None]:
        """Ask for a value.

        Raises:
            OverloadError: 50,000 others wait already.
        """
        answer: Future[Found | None] = self._schedule().create_future()
        reads = self._reads.get(names)
        if reads is None:
            reads = self._reads[names] = {}
        if digest in reads:
            reads[digest].append(answer)
        else:
            reads[digest] = [answer]
        return answer

    def write(self, names: RedisNames, entry: Entry) -> Future[bool]:
        """Store a value; the answer tells whether its guard allowed it.

        Raises:
            OverloadError: 50,000 others wait already.
        """
        answer: Future[bool] = self._schedule().create_future()
        self._writes.setdefault(names, []).append((entry, answer))
        return answer

    async def close(self) -> None:
        """Wait for what is on its way, and take nothing more."""
        self._is_closed = True
        while self._flying:
            await asyncio.wait(self._flying)

    def _schedule(self) -> asyncio.AbstractEventLoop:
        if self._is_closed:
            message = "The cache is closed."
            raise CacheError(message, remedy="Use it within its `async with`.")
        if self._waiting >= _MOST_WAITING:
            message = f"{self._waiting} requests wait for the cache's server."
            raise OverloadError(message, remedy="Ask for less at once, or add servers.")
        self._waiting += 1
        loop = asyncio.get_running_loop()
        if not self._is_scheduled and len(self._flying) < _MOST_FLYING:
            self._is_scheduled = True
            loop.call_soon(self._take_off)
        return loop

    def _take_off(self) -> None:
        self._is_scheduled = False
        reads, self._reads = self._reads, {}
        writes, self._writes = self._writes, {}
        self._waiting = 0
        if reads or writes:
            # It is everybody's: the deadline of who happened to ask first is not.
            task = asyncio.get_running_loop().create_task(
                self._fly(reads, writes), context=context_without_deadline()
            )
            self._flying.add(task)
            task.add_done_callback(self._land)

    def _land(self, task: asyncio.Task[None]) -> None:
        self._flying.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "A batch of the cache failed.", "exception": error, "task": task}
            )
        if self._waiting and not self._is_scheduled:
            self._take_off()

    async def _fly(
        self, reads: dict[RedisNames, _Reads], writes: dict[RedisNames, list[_Write]]
    ) -> None:
        try:
            # Writes first: who sets and then gets in one turn finds what was set.
            if writes:
                await self._store(writes)
            if reads:
                await self._find(reads)
        except Exception:
            # Whatever it was, it is no cancellation of those who wait.
            for names, asked in reads.items():
                self._refuse(names, chain.from_iterable(asked.values()), DamagedAnswerError())
            for names, entries in writes.items():
                self._refuse_writes(names, entries, DamagedAnswerError())
            raise
        except BaseException:
            # Nobody waits for an answer that will not come.
            for all_ in reads.values():
                for waiting in all_.values():
                    _cancel(waiting)
            for entries in writes.values():
                _cancel(future for _, future in entries)
            raise

    async def _store(self, writes: dict[RedisNames, list[_Write]]) -> None:
        parts = [(names, part) for names, all_ in writes.items() for part in _split(all_)]
        calls = [self._call(names, [entry for entry, _ in part]) for names, part in parts]
        try:
            answers = await self._server.call_many(calls)
        except ServerUnavailableError as error:
            answers = [error] * len(calls)
        for (names, part), answer in zip(parts, answers, strict=True):
            futures = [future for _, future in part]
            try:
                if isinstance(answer, ServerUnavailableError):
                    raise answer
                flags = flags_of(answer, len(futures))
            except ServerUnavailableError as error:
                self._refuse_writes(names, part, error)
                continue
            for future, flag in zip(futures, flags, strict=True):
                _give(future, flag)

    def _call(self, names: RedisNames, entries: list[Entry]) -> Call:
        arguments: list[str | bytes | int] = [
            *(names.head, names.lock_head, names.tail),
            *(secrets.token_hex(8), self._quota, max(entry.life for entry in entries)),
        ]
        for entry in entries:
            arguments += entry.arguments()
        keys = [names.generation_key, names.namespace_key]
        keys += [names.index_key, names.ledger_key, names.total_key]
        return Call(WRITE, keys, arguments)

    async def _find(self, reads: dict[RedisNames, _Reads]) -> None:
        answers = await self._reading.read({names: list(all_) for names, all_ in reads.items()})
        for names, waiting in reads.items():
            answer = answers[names]
            if isinstance(answer, ServerUnavailableError):
                self._refuse(names, chain.from_iterable(waiting.values()), answer)
                continue
            for digest, futures in waiting.items():
                found = answer.get(digest)
                for future in futures:
                    if not future.done():
                        future.set_result(found)

    def _refuse_writes(
        self, names: RedisNames, writes: Sequence[_Write], error: ServerUnavailableError
    ) -> None:
        keys = [entry.key for entry, _ in writes]
        self._refuse(names, (future for _, future in writes), error, keys=keys)

    def _refuse(
        self,
        names: RedisNames,
        futures: Iterable[Future[Answer]],
        error: ServerUnavailableError,
        *,
        keys: Sequence[str] = (),
    ) -> None:
        self.failures += 1
        if self.on_failure is not None:
            self.on_failure(names, error, keys)
        for future in futures:
            if not future.done():
                # One error each: whoever raises it adds its own traceback.
                own = ServerUnavailableError(str(error))
                own.__cause__ = error
                future.set_exception(own)
                # Asking tells asyncio that it is not lost where the caller gives up just now.
                future.exception()


def _give(future: Future[Answer], answer: Answer) -> None:
    if not future.done():
        future.set_result(answer)


def _cancel(futures: Iterable[Future[Answer]]) -> None:
    for future in futures:
        future.cancel()


def _split(writes: list[_Write]) -> list[list[_Write]]:
    """Cut a list where it becomes too many entries or bytes for one script."""
    parts: list[list[_Write]] = []
    size = 0
    for write in writes:
        size += len(write[0].data)
        if not parts or size > _MOST_BYTES or len(parts[-1]) >= _MOST_ENTRIES:
            parts.append([])
            size = len(write[0].data)
        parts[-1].append(write)
    return parts
