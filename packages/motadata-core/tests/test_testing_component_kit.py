"""The kit for components passes those that need no server, and finds the mistakes of others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Protocol, Self

import pytest

from motadata.core.cache import create_memory_cache
from motadata.core.models import Health
from motadata.core.protocols import Component
from motadata.core.testing.component import (
    ComponentConformance,
    DependentComponentConformance,
    Silenced,
)
from motadata.core.testing.gate import Gate


class Complaint(Protocol):
    async def __call__(self, kit: object, test: str, **fixtures: object) -> str: ...


class Listener:
    """Listens in a task of its own while it is entered."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._listen())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        return None

    async def health(self) -> Health:
        if self._task is None or self._task.done():
            return Health("down", detail="It is not entered; use it within `async with`.")
        return await self.asked()

    async def asked(self) -> Health:
        try:
            async with asyncio.timeout(0.1):
                await self._gate.passage()
        except TimeoutError:
            return Health("degraded", detail="What it listens to is silent; look at its server.")
        return Health("ok")

    async def _listen(self) -> None:
        await asyncio.Event().wait()


class LeavingItsTaskBehind(Listener):
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None: ...


class LeavingItsTaskBehindAfterErrors(Listener):
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return None if error else await super().__aexit__(kind, error, traceback)


class SwallowingErrors(Listener):
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        await super().__aexit__(kind, error, traceback)
        return True


class HealthyOnlyWithin(Listener):
    async def health(self) -> Health:
        assert self._task is not None
        return await super().health()


class NeverSick(Listener):
    async def asked(self) -> Health:
        return Health("ok")


class WaitingForTheSick(Listener):
    async def asked(self) -> Health:
        await self._gate.passage()
        return Health("ok")


class SickWithoutAWord(Listener):
    async def asked(self) -> Health:
        return Health((await super().asked()).status)


def silence(gate: Gate) -> Silenced:
    @asynccontextmanager
    async def silenced() -> AsyncIterator[None]:
        gate.close()
        yield
        gate.open()

    return silenced


class TestMemoryCache(ComponentConformance):
    @pytest.fixture
    def component(self) -> Component:
        return create_memory_cache()


class TestListener(DependentComponentConformance):
    @pytest.fixture
    def gate(self) -> Gate:
        return Gate()

    @pytest.fixture
    def component(self, gate: Gate) -> Component:
        return Listener(gate)

    @pytest.fixture
    def silenced(self, gate: Gate) -> Silenced:
        return silence(gate)


class Hasty(DependentComponentConformance):
    """Loses its patience early, for implementations that hang."""

    patience = 0.3


@pytest.mark.parametrize(
    ("mistaken", "test"),
    [
        (LeavingItsTaskBehind, "test_leaving_ends_every_task_that_it_began"),
        (
            LeavingItsTaskBehindAfterErrors,
            "test_error_of_the_block_passes_and_everything_is_released",
        ),
        (
            LeavingItsTaskBehindAfterErrors,
            "test_cancelled_block_ends_as_cancelled_and_everything_is_released",
        ),
        (SwallowingErrors, "test_error_of_the_block_passes_and_everything_is_released"),
        (SwallowingErrors, "test_cancelled_block_ends_as_cancelled_and_everything_is_released"),
        (HealthyOnlyWithin, "test_health_is_told_at_any_time"),
        (NeverSick, "test_health_is_told_while_the_dependency_is_silent"),
        (WaitingForTheSick, "test_health_is_told_while_the_dependency_is_silent"),
        (SickWithoutAWord, "test_health_is_told_while_the_dependency_is_silent"),
    ],
)
async def test_kit_finds(mistaken: type[Listener], test: str, complaint: Complaint):
    honest, gate = Gate(), Gate()
    kit, component = DependentComponentConformance(), mistaken(gate)

    assert not await complaint(kit, test, component=Listener(honest), silenced=silence(honest))
    assert await complaint(Hasty(), test, component=component, silenced=silence(gate))
    await Listener.__aexit__(component, None, None, None)
