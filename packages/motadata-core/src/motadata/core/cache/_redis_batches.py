"""Reads and writes of one turn of the event loop travel together."""

from __future__ import annotations

import asyncio
import secrets
from asyncio import Future
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from motadata.core.cache._key import RedisNames
from motadata.core.cache._redis_scripts import READ, WRITE
from motadata.core.cache._redis_server import Call, RedisServer, Reply, ServerUnavailableError
from motadata.core.errors import OverloadError


# So many keys in one script: it answers others in between.
_MOST_KEYS: Final = 256
_MOST_BYTES: Final = 1_000_000
_MOST_WAITING: Final = 50_000
_MOST_FLYING: Final = 4

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Found:
    """A value as the server holds it, and how many milliseconds it has left, when that was asked.

    The bytes begin with the tags; `_redis_values` reads them.
    """

    data: bytes
    left: int | None = None


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


_Read = tuple[str, "Future[Found | None]"]
_Write = tuple[Entry, "Future[bool]"]


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
        self._server = server
        self._quota = quota
        self._with_left = with_left
        self._reads: dict[RedisNames, list[_Read]] = {}
        self._writes: dict[RedisNames, list[_Write]] = {}
        self._waiting = 0
        self._is_scheduled = False
        self._flying: set[asyncio.Task[None]] = set()

    def read(self, names: RedisNames, digest: str) -> Future[Found | None]:
        """Ask for a value.

        Raises:
            OverloadError: 50,000 others wait already.
        """
        answer: Future[Found | None] = asyncio.get_running_loop().create_future()
        self._schedule()
        self._reads.setdefault(names, []).append((digest, answer))
        return answer

    def write(self, names: RedisNames, entry: Entry) -> Future[bool]:
        """Store a value; the answer tells whether its guard allowed it.

        Raises:
            OverloadError: 50,000 others wait already.
        """
        answer: Future[bool] = asyncio.get_running_loop().create_future()
        self._schedule()
        self._writes.setdefault(names, []).append((entry, answer))
        return answer

    async def close(self) -> None:
        """Wait for what is on its way; what is not is refused."""
        while self._flying:
            await asyncio.wait(self._flying)

    def _schedule(self) -> None:
        if self._waiting >= _MOST_WAITING:
            message = f"{self._waiting} requests wait for the cache's server."
            raise OverloadError(message, remedy="Ask for less at once, or add servers.")
        self._waiting += 1
        if not self._is_scheduled and len(self._flying) < _MOST_FLYING:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._take_off)

    def _take_off(self) -> None:
        self._is_scheduled = False
        reads, self._reads = self._reads, {}
        writes, self._writes = self._writes, {}
        self._waiting = 0
        if reads or writes:
            task = asyncio.get_running_loop().create_task(self._fly(reads, writes))
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
        self, reads: dict[RedisNames, list[_Read]], writes: dict[RedisNames, list[_Write]]
    ) -> None:
        # Writes first: who sets and then gets in one turn finds what was set.
        storing = [(names, part) for names, all_ in writes.items() for part in _split_writes(all_)]
        asking = [
            (names, all_[start : start + _MOST_KEYS])
            for names, all_ in reads.items()
            for start in range(0, len(all_), _MOST_KEYS)
        ]
        calls = [self._store(names, [entry for entry, _ in part]) for names, part in storing]
        calls += [self._ask(names, [digest for digest, _ in part]) for names, part in asking]
        try:
            answers: Sequence[Reply | ServerUnavailableError] = await self._server.call_many(calls)
        except ServerUnavailableError as error:
            answers = [error] * len(calls)
        except BaseException:
            for _, stored in storing:
                _cancel(future for _, future in stored)
            for _, asked in asking:
                _cancel(future for _, future in asked)
            raise
        for (_, stored), answer in zip(storing, answers, strict=False):
            _settle([future for _, future in stored], answer, _flags)
        for (_, asked), answer in zip(asking, answers[len(storing) :], strict=True):
            _settle([future for _, future in asked], answer, self._found)

    def _ask(self, names: RedisNames, digests: list[str]) -> Call:
        return Call(
            READ,
            [names.generation_key, names.namespace_key],
            [names.head, names.tail, int(self._with_left), *digests],
        )

    def _store(self, names: RedisNames, entries: list[Entry]) -> Call:
        arguments: list[str | bytes | int] = [
            *(names.head, names.lock_head, names.tail),
            *(secrets.token_hex(8), self._quota, max(entry.life for entry in entries)),
        ]
        for entry in entries:
            arguments += entry.arguments()
        return Call(WRITE, _all_keys(names), arguments)

    def _found(self, answer: Reply, count: int) -> list[Found | None]:
        if not isinstance(answer, list) or not answer:
            return [None] * count
        if not self._with_left:
            return [Found(one) if isinstance(one, bytes) else None for one in answer]
        values, left = answer
        assert isinstance(values, list)
        assert isinstance(left, list)
        return [
            Found(one, time) if isinstance(one, bytes) and isinstance(time, int) else None
            for one, time in zip(values, left, strict=True)
        ]


def _all_keys(names: RedisNames) -> list[str]:
    return [
        *(names.generation_key, names.namespace_key),
        *(names.index_key, names.ledger_key, names.total_key),
    ]


def _split_writes(writes: list[_Write]) -> list[list[_Write]]:
    """Cut a list where it becomes too many keys or bytes for one script."""
    parts: list[list[_Write]] = []
    size = 0
    for write in writes:
        size += len(write[0].data)
        if not parts or size > _MOST_BYTES or len(parts[-1]) >= _MOST_KEYS // 4:
            parts.append([])
            size = len(write[0].data)
        parts[-1].append(write)
    return parts


def _cancel(futures: Iterable[Future[Answer]]) -> None:
    for future in futures:
        future.cancel()


def _flags(answer: Reply, count: int) -> list[bool]:
    assert isinstance(answer, list)
    assert len(answer) == count
    return [flag == 1 for flag in answer]


def _settle(
    futures: list[Future[Answer]],
    answer: Reply | ServerUnavailableError,
    read: Callable[[Reply, int], list[Answer]],
) -> None:
    if isinstance(answer, ServerUnavailableError):
        for future in futures:
            if not future.done():
                # One error each: whoever raises it adds its own traceback.
                error = ServerUnavailableError(str(answer))
                error.__cause__ = answer
                future.set_exception(error)
        return
    for future, value in zip(futures, read(answer, len(futures)), strict=True):
        if not future.done():
            future.set_result(value)
