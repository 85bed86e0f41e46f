"""What is asked of a Redis-protocol server, what it answers, and the error when it does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from motadata.core.cache._redis_scripts import Script
from motadata.core.errors import CacheError


class ServerUnavailableError(CacheError):
    """The server did not do what was asked: it is away, busy, full or refuses us.

    Whether it did it all the same is not known.
    """

    default_retryable = True


class DamagedAnswerError(ServerUnavailableError):
    """The server's answer does not fit what was asked."""

    def __init__(self) -> None:
        """Say so; what it answered may be a value, so it is not told."""
        message = "The cache's server gave an answer that does not fit the question."
        super().__init__(message, remedy="Use TLS to the server where this happens often.")


def flags_of(reply: Reply, count: int) -> list[bool]:
    """Return a script's answer of one 0 or 1 for each of what it was given.

    Raises:
        DamagedAnswerError: It is none.
    """
    if not isinstance(reply, list) or len(reply) != count:
        raise DamagedAnswerError
    return [flag == 1 for flag in reply]


Word = str | bytes | int
"""A part of a command."""

Reply = bytes | int | None | Sequence["Reply"]
"""What a server answers."""


Pack = Callable[[Sequence[Word]], bytes]
"""Writes a command in the server's form."""


class Asked(Protocol):
    """Something that a server is asked; it says for which server of a cluster it is."""

    def by_name(self) -> Sequence[Word]:
        """Return the command for a server that remembers what it needs for it."""
        ...

    def by_text(self) -> Sequence[Word]:
        """Return the command for a server that does not."""
        ...


class Packed(Asked, Protocol):
    """Something that is asked so often that it may spell itself."""

    def packed(self, pack: Pack) -> bytes:
        """Return the command in the server's form."""
        ...


@dataclass(frozen=True, slots=True)
class Call:
    """A script with its arguments; the first key says which server of a cluster it is for."""

    script: Script
    keys: Sequence[str]
    arguments: Sequence[Word]

    def by_name(self) -> Sequence[Word]:
        """Return the command for a server that remembers the script."""
        return ["EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.arguments]

    def by_text(self) -> Sequence[Word]:
        """Return the command for a server that does not, and that will."""
        return ["EVAL", self.script.text, len(self.keys), *self.keys, *self.arguments]


@dataclass(frozen=True, slots=True)
class Command:
    """A command of the server's own; its second word is the key that says for which server."""

    words: Sequence[Word]

    def by_name(self) -> Sequence[Word]:
        """Return the command."""
        return self.words

    by_text = by_name

    def packed(self, pack: Pack) -> bytes:
        """Return the command in the server's form."""
        return pack(self.words)
