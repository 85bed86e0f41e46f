"""Listens to what changes on the servers, and keeps the copies in this process in step."""

from __future__ import annotations

import asyncio
from typing import Final

from motadata.core.cache._key import read_changed_key
from motadata.core.cache._near import NearCache
from motadata.core.cache._redis_calls import ServerUnavailableError
from motadata.core.cache._redis_server import RedisServer
from motadata.core.resilience import context_without_deadline


_PAUSE: Final = 0.2
_LOOK_AGAIN: Final = 1.0


class Tracker:
    """Opens the near cache while every server's announcements are heard, and closes it otherwise.

    Args:
        server: Whose announcements to hear.
        near: What they concern.
    """

    def __init__(self, server: RedisServer, near: NearCache) -> None:
        self._server = server
        self._near = near
        self._task: asyncio.Task[None] | None = None
        self._is_stopped = False

    def start(self) -> None:
        """Begin to listen, for as long as it takes until there is somebody to listen to."""
        self._task = asyncio.create_task(self._run(), context=context_without_deadline())

    async def stop(self) -> None:
        """Listen no longer."""
        # A task group that fails just when it is cancelled forgets that it was, and so does the
        # driver that loses its connection at that moment; hence the flag.
        self._is_stopped = True
        if self._task is not None:
            while not self._task.done():
                self._task.cancel()
                await asyncio.wait((self._task,), timeout=_PAUSE)
        self._near.close()

    async def _run(self) -> None:
        while not self._is_stopped:
            try:
                await self._listen_to_all(await self._server.primaries())
            except* ServerUnavailableError:
                # Away, or not the one that it was: said by the calls that need it.
                pass
            finally:
                self._near.close()
            await asyncio.sleep(_PAUSE)

    async def _listen_to_all(self, addresses: list[tuple[str, int]]) -> None:
        silent = set(addresses)
        async with asyncio.TaskGroup() as group:
            for address in addresses:
                group.create_task(self._listen(address, silent))
            group.create_task(self._watch(addresses))

    async def _listen(self, address: tuple[str, int], silent: set[tuple[str, int]]) -> None:
        async with self._server.changes(*address) as feed:
            _end_if_cancelled()
            silent.discard(address)
            if not silent:
                self._near.open()
            while not self._is_stopped:
                names = await feed.next()
                _end_if_cancelled()
                if names is None:
                    self._near.flush()
                    continue
                for name in names:
                    changed = read_changed_key(name)
                    if changed is not None:
                        self._near.forget(changed)
                    else:
                        # None of ours, or damaged on its way: then it may have been any.
                        self._near.flush()

    async def _watch(self, addresses: list[tuple[str, int]]) -> None:
        while not self._is_stopped and await self._server.primaries() == addresses:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(_LOOK_AGAIN)
        message = "The cluster's servers have changed."
        raise ServerUnavailableError(message)


def _end_if_cancelled() -> None:
    """Be cancelled after all: the driver loses a cancellation that comes while it connects.

    The group that cancelled this task, as another server went away, would wait for it for ever.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
