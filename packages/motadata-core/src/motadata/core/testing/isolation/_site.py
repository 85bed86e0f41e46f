"""What all sites share: the leak they report, a cancelled call, and what a cell may hold."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Final, Protocol, Self, TypeVar

from motadata.core.errors import SDKError, TenantError
from motadata.core.tenancy import tenant_scope
from motadata.core.testing.isolation._operations import INTRUDERS, Operation, choose


Answer = TypeVar("Answer")

_PATIENCE: Final = 60.0
"""Seconds after which a call counts as hanging."""

_PAUSE: Final = 0.05


class Leak(AssertionError):  # noqa: N818 - it is what the property looks for, not a failure of ours
    """A tenant saw, changed or lost something that is another's."""


class Site(Protocol):
    """A store with a model of what each tenant may see in it.

    Attributes:
        name: How reports call it.
        weight: How often it is acted on, compared to the other sites.
        unknown: How many calls were cancelled or refused, so that nobody knows what they did.
    """

    name: str
    weight: int
    unknown: int

    async def __aenter__(self) -> Self:
        """Make ready."""
        ...

    async def __aexit__(self, *details: object) -> None:
        """Let go of what was taken."""
        ...

    async def act(self, tenant: str, operation: Operation) -> None:
        """Do one operation for a tenant and check its answer.

        Tenants act at the same time, one tenant never twice at once.

        Raises:
            Leak: The answer cannot be the tenant's own.
        """
        ...

    async def settle(self) -> None:
        """Check what only shows when nothing is in flight any more.

        Raises:
            Leak: Something arrived at another tenant, or not at its own.
        """
        ...

    async def reset(self) -> None:
        """Forget everything of every tenant."""
        ...


class Unknown:
    """The answer of a call that was cancelled or failed: it may or may not have been done."""


UNKNOWN: Final = Unknown()


async def attempt(
    call: Callable[[], Coroutine[object, object, Answer]], operation: Operation
) -> Answer | Unknown:
    """Await a call, or give it up after so many turns of the loop.

    Raises:
        Leak: It hangs.
    """
    task = asyncio.ensure_future(_bounded(call))
    if operation.cancel_after is not None:
        for _ in range(operation.cancel_after):
            if task.done():
                break
            await asyncio.sleep(0)
        task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        if not task.cancelled() or _is_cancelled():
            task.cancel()
            raise  # the whole run ends
        return UNKNOWN
    except SDKError:
        return UNKNOWN


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _bounded(call: Callable[[], Coroutine[object, object, Answer]]) -> Answer:
    try:
        async with asyncio.timeout(_PATIENCE):
            return await call()
    except TimeoutError:
        message = f"A call hung for {_PATIENCE:g} s."
        raise Leak(message) from None


async def in_the_end(call: Callable[[], Coroutine[object, object, object]]) -> None:
    """Await a call, again for as long as a server is not back from a fault.

    Raises:
        SDKError: It is still not after a minute.
    """
    last = asyncio.get_running_loop().time() + _PATIENCE
    while True:
        try:
            await call()
        except SDKError:
            if asyncio.get_running_loop().time() > last:
                raise
            await asyncio.sleep(_PAUSE)
        else:
            return


async def intrude(
    call: Callable[[str | None], Coroutine[object, object, object]], operation: Operation
) -> None:
    """Call with something that is no tenant, or with none at all, and expect to be refused.

    Raises:
        Leak: It was not refused.
    """
    intruder = choose((None, *INTRUDERS), operation.other)
    try:
        answer = await call(intruder)
    except TenantError:
        return
    except SDKError as error:
        message = f"The tenant {intruder!r} was let in as far as {error.code}."
        raise Leak(message) from error
    message = f"The tenant {intruder!r} was let in and got {answer!r:.80}."
    raise Leak(message)


async def within(
    tenant: str,
    operation: Operation,
    call: Callable[[str | None], Coroutine[object, object, Answer]],
) -> Answer:
    """Name the tenant by keyword or by the scope around the call, as the operation has it."""
    if operation.other % 2:
        return await call(tenant)
    with tenant_scope(tenant):
        return await call(None)


@dataclass(slots=True)
class Cell:
    """What one place of one tenant may hold: serial numbers of its own writes, None for nothing.

    Attributes:
        now: What the last call that returned has left.
        late: What calls of unknown outcome may still do; a server may carry them out afterwards.
    """

    now: set[int | None] = field(default_factory=lambda: {None})
    late: set[int | None] = field(default_factory=set)

    def wrote(self, content: int | None, answer: object) -> None:
        """Note a write and whether its outcome is known."""
        if answer is UNKNOWN:
            self.late.add(content)
        else:
            self.now = {content}

    def allows(self, content: int | None) -> bool:
        """Tell whether the place may hold this."""
        return content in self.now or content in self.late


class Serials:
    """Numbers of all writes of a site, each with its owner; no number is given twice."""

    def __init__(self) -> None:
        self._owners: list[str] = []

    def next(self, tenant: str) -> int:
        """Return a fresh number of the tenant."""
        self._owners.append(tenant)
        return len(self._owners) - 1

    def owner(self, serial: object) -> str | None:
        """Return whose number it is, None for one that was never given."""
        if isinstance(serial, int) and 0 <= serial < len(self._owners):
            return self._owners[serial]
        return None
