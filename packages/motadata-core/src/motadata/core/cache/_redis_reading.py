"""Reads many values at once, with proof that each is of the current generation and tags.

One MGET brings the values under the generation that was current last time, and the words that make
the generation now, all of one moment. When they differ, the values are put away and read again. A
value with tags counts if its tags still bear the words that the value was made under; words never
come again, so a word that is right after the value was read was right when it was read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, repeat
from typing import Final

from motadata.core.cache._key import RedisNames, tag_key
from motadata.core.cache._redis_calls import (
    Asked,
    Command,
    DamagedAnswerError,
    Pack,
    Packed,
    Reply,
    ServerUnavailableError,
    Word,
)
from motadata.core.cache._redis_delivery import Delivery, Tagged, Waiting
from motadata.core.cache._redis_server import RedisServer
from motadata.core.cache._redis_values import read_tags


_MOST_KEYS: Final = 256
_MOST_GENERATIONS: Final = 10_000
# The generation may change between two rounds, but not for ever: then it is a miss.
_MOST_ROUNDS: Final = 4

Reads = dict[RedisNames, Waiting]
"""By namespace, everybody who waits for a value."""

Outcome = Reply | ServerUnavailableError


@dataclass(slots=True, eq=False)
class Part:
    """What one MGET asks for.

    Attributes:
        names: Of the namespace.
        waiting: Who waits for what, in the order of the command.
        generation: Under which the values are looked for; None asks for the generation alone.
    """

    names: RedisNames
    waiting: Waiting
    generation: str | None

    def by_name(self) -> Sequence[Word]:
        """Return the command."""
        words = ["MGET", self.names.generation_key, self.names.namespace_key]
        if self.generation is not None:
            prefix = self.names.value_key(self.generation, "")
            words += [prefix + place.digest for place in self.waiting]
        return words

    by_text = by_name

    def packed(self, pack: Pack) -> bytes:
        """Return the command in the server's form."""
        if self.generation is None:
            return pack(self.by_name())
        names, digests = self.names, [place.digest for place in self.waiting]
        tenant, space = names.generation_key, names.namespace_key
        prefix = names.value_key(self.generation, "")
        # The keys of values are of one length and differ in their ends: joined, they are spelled in
        # a quarter of the time. They are ASCII, so lengths of texts are lengths of bytes.
        start = f"\r\n${len(prefix) + len(digests[0])}\r\n{prefix}"
        return (
            f"*{3 + len(digests)}\r\n$4\r\nMGET\r\n${len(tenant)}\r\n{tenant}"
            f"\r\n${len(space)}\r\n{space}{start}{start.join(digests)}\r\n"
        ).encode("ascii")

    def fits(self, reply: Reply) -> bool:
        """Tell whether an answer has the shape that was asked for."""
        count = 0 if self.generation is None else len(self.waiting)
        return isinstance(reply, list) and len(reply) == 2 + count


