"""Forgets keys on a server: some by name, those that match a glob, by tag, or all of a tenant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from motadata.core.cache._key import RedisNames, digest, redis_names, tag_key
from motadata.core.cache._redis_calls import Call, Command, DamagedAnswerError, Reply, flags_of
from motadata.core.cache._redis_scripts import FORGET, INDEXED
from motadata.core.cache._redis_server import RedisServer


_SLICE: Final = 250


class Forgetting:
    """Forgets, 250 keys at a time; the server serves others in between.

    Args:
        server: Where the keys are.
        quota: Most bytes of one tenant; 0 sets no limit.
    """

    def __init__(self, server: RedisServer, *, quota: int) -> None:
        self._server = server
        self._quota = quota

    async def keys(self, names: RedisNames, keys: Sequence[str]) -> int:
        """Forget keys of one namespace; return how many had a live value."""
        gone = 0
        for start in range(0, len(keys), _SLICE):
            places = [part for key in keys[start : start + _SLICE] for part in (digest(key), key)]
            all_keys = [names.generation_key, names.namespace_key, names.index_key]
            all_keys += [names.ledger_key, names.total_key]
            first = (names.head, names.lock_head, names.tail, self._quota)
            answer = await self._server.call(Call(FORGET, all_keys, [*first, *places]))
            gone += sum(flags_of(answer, len(places) // 2))
        return gone

    async def matching(self, names: RedisNames, matches: Callable[[str], object | None]) -> int:
        """Forget the keys of one namespace that match; return how many had a live value.

        Every matching key that was there before the call is forgotten.
        """
        gone = 0
        while generation := await self._indexed(names):
            gone += await self._walk(names, matches)
            if await self._indexed(names) in (generation, b""):
                break
        return gone

    async def tag(self, tenant: str, tag: str) -> None:
        """Forget everything of a tenant that carries a tag."""
        await self._server.call(Command(["UNLINK", tag_key(tenant, digest(tag))]))

    async def tenant(self, tenant: str) -> None:
        """Forget everything of a tenant."""
        await self._server.call(Command(["UNLINK", redis_names(tenant, "default").generation_key]))

    async def _indexed(self, names: RedisNames) -> object:
        keys = [names.generation_key, names.namespace_key, names.index_key]
        return await self._server.call(Call(INDEXED, keys, []))

    async def _walk(self, names: RedisNames, matches: Callable[[str], object | None]) -> int:
        """Go through the index once; what was in it all the time is seen at least once."""
        gone, cursor = 0, 0
        while True:
            answer = await self._server.call(
                Command(["ZSCAN", names.index_key, cursor, "COUNT", _SLICE])
            )
            cursor, found = _scanned(answer)
            chosen = [key for key in found if key[:1] != "\0" and matches(key) is not None]
            gone += await self.keys(names, chosen)
            if cursor == 0:
                return gone


def _scanned(answer: Reply) -> tuple[int, list[str]]:
    """Return where a scan goes on, and the members that it found.

    Raises:
        DamagedAnswerError: The answer is not of a scan.
    """
    match answer:
        case [bytes(following), [*words]] if following.isdigit():
            # Members and their scores take turns.
            members = words[::2]
        case [int(following), [*pairs]]:
            # A cluster's client has paired them.
            members = [pair[0] for pair in pairs if isinstance(pair, list | tuple) and pair]
        case _:
            raise DamagedAnswerError
    return int(following), [
        member.decode("utf-8", "replace") for member in members if isinstance(member, bytes)
    ]
