"""Reads many values at once, with proof that each is of the current generation and tags.

One MGET brings the values under the generation that was current last time, and the words that make
the generation now, all of one moment. When they differ, the values are put away and read again. A
value with tags counts if its tags still bear the words that the value was made under; words never
come again, so a word that is right after the value was read was right when it was read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from motadata.core.cache._key import RedisNames, tag_key
from motadata.core.cache._redis_calls import (
    Command,
    DamagedAnswerError,
    Reply,
    ServerUnavailableError,
)
from motadata.core.cache._redis_server import RedisServer
from motadata.core.cache._redis_values import has_tags, milliseconds_left, read_tags


_MOST_KEYS: Final = 256
_MOST_GENERATIONS: Final = 10_000
# The generation may change between two rounds, but not for ever: then it is a miss.
_MOST_ROUNDS: Final = 4


class Found(NamedTuple):
    """A value as the server holds it.

    Attributes:
        data: The bytes; `_redis_values` reads them.
        left: How many milliseconds it has left; None when that was not asked.
    """

    data: bytes
    left: int | None = None


Answers = dict[RedisNames, dict[str, Found] | ServerUnavailableError]
"""What was found by namespace and digest; or why nothing could be."""


class Reading:
    """Reads values.

    Args:
        server: Where they are.
        with_left: Whether to work out the time that they have left.
    """

    def __init__(self, server: RedisServer, *, with_left: bool) -> None:
        self._server = server
        self._with_left = with_left
        self._generations: OrderedDict[RedisNames, str] = OrderedDict()

    async def read(self, wanted: Mapping[RedisNames, Sequence[str]]) -> Answers:
        """Return the live values by namespace and digest."""
        answers: Answers = {names: {} for names in wanted}
        asked = [
            (names, digests[start : start + _MOST_KEYS])
            for names, digests in wanted.items()
            for start in range(0, len(digests), _MOST_KEYS)
        ]
        for _ in range(_MOST_ROUNDS):
            asked = await self._round(asked, answers)
            if not asked:
                break
        await self._check_tags(answers)
        return answers

    async def _round(
        self, asked: list[tuple[RedisNames, Sequence[str]]], answers: Answers
    ) -> list[tuple[RedisNames, Sequence[str]]]:
        """Read once; return what was asked under a generation that is over."""
        known = [self._generations.get(names) for names, _ in asked]
        commands = [
            _command(names, digests, generation)
            for (names, digests), generation in zip(asked, known, strict=True)
        ]
        replies = await self._send(commands)
        again = []
        for (names, digests), generation, (reply, now) in zip(asked, known, replies, strict=True):
            if isinstance(reply, ServerUnavailableError):
                answers[names] = reply
                continue
            asked_for = 2 if generation is None else 2 + len(digests)
            if not isinstance(reply, list) or len(reply) != asked_for:
                self._server.distrust_connections()
                answers[names] = DamagedAnswerError()
                continue
            current = _generation(reply)
            if current is None:
                continue
            if current != generation:
                self._remember(names, current)
                again.append((names, digests))
                continue
            found = answers[names]
            if isinstance(found, dict):
                for digest, data in zip(digests, reply[2:], strict=True):
                    if isinstance(data, bytes):
                        left = None if now is None else milliseconds_left(data, now)
                        found[digest] = Found(data, left)
        return again

    async def _send(
        self, commands: list[Command]
    ) -> list[tuple[Reply | ServerUnavailableError, int | None]]:
        """Send commands; return each answer with the server's time, if it is wanted."""
        if not self._with_left:
            return [(reply, None) for reply in await self._many(commands)]
        # The clock is the one of the server that has the value, so none needs to be right.
        asked = [part for command in commands for part in (command, _clock_of(command))]
        replies = await self._many(asked)
        return list(map(_timed, replies[::2], replies[1::2]))

    async def _many(self, commands: list[Command]) -> list[Reply | ServerUnavailableError]:
        try:
            return await self._server.call_many(commands)
        except ServerUnavailableError as error:
            return [error] * len(commands)

    async def _check_tags(self, answers: Answers) -> None:
        """Take out the values that have a tag which was invalidated."""
        tagged = [
            (names, digest, tags)
            for names, found in answers.items()
            if isinstance(found, dict)
            for digest, one in found.items()
            if has_tags(one.data) and (tags := read_tags(one.data))
        ]
        if not tagged:
            return
        keys: dict[str, dict[str, None]] = {}
        for names, _, tags in tagged:
            keys.setdefault(names.tenant, {}).update((tag, None) for tag, _ in tags)
        parts = [
            (tenant, list(tags)[start : start + _MOST_KEYS])
            for tenant, tags in keys.items()
            for start in range(0, len(tags), _MOST_KEYS)
        ]
        replies = await self._many(
            [Command(["MGET", *(tag_key(tenant, tag) for tag in part)]) for tenant, part in parts]
        )
        words: dict[tuple[str, str], Reply | ServerUnavailableError] = {}
        for (tenant, part), reply in zip(parts, replies, strict=True):
            fits = isinstance(reply, list) and len(reply) == len(part)
            each = reply if isinstance(reply, list) and fits else [_failure(reply)] * len(part)
            words.update(zip(((tenant, tag) for tag in part), each, strict=True))
        for names, digest, tags in tagged:
            found = answers[names]
            now = [words[names.tenant, tag] for tag, _ in tags]
            failed = next((one for one in now if isinstance(one, ServerUnavailableError)), None)
            if failed is not None:
                answers[names] = failed
            elif isinstance(found, dict) and now != [word for _, word in tags]:
                del found[digest]

    def _remember(self, names: RedisNames, generation: str) -> None:
        self._generations[names] = generation
        self._generations.move_to_end(names)
        while len(self._generations) > _MOST_GENERATIONS:
            self._generations.popitem(last=False)


def _command(names: RedisNames, digests: Sequence[str], generation: str | None) -> Command:
    words = ["MGET", names.generation_key, names.namespace_key]
    if generation is not None:
        prefix = names.value_key(generation, "")
        words += [prefix + digest for digest in digests]
    return Command(words)


def _failure(reply: Reply | ServerUnavailableError) -> ServerUnavailableError:
    return reply if isinstance(reply, ServerUnavailableError) else DamagedAnswerError()


def _generation(reply: Sequence[Reply]) -> str | None:
    """Return the generation that the two words make; None when there is none, and no value."""
    match reply:
        case [bytes(tenant), bytes(space), *_]:
            return (tenant + b"." + space).decode("ascii", "replace")
    return None


def _clock_of(command: Command) -> Command:
    """Return the question for the time of the server that the command is for."""
    # TIME names no key, so in a cluster it would go anywhere.
    return Command(["EVAL", "return redis.call('TIME')", 1, command.words[1]])


def _timed(
    reply: Reply | ServerUnavailableError, clock: Reply | ServerUnavailableError
) -> tuple[Reply | ServerUnavailableError, int | None]:
    """Return an answer with the server's time in milliseconds; a failure where either is one."""
    if isinstance(reply, ServerUnavailableError):
        return reply, None
    match clock:
        case ServerUnavailableError():
            return clock, None
        case [bytes(seconds), bytes(micros)] if seconds.isdigit() and micros.isdigit():
            return reply, int(seconds) * 1000 + int(micros) // 1000
    return DamagedAnswerError(), None