@dataclass(slots=True, eq=False)
class Rest:
    """What is left to do after a round.

    Attributes:
        again: What was asked under a generation that is over.
        tagged: What counts if its tags still do.
    """

    again: list[tuple[RedisNames, Waiting]] = field(default_factory=list)
    tagged: list[Tagged] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Tell whether it is anything."""
        return bool(self.again or self.tagged)


class Reading:
    """Reads values, and hands them to those who wait.

    Most reads are done after one round, which needs no task: `parts` says what to ask, `commands`
    how, and `take` deals with the answers. What it returns, `finish` has to wait for.

    Args:
        server: Where they are.
        delivery: Gives them away.
        with_left: Whether to work out the time that they have left.
    """

    def __init__(self, server: RedisServer, delivery: Delivery, *, with_left: bool) -> None:
        self._server = server
        self._delivery = delivery
        self._with_left = with_left
        self._generations: OrderedDict[RedisNames, str] = OrderedDict()

    async def read(self, reads: Reads) -> None:
        """Ask for everything, and return when everybody has an answer."""
        parts = self.parts(reads.items())
        await self.finish(self.take(parts, await self._many(self.commands(parts))))

    def parts(self, reads: Iterable[tuple[RedisNames, Waiting]]) -> list[Part]:
        """Cut what is asked where it becomes too much for one command."""
        parts = []
        for names, waiting in reads:
            generation = self._generations.get(names)
            if len(waiting) <= _MOST_KEYS:
                parts.append(Part(names, waiting, generation))
                continue
            left = iter(waiting.items())
            while some := dict(islice(left, _MOST_KEYS)):
                parts.append(Part(names, some, generation))
        return parts

    def commands(self, parts: Sequence[Part]) -> Sequence[Packed]:
        """Return what to ask the server, in one round trip."""
        if not self._with_left:
            return parts
        # The clock is the one of the server that has the value, so none needs to be right.
        return [one for part in parts for one in (part, _clock_of(part.names))]

    def take(self, parts: Sequence[Part], outcomes: Sequence[Outcome]) -> Rest:
        """Give away what came, and return what needs another round."""
        rest = Rest()
        clocks: Iterable[Outcome | None] = repeat(None)
        if self._with_left:
            outcomes, clocks = outcomes[::2], outcomes[1::2]
        for part, outcome, clock in zip(parts, outcomes, clocks, strict=False):
            reply, now = (outcome, None) if clock is None else _timed(outcome, clock)
            if isinstance(reply, ServerUnavailableError):
                self._refuse(part, reply)
            elif not isinstance(reply, list) or not part.fits(reply):
                self._server.distrust_connections()
                self._refuse(part, DamagedAnswerError())
            elif (current := _generation(reply)) is None:
                self._give_nothing(part.waiting)
            elif current != part.generation:
                self._remember(part.names, current)
                rest.again.append((part.names, part.waiting))
            else:
                rest.tagged.extend(self._delivery.give(part.waiting, reply[2:], now=now))
        return rest

    async def finish(self, rest: Rest) -> None:
        """Do what is left, and return when everybody has an answer."""
        tagged = rest.tagged
        for _ in range(_MOST_ROUNDS - 1):
            if not rest.again:
                break
            parts = self.parts(rest.again)
            rest = self.take(parts, await self._many(self.commands(parts)))
            tagged += rest.tagged
        for _, waiting in rest.again:
            self._give_nothing(waiting)
        if tagged:
            await self._check_tags(tagged)

    async def _many(self, commands: Sequence[Asked]) -> Sequence[Outcome]:
        try:
            return await self._server.call_many(commands)
        except ServerUnavailableError as error:
            return [error] * len(commands)

    async def _check_tags(self, tagged: Sequence[Tagged]) -> None:
        """Give away the values none of whose tags was invalidated."""
        marked = [(one, read_tags(one.data)) for one in tagged]
        words = await self._words(marked)
        for one, tags in marked:
            names = one.place.names
            now = [words[names.tenant, tag] for tag, _ in tags]
            failed = next((each for each in now if isinstance(each, ServerUnavailableError)), None)
            if failed is not None:
                self._delivery.refuse(names, one.waiting, failed)
            elif now == [word for _, word in tags]:
                waiting = {one.place: one.waiting}
                self._delivery.give(waiting, [one.data], now=one.now, is_checked=True)
            else:
                self._delivery.give_nothing(one.waiting)

    async def _words(
        self, marked: Sequence[tuple[Tagged, tuple[tuple[str, bytes], ...]]]
    ) -> dict[tuple[str, str], Outcome]:
        """Return the words that tags bear now, by tenant and tag."""
        keys: dict[str, dict[str, None]] = {}
        for one, tags in marked:
            keys.setdefault(one.place.names.tenant, {}).update((tag, None) for tag, _ in tags)
        parts = [
            (tenant, list(tags)[start : start + _MOST_KEYS])
            for tenant, tags in keys.items()
            for start in range(0, len(tags), _MOST_KEYS)
        ]
        replies = await self._many(
            [Command(["MGET", *(tag_key(tenant, tag) for tag in part)]) for tenant, part in parts]
        )
        words: dict[tuple[str, str], Outcome] = {}
        for (tenant, part), reply in zip(parts, replies, strict=True):
            fits = isinstance(reply, list) and len(reply) == len(part)
            each = reply if isinstance(reply, list) and fits else [_failure(reply)] * len(part)
            words.update(zip(((tenant, tag) for tag in part), each, strict=True))
        return words

    def _refuse(self, part: Part, error: ServerUnavailableError) -> None:
        self._delivery.refuse(part.names, chain.from_iterable(part.waiting.values()), error)

    def _give_nothing(self, waiting: Waiting) -> None:
        self._delivery.give_nothing(chain.from_iterable(waiting.values()))

    def _remember(self, names: RedisNames, generation: str) -> None:
        self._generations[names] = generation
        self._generations.move_to_end(names)
        while len(self._generations) > _MOST_GENERATIONS:
            self._generations.popitem(last=False)


def _failure(reply: Outcome) -> ServerUnavailableError:
    return reply if isinstance(reply, ServerUnavailableError) else DamagedAnswerError()


def _generation(reply: Sequence[Reply]) -> str | None:
    """Return the generation that the two words make; None when there is none, and no value."""
    match reply:
        case [bytes(tenant), bytes(space), *_]:
            return (tenant + b"." + space).decode("ascii", "replace")
    return None


def _clock_of(names: RedisNames) -> Command:
    """Return the question for the time of the server that has a namespace."""
    # TIME names no key, so in a cluster it would go anywhere.
    return Command(["EVAL", "return redis.call('TIME')", 1, names.generation_key])


def _timed(reply: Outcome, clock: Outcome) -> tuple[Outcome, int | None]:
    """Return an answer with the server's time in milliseconds; a failure where either is one."""
    if isinstance(reply, ServerUnavailableError):
        return reply, None
    match clock:
        case ServerUnavailableError():
            return clock, None
        case [bytes(seconds), bytes(micros)] if seconds.isdigit() and micros.isdigit():
            return reply, int(seconds) * 1000 + int(micros) // 1000
    return DamagedAnswerError(), None
