"""Who is served from memory while a server is away, and the return of that server.

Whoever fails to reach a server begins its outage. From then on its tenants are served from memory
and what they change is noted. The server is asked five times a second; once it is back it is told
the changes, and only then is used again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from motadata.core.cache._key import CacheKey, redis_names
from motadata.core.cache._outage import Change, Outage
from motadata.core.cache._redis_calls import Command, ServerUnavailableError
from motadata.core.cache._redis_engine import RedisEngine
from motadata.core.observability import get_logger
from motadata.core.resilience import context_without_deadline


_PROBE_EVERY: Final = 0.2
_SETTLE: Final = 0.1

_log = get_logger("cache")


class Outages:
    """The outages of one server, or of the servers of a cluster.

    Args:
        far: The server.
        forget: Forgets what memory holds for a tenant; called when the server serves it again.
    """

    def __init__(self, far: RedisEngine, forget: Callable[[str], Awaitable[None]]) -> None:
        self.count = 0
        self._far = far
        self._forget = forget
        self._by_server: dict[str, Outage] = {}
        self._by_tenant: dict[str, Outage] = {}
        self._returning: set[asyncio.Task[None]] = set()
        self._is_closed = False

    @property
    def any(self) -> bool:
        """Whether a server is away."""
        return bool(self._by_server)

    @property
    def concern_somebody(self) -> bool:
        """Whether a tenant is served from memory."""
        return bool(self._by_tenant)

    def of(self, tenant: str) -> Outage | None:
        """Return the outage that concerns a tenant, if there is one."""
        if not self._by_server:
            return None
        return self._by_tenant.get(tenant) or self._by_server.get(self._server_of(tenant))

    def begin(self, tenant: str, error: ServerUnavailableError) -> Outage:
        """Return the outage of a tenant's server, which was just found away."""
        outage = self.of(tenant)
        if outage is None:
            _log.warning("The cache's server is away; memory serves instead.", reason=str(error))
            self.count += 1
            server = self._server_of(tenant)
            outage = self._by_server[server] = Outage(server, tenant)
            if not self._is_closed:
                task = asyncio.create_task(
                    self._wait_for_return(outage), context=context_without_deadline()
                )
                self._returning.add(task)
                task.add_done_callback(self._returning.discard)
        return outage

    def note(self, outage: Outage, tenant: str, changes: tuple[Change, ...]) -> None:
        """Note that a tenant is served from memory, and what it changes there."""
        self._by_tenant[tenant] = outage
        outage.note(tenant, None)
        for change in changes:
            outage.note(tenant, change)

    async def close(self) -> None:
        """Wait for no return any more, not even of a server that is found away from now on."""
        self._is_closed = True
        for task in self._returning:
            task.cancel()
        if self._returning:
            await asyncio.wait(self._returning)

    def _server_of(self, tenant: str) -> str:
        return self._far.server.partition(redis_names(tenant, "default").generation_key)

    async def _wait_for_return(self, outage: Outage) -> None:
        while True:
            await asyncio.sleep(_PROBE_EVERY)
            try:
                await self._probe(outage.probe)
                # What was sent before it went may still be waiting in front of it.
                await asyncio.sleep(_SETTLE)
                await self._probe(outage.probe)
                await self._tell(outage)
            except ServerUnavailableError:
                continue
            break
        for tenant in outage.tenants:
            self._by_tenant.pop(tenant, None)
        del self._by_server[outage.partition]
        _log.info("The cache's server is back.")
        for tenant in outage.tenants:
            await self._forget(tenant)

    async def _probe(self, tenant: str) -> None:
        """See whether the server takes changes, by one that changes nothing."""
        key = redis_names(tenant, "default").lock_head
        await self._far.server.call(Command(["UNLINK", key]))

    async def _tell(self, outage: Outage) -> None:
        """Tell the server what changed meanwhile; what changes from now on is told by who does it.

        Otherwise who changes faster than the server is told would keep it away for ever.
        """
        outage.is_returning = True
        while outage.changes:
            tenant, changes = outage.changes.popitem()
            try:
                await self._tell_all(tenant, changes)
            except BaseException:
                outage.is_returning = False
                for change in changes:
                    outage.note(tenant, change)
                raise

    async def _tell_all(self, tenant: str, changes: Iterable[Change]) -> None:
        keys: dict[str, list[str]] = {}
        for kind, space, what in changes:
            match kind:
                case "key":
                    keys.setdefault(space, []).append(what)
                case "pattern":
                    await self._far.invalidate_pattern(CacheKey(tenant, space, what))
                case "tag":
                    await self._far.invalidate_tag(tenant, what)
                case "tenant":
                    await self._far.invalidate_tenant(tenant)
        for space, some in keys.items():
            await self._far.delete_many(tenant, space, some)
