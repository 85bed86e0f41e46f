"""Gives those who wait what was found, decoded, or the reason why nothing could be."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from motadata.core.cache._key import RedisNames
from motadata.core.cache._redis_calls import Reply, ServerUnavailableError
from motadata.core.cache._redis_values import (
    ENCODED,
    IN_TEXT,
    TEXT,
    VERSION,
    DamagedValueError,
    checksum,
    decode_value,
    milliseconds_left,
    open_value,
)
from motadata.core.errors import CodecError, SDKError


# What its holder cannot change may be given to several.
_UNCHANGEABLE: Final = frozenset({str, bytes, int, float, bool, type(None)})

# What `open_value` cannot open, opened.
_SHORT: Final = (0, 0, 0, 0, 0)

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """A key as it is spelled on the server.

    Attributes:
        names: Of its namespace.
        digest: What stands for the key.
        mark: The checksum of both, with which that of the value begins.
    """

    names: RedisNames
    digest: str
    mark: int


Waiting = dict[Place, list["Future[object]"]]
"""By key, everybody who waits for its value."""


class Found(NamedTuple):
    """A value as the server holds it.

    Attributes:
        data: The bytes; `_redis_values` reads them.
        left: How many milliseconds it has left; None when that was not asked.
    """

    data: bytes
    left: int | None = None


class Tagged(NamedTuple):
    """A value that counts if its tags still do.

    Attributes:
        place: Where it was.
        waiting: Who waits for it.
        data: The bytes.
        now: The server's clock in milliseconds, if that was asked.
    """

    place: Place
    waiting: list[Future[object]]
    data: bytes
    now: int | None


@dataclass(slots=True)
class Counters:
    """What was done since the cache was made; `RedisCacheStatistics` explains them."""

    hits: int = 0
    misses: int = 0
    unreadable: int = 0
    stored: int = 0
    overtaken: int = 0
    failures: int = 0


OnFailure = Callable[[RedisNames, ServerUnavailableError, Sequence[str]], object]
"""Takes the names of a namespace, why the server failed, and the keys that were to be written."""


class Delivery:
    """Decodes values and gives them away; whoever has left meanwhile is passed over.

    A value is given as it is, or with what it was found as where the server was asked for its time.

    Args:
        on_damage: Called when a value is not the one that was stored there.
    """

    def __init__(self, *, on_damage: Callable[[], None]) -> None:
        self.counters = Counters()
        # Told where the server failed, even if nobody waits for the answer any more.
        self.on_failure: OnFailure | None = None
        self._on_damage = on_damage

    def give(
        self,
        waiting: Waiting,
        values: Sequence[Reply],
        *,
        now: int | None,
        is_checked: bool = False,
    ) -> list[Tagged]:
        """Give what was found, and return what has tags, unless these were checked.

        Args:
            waiting: Who waits, by key.
            values: What was found for each of them.
            now: The server's clock in milliseconds, if that was asked.
            is_checked: Whether tags no longer matter.
        """
        tagged, hits = [], 0
        # Everything below is done for each value that is read, so it calls as little as it can.
        for (place, futures), data in zip(waiting.items(), values, strict=True):
            if not isinstance(data, bytes):
                self.give_nothing(futures)
                continue
            version, tags, proof, kind, size = open_value(data) if len(data) >= IN_TEXT else _SHORT
            if tags and not is_checked:
                tagged.append(Tagged(place, futures, data, now))
                continue
            is_text = kind == TEXT and size == len(data) - IN_TEXT and not tags
            try:
                # A text, as most values are, is decoded here: to hand it on takes as long.
                if is_text and version == VERSION and checksum(data[ENCODED:], place.mark) == proof:
                    value: object = data[IN_TEXT:].decode()
                else:
                    value = decode_value(data, place.mark)
            except (SDKError, UnicodeDecodeError) as error:
                self._lament(futures, error)
                continue
            if len(futures) > 1:
                hits += _give_several(futures, value, data, place.mark, now)
            elif not futures[0].done():
                futures[0].set_result(value if now is None else _with_left(value, data, now))
                hits += 1
        self.counters.hits += hits
        return tagged

    def give_nothing(self, futures: Iterable[Future[object]]) -> None:
        """Say that there is no live value."""
        for future in futures:
            if not future.done():
                self.counters.misses += 1
                future.set_result(None)

    def refuse(
        self,
        names: RedisNames,
        futures: Iterable[Future[Answer]],
        error: ServerUnavailableError,
        *,
        keys: Sequence[str] = (),
    ) -> None:
        """Raise an error with those who wait, and tell who wants to know of failures.

        Args:
            names: Of the namespace.
            futures: Who waits.
            error: What happened.
            keys: What was to be written.
        """
        self.counters.failures += 1
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

    def _lament(
        self, futures: Sequence[Future[object]], error: SDKError | UnicodeDecodeError
    ) -> None:
        if not isinstance(error, CodecError | UnicodeDecodeError):
            # Nothing is wrong with the value, but what reads it is not installed.
            for future in futures:
                if not future.done():
                    future.set_exception(error)
            return
        self.counters.unreadable += 1
        # Anything else was written by a newer version.
        if isinstance(error, DamagedValueError):
            self._on_damage()
        self.give_nothing(futures)


def _give_several(
    futures: Sequence[Future[object]], value: object, data: bytes, mark: int, now: int | None
) -> int:
    """Give a value to several, to each one of their own; return how many still waited."""
    waiting = [future for future in futures if not future.done()]
    for number, future in enumerate(waiting):
        if number and type(value) not in _UNCHANGEABLE:
            value = decode_value(data, mark)
        future.set_result(value if now is None else _with_left(value, data, now))
    return len(waiting)


def _with_left(value: object, data: bytes, now: int) -> tuple[object, Found]:
    return value, Found(data, milliseconds_left(data, now))
