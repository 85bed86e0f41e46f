"""The lifecycle that every component shares."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from motadata.core.models import Health


@runtime_checkable
class Component(Protocol):
    """An async context manager that can be asked how it is.

    Entering acquires what the component holds open; leaving finishes or cancels what it started and
    releases everything, whatever happened in between. `health` answers within two seconds, never
    raises for a sick dependency, and its detail names the remedy.
    """

    async def __aenter__(self) -> Self:
        """Acquire connections, processes and files."""
        ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release all of it."""
        ...

    async def health(self) -> Health:
        """Say whether it can serve now."""
        ...
