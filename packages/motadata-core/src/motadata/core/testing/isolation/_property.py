"""The property itself, for a test: Hypothesis's short programs first, then a long random one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TypeVar

from motadata.core.testing.isolation._operations import Operation, programs, random_operations
from motadata.core.testing.isolation._site import Leak
from motadata.core.testing.isolation._world import World


Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class IsolationReport:
    """What a check did without finding anything.

    Attributes:
        operations: How many operations each site saw, by the site's name.
        unknown: How many of all were cancelled or refused.
    """

    operations: dict[str, int]
    unknown: int


def check_isolation(
    open_world: Callable[[], AbstractAsyncContextManager[World]],
    *,
    examples: int = 60,
    operations: int = 4_000,
    shrink: bool = True,
    timeout: float = 100.0,
) -> IsolationReport:
    """Run the property on a world and return what was done; for a test that is not a coroutine.

    Hypothesis tries `examples` short programs and shrinks what fails; then `operations` random ones
    run in one go. Everything runs on a loop in a thread of its own.

    Args:
        open_world: Makes the world; it is entered and left on that loop.
        examples: Short programs to try.
        operations: Length of the long one.
        shrink: Whether to look for the shortest program that fails.
        timeout: Seconds that one program may take.

    Raises:
        Leak: A tenant met what is another's.
    """
    with ThreadPoolExecutor(1) as executor:
        runner = asyncio.Runner()

        def run(work: Coroutine[object, object, Result]) -> Result:
            return executor.submit(runner.run, work).result(timeout)

        context = open_world()
        try:
            world = run(context.__aenter__())
            try:
                _try_short_programs(world, run, examples=examples, shrink=shrink)
                run(world.run(random_operations(world, seed=1, count=operations)))
            finally:
                run(context.__aexit__(None, None, None))
        finally:
            executor.submit(runner.close).result(timeout)
        return IsolationReport(dict(world.counts), sum(site.unknown for site in world.sites))


def _try_short_programs(
    world: World,
    run: Callable[[Coroutine[object, object, None]], None],
    *,
    examples: int,
    shrink: bool,
) -> None:
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis.errors import Flaky

    phases = (Phase.generate, Phase.shrink) if shrink else (Phase.generate,)

    async def one(program: list[Operation]) -> None:
        try:
            await world.run(program)
        finally:
            await world.reset()

    @settings(
        max_examples=examples,
        deadline=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(program=programs(world))
    def no_tenant_meets_another(program: list[Operation]) -> None:
        run(one(program))

    try:
        no_tenant_meets_another()
    except Flaky as error:
        # Tenants act at the same time, so a leak need not come back when its program is repeated.
        message = f"A leak that does not come every time: {_leak_in(error)}"
        raise Leak(message) from error


def _leak_in(error: BaseException) -> BaseException:
    """Return the first failure of those that Hypothesis saw."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
