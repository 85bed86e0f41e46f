"""One server's announcements of keys that change."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final, cast

from motadata.core.cache._key import TRACKED_PREFIX


if TYPE_CHECKING:
    from redis.asyncio.client import PubSub
    from redis.asyncio.connection import Connection


_FEED: Final = "__redis__:invalidate"


class ChangeFeed:
    """One server's announcements, in their order; made by `RedisServer.changes`.

    One connection asks for the announcements and gets them: when it breaks, both are gone.
    """

    def __init__(self, listener: PubSub) -> None:
        self._listener = listener
        self._word = secrets.token_hex(4)
        self._is_asked = False

    async def start(self) -> None:
        """Ask for the announcements."""
        listener = self._listener
        await listener.connect()  # type: ignore[no-untyped-call]  # theirs
        connection = cast("Connection", listener.connection)
        await connection.send_command("CLIENT", "ID")
        identity = await connection.read_response()
        await connection.send_command(
            *("CLIENT", "TRACKING", "ON", "REDIRECT", identity),
            *("BCAST", "PREFIX", TRACKED_PREFIX),
        )
        await connection.read_response()
        await listener.subscribe(_FEED)

    async def next(self) -> list[str] | None:
        """Return the names of the keys that changed, none of late, or None for all keys.

        When nothing comes for a second it asks whether the server is there.

        Raises:
            TimeoutError: It is not.
        """
        try:
            message = await self._listener.get_message(timeout=1.0)
        except (ValueError, TypeError, LookupError) as error:
            # A damaged announcement; the connection is of no use any more.
            raise ConnectionResetError from error
        if message is None:
            if self._is_asked:
                raise TimeoutError
            self._is_asked = True
            await self._listener.ping(self._word)
            return []
        self._is_asked = False
        if message["type"] != "message":
            return []
        names = message["data"]
        return [_text(name) for name in names] if isinstance(names, list) else None


def _text(name: object) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
