"""A gate in what an implementation waits for, closed by the kits' tests of cancellation.

Whoever runs the kit of an agent, a memory, a predictor or an ingestion service puts
`await gate.passage()` where theirs waits for something else: into the model, the store, or the
knowledge base that stands behind it in the tests. Open, it lets everybody through at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import pytest

from motadata.core.errors import DeadlineExceededError
from motadata.core.resilience import deadline_scope


SHORT: Final = 0.1
"""Seconds that callers allow for what waits at a closed gate."""


class Gate:
    """Open until a test closes it.

    Attributes:
        reached: Set when somebody waits at the closed gate.
        left: Set when who waited there waits no more, cancelled or let through.
    """

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.left = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()

    def close(self) -> None:
        """Let nobody through from now on."""
        self.reached.clear()
        self.left.clear()
        self._open.clear()

    def open(self) -> None:
        """Let everybody through, also who waits."""
        self._open.set()

    async def passage(self) -> None:
        """Return at once when the gate is open, and else when it opens."""
        if self._open.is_set():
            return
        self.reached.set()
        try:
            await self._open.wait()
        finally:
            self.left.set()


async def cancel_at(gate: Gate, call: Callable[[], Awaitable[object]], *, patience: float) -> None:
    """Cancel a call when it waits at the gate, and check that this ends the call.

    The gate is open again afterwards.

    Args:
        gate: Where the call waits.
        call: What to begin.
        patience: Seconds after which what has not come, or not ended, never will.
    """
    gate.close()
    task = asyncio.ensure_future(call())
    try:
        await _reached(gate, task, patience)
        task.cancel()
        await asyncio.wait({task}, timeout=patience)
        assert task.cancelled(), "The call did not end as cancelled."
    finally:
        gate.open()
        task.cancel()
        await asyncio.wait({task}, timeout=patience)


async def outlast_deadline_at(
    gate: Gate, call: Callable[[], Awaitable[object]], *, patience: float
) -> None:
    """Check that a call which waits at the gate ends with the deadline of its caller.

    The gate is open again afterwards.

    Args:
        gate: Where the call waits.
        call: What to begin.
        patience: Seconds after which what has not ended never will.
    """
    gate.close()
    try:
        with pytest.raises(DeadlineExceededError):
            async with asyncio.timeout(patience):
                with deadline_scope(SHORT):
                    await call()
    finally:
        gate.open()


async def _reached(gate: Gate, task: asyncio.Future[object], patience: float) -> None:
    waiting: asyncio.Future[object] = asyncio.ensure_future(gate.reached.wait())
    both = (waiting, task)
    await asyncio.wait(both, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    assert gate.reached.is_set(), "The call did not come to the gate: await `gate.passage()` in it."
