"""Faults as a site among the others: what tenants do while a connection breaks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Self

from motadata.core.testing.fault_proxy import FaultProxy, Faults
from motadata.core.testing.isolation._operations import Operation, choose


_STATES: Final = (
    Faults(),
    Faults(),
    Faults(torn=7),
    Faults(latency=0.002, jitter=0.004),
    Faults(cut_every=4_000),
    Faults(cut_every=4_000, cut_by="close"),
)


class NetworkSite:
    """Cuts and disturbs the connections to the servers; the tenant who acts does not matter.

    The other sites of the world must be told that answers may be missing (`forgetful`).

    Args:
        proxies: The proxies through which the other sites reach their servers.
        failovers: What else may happen to a server, such as a kill and a start.
        weight: How often something happens.
    """

    name = "network"

    def __init__(
        self,
        proxies: Sequence[FaultProxy],
        *,
        failovers: Sequence[Callable[[], Awaitable[None]]] = (),
        weight: int = 1,
    ) -> None:
        self.weight = weight
        self.unknown = 0
        self._proxies = proxies
        self._failovers = failovers

    async def __aenter__(self) -> Self:
        """Do nothing: whoever made the proxies has entered them."""
        return self

    async def __aexit__(self, *details: object) -> None:
        """Let the network be well again."""
        await self.settle()

    async def act(self, tenant: str, operation: Operation) -> None:
        """Cut the connections of one server, change what goes wrong, or fail a server over."""
        del tenant
        verb = operation.verb % 8
        if verb == 0 and self._failovers:
            await choose(self._failovers, operation.key)()
            return
        proxy = choose(self._proxies, operation.key)
        if verb < 5:
            proxy.cut(by="reset" if operation.other % 2 else "close")
        else:
            proxy.faults = choose(_STATES, operation.other)

    async def settle(self) -> None:
        """Let the network be well again."""
        for proxy in self._proxies:
            proxy.faults = Faults()
            proxy.resume()

    async def reset(self) -> None:
        """Let the network be well again."""
        await self.settle()
