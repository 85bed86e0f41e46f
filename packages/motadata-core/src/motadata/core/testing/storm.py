"""Many calls of which half are cancelled in flight, for tests of what that must not leave behind.

    report = await storm(call, calls=2_000)

    assert report.share_cancelled == pytest.approx(0.5, abs=0.1)

Only a call that runs is cancelled: one that has ended or was not begun would show nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final


Call = Callable[[int], Awaitable[object]]
"""Makes the call of a number; it raises when its answer is wrong."""

_WAVES: Final = 20
_GAP: Final = 0.0002
_PATIENCE: Final = 60.0


@dataclass(slots=True)
class StormReport:
    """What came of the calls.

    Attributes:
        calls: How many there were.
        cancelled: How many were cancelled after they had begun and before they ended.
        served: How many returned.
        failures: What the others raised.
    """

    calls: int = 0
    cancelled: int = 0
    served: int = 0
    failures: list[BaseException] = field(default_factory=list)

    @property
    def share_cancelled(self) -> float:
        """The share of all calls that was cancelled in flight."""
        return self.cancelled / self.calls


async def storm(call: Call, *, calls: int, at_once: int = 500, early: float = 0.4) -> StormReport:
    """Make calls, cancel about half of them in flight, and return what came of them.

    Within the first turns of each batch a share is cancelled; from then on one for each that ends,
    so that cancellations meet calls at every point of their way.

    Args:
        call: Makes the call of a number.
        calls: How many.
        at_once: How many of them begin together.
        early: The share to cancel within the first turns; less for calls that queue up.

    Raises:
        TimeoutError: Somebody waits for ever.
    """
    report, chance = StormReport(), random.Random(7)  # noqa: S311 - the same storm in every run
    for first in range(0, calls, at_once):
        batch = _Batch(call, range(first, min(first + at_once, calls)), report, chance)
        async with asyncio.timeout(_PATIENCE):
            await batch.run(early)
    return report


class _Batch:
    """Calls that begin together."""

    def __init__(
        self, call: Call, numbers: range, report: StormReport, chance: random.Random
    ) -> None:
        self._call = call
        self._report = report
        self._chance = chance
        self._first = numbers.start
        self._left = len(numbers) // 2
        self._tasks = [asyncio.create_task(self._watch(number)) for number in numbers]
        # Those that have begun and not ended.
        self._running: dict[asyncio.Task[None], None] = {}

    async def run(self, early: float) -> None:
        """Cancel some within the first turns, and wait for all."""
        first_victims = round(len(self._tasks) * early)
        for wave in range(_WAVES):
            # The first turn begins them all.
            await asyncio.sleep(0 if wave < _WAVES // 2 else _GAP)
            for _ in range(wave, first_victims, _WAVES):
                self._cancel_one()
        try:
            await asyncio.wait(self._tasks)
        finally:
            for task in self._tasks:
                task.cancel()

    def _cancel_one(self) -> None:
        if self._left and self._running:
            self._left -= 1
            victim = self._chance.choice(list(self._running))
            del self._running[victim]
            victim.cancel()

    async def _watch(self, number: int) -> None:
        report, task = self._report, self._tasks[number - self._first]
        self._running[task] = None
        report.calls += 1
        try:
            await self._call(number)
        except asyncio.CancelledError as error:
            if task.cancelling():
                report.cancelled += 1
            else:
                report.failures.append(error)
        except Exception as error:  # noqa: BLE001 - handed over, for the test to judge
            report.failures.append(error)
        else:
            report.served += 1
        self._running.pop(task, None)
        self._cancel_one()
