"""The contract of a component's lifecycle as tests: subclass and give the fixture `component`.

    class TestMine(ComponentConformance):
        @pytest.fixture
        def component(self) -> Component:
            return create_mine()

A component that depends on something which may not answer, such as a server, subclasses
`DependentComponentConformance` and gives the fixture `silenced` too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import ClassVar, get_args

import pytest

from motadata.core.models import Health
from motadata.core.models.health import HealthStatus
from motadata.core.protocols import Component


Silenced = Callable[[], AbstractAsyncContextManager[None]]
"""Begins a block within which what a component depends on does not answer."""


class ComponentConformance:
    """What every implementation of `motadata.core.protocols.Component` must do.

    Attributes:
        patience: Seconds after which what should have ended is taken to hang.
    """

    patience: ClassVar[float] = 30.0

    @pytest.fixture
    def component(self) -> Component:
        """Supply the implementation, not entered."""
        message = "A subclass supplies the fixture `component`."
        raise NotImplementedError(message)

    async def test_it_fits_the_protocol(self, component: Component) -> None:
        assert isinstance(component, Component)

    async def test_entered_it_serves(self, component: Component) -> None:
        async with component as entered:
            assert isinstance(entered, Component)
            assert (await entered.health()).status in {"ok", "degraded"}

    async def test_health_is_told_at_any_time(self, component: Component) -> None:
        before = await component.health()
        async with component:
            pass
        after = await component.health()

        for health in (before, after):
            assert isinstance(health, Health)
            assert health.status in get_args(HealthStatus)

    async def test_leaving_ends_every_task_that_it_began(self, component: Component) -> None:
        before = asyncio.all_tasks()

        async with asyncio.timeout(self.patience):
            async with component:
                await component.health()

        await _ended(asyncio.all_tasks() - before, patience=self.patience)

    async def test_error_of_the_block_passes_and_everything_is_released(
        self, component: Component
    ) -> None:
        before = asyncio.all_tasks()

        with pytest.raises(LookupError, match="the block's own"):
            async with component:
                message = "the block's own"
                raise LookupError(message)

        await _ended(asyncio.all_tasks() - before, patience=self.patience)

    async def test_cancelled_block_ends_as_cancelled_and_everything_is_released(
        self, component: Component
    ) -> None:
        before = asyncio.all_tasks()
        entered = asyncio.Event()

        async def work() -> None:
            async with component:
                entered.set()
                await asyncio.Event().wait()

        task = asyncio.ensure_future(work())
        async with asyncio.timeout(self.patience):
            await entered.wait()
        task.cancel()
        await asyncio.wait({task}, timeout=self.patience)

        assert task.cancelled()
        await _ended(asyncio.all_tasks() - before, patience=self.patience)


class DependentComponentConformance(ComponentConformance):
    """What every component does that depends on something which may not answer."""

    @pytest.fixture
    def silenced(self) -> Silenced:
        """Supply a block within which what the component depends on does not answer."""
        message = "A subclass supplies the fixture `silenced`."
        raise NotImplementedError(message)

    async def test_health_is_told_while_the_dependency_is_silent(
        self, component: Component, silenced: Silenced
    ) -> None:
        async with component, silenced():
            # The contract says two seconds; this is for a busy machine.
            async with asyncio.timeout(self.patience):
                health = await component.health()

            assert health.status in {"degraded", "down"}
            assert health.detail


async def _ended(tasks: set[asyncio.Task[object]], *, patience: float) -> None:
    """Check that tasks end; those of a server in the tests' own loop take a moment to notice."""
    if tasks:
        _, left = await asyncio.wait(tasks, timeout=patience)
        assert left == set()
