"""Stores many values at once, each in one step that reads the words of its generation and tags."""

from __future__ import annotations

import secrets
from asyncio import Future
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from motadata.core.cache._key import RedisNames
from motadata.core.cache._redis_calls import Call, ServerUnavailableError, flags_of
from motadata.core.cache._redis_delivery import Delivery
from motadata.core.cache._redis_scripts import WRITE
from motadata.core.cache._redis_server import RedisServer


# So much in one script: the server answers others in between.
_MOST_ENTRIES: Final = 64
_MOST_BYTES: Final = 1_000_000


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


Write = tuple[Entry, "Future[bool]"]
"""A value and who waits to hear whether it was stored."""

Writes = dict[RedisNames, list[Write]]
"""What is to be stored, by namespace."""


class Writing:
    """Stores values, and tells those who wait.

    Args:
        server: Where to store them.
        delivery: Tells of failures.
        quota: Most bytes of one tenant; 0 sets no limit.
    """

    def __init__(self, server: RedisServer, delivery: Delivery, *, quota: int) -> None:
        self._server = server
        self._delivery = delivery
        self._quota = quota

    async def write(self, writes: Writes) -> None:
        """Store everything, and return when everybody has been told."""
        parts = [(names, part) for names, all_ in writes.items() for part in _split(all_)]
        calls = [self._call(names, [entry for entry, _ in part]) for names, part in parts]
        try:
            answers = await self._server.call_many(calls)
        except ServerUnavailableError as error:
            answers = [error] * len(calls)
        for (names, part), answer in zip(parts, answers, strict=True):
            try:
                if isinstance(answer, ServerUnavailableError):
                    raise answer
                flags = flags_of(answer, len(part))
            except ServerUnavailableError as error:
                self.refuse(names, part, error)
                continue
            for (_, future), flag in zip(part, flags, strict=True):
                if not future.done():
                    future.set_result(flag)

    def refuse(
        self, names: RedisNames, writes: Sequence[Write], error: ServerUnavailableError
    ) -> None:
        """Raise an error with those who wait; whether anything was stored is not known."""
        keys = [entry.key for entry, _ in writes]
        self._delivery.refuse(names, (future for _, future in writes), error, keys=keys)

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


def _split(writes: list[Write]) -> list[list[Write]]:
    """Cut a list where it becomes too many entries or bytes for one script."""
    parts: list[list[Write]] = []
    size = 0
    for write in writes:
        size += len(write[0].data)
        if not parts or size > _MOST_BYTES or len(parts[-1]) >= _MOST_ENTRIES:
            parts.append([])
            size = len(write[0].data)
        parts[-1].append(write)
    return parts
