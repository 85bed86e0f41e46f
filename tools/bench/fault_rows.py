"""The rows of `faults.py`: callers under load, a fault in the middle, and what that cost them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from asked import asked
from fault_loads import Account, CacheLoad

from motadata.core.errors import SDKError
from motadata.core.resilience import deadline_scope
from motadata.core.testing.fault_proxy import FaultProxy, Faults


Break = Callable[[], Awaitable[None]]

QUIET: Final = 1.0
"""Seconds of load before the fault; the fault itself takes half of the rest."""
GRACE: Final = 0.05
"""Seconds by which a call may outlive its deadline."""


class Load(Protocol):
    """Calls on one store, and the account of what it acknowledged."""

    deadline: float
    workers: int

    async def call(self, worker: int, number: int) -> bool:
        """Do one call; tell whether its answer was right."""
        ...

    async def settle(self) -> Account:
        """Return what was acknowledged since the last time, and what of it is not as it should."""
        ...


@dataclass
class Tally:
    """What the callers of one row saw, in all its rounds."""

    calls: int = 0
    answered: int = 0
    wrong: int = 0
    over: int = 0
    late: float = 0.0
    stall: float = 0.0
    untyped: str = ""


@dataclass(frozen=True)
class Rows:
    """Prints one row a fault.

    Attributes:
        seconds: How long the load of one round runs.
        rounds: How often each thing is broken under load; a row counts all of them.
    """

    seconds: float
    rounds: int

    def head(self) -> None:
        """Print what the columns are."""
        heads = ("calls", "acked", "lost", "twice", "torn")
        print(f"{'fault':<42}{''.join(f'{head:>8}' for head in heads)}", end="")
        print(f"{'answered':>9}{'wrong':>6}{'over':>6}{'late':>7}{'stall':>7}  (ms)")

    async def row(
        self,
        title: str,
        load: Load,
        breaking: Break,
        healing: Break,
        *,
        least: float = 0.0,
        rounds: int | None = None,
    ) -> None:
        """Break and heal under load, so many times, and print what all of it did.

        Args:
            title: Of the row.
            load: What is called.
            breaking: Does the damage.
            healing: Undoes it.
            least: Seconds that a round of this row takes at least.
            rounds: None takes as many as all other rows have.
        """
        tally, account = Tally(), Account()
        for _ in range(self.rounds if rounds is None else rounds):
            await _drive(load, breaking, healing, tally, max(self.seconds, least))
            account += await load.settle()
        share = tally.answered / max(1, tally.calls)
        print(
            f"{title:<42}{tally.calls:>8}{account.columns()}{share:>9.1%}{tally.wrong:>6}"
            f"{tally.over:>6}{max(0.0, tally.late) * 1e3:>7.0f}{tally.stall * 1e3:>7.0f}"
            f"  {tally.untyped}",
            flush=True,
        )
        broken = sum((account.lost or 0, account.twice or 0, account.torn or 0, tally.wrong))
        asked(f"{title}: lost, twice, torn or wrong", broken, most=0)
        asked(f"{title}: calls beyond deadline + 50 ms", tally.over, most=0)
        if isinstance(load, CacheLoad):
            asked(f"{title}: answered", 100 * share, least=99, unit="%")


async def _drive(load: Load, breaking: Break, healing: Break, tally: Tally, seconds: float) -> None:
    """Run the load, break something meanwhile, heal it, and let the load go on for a while."""
    stop = asyncio.Event()
    workers = [asyncio.create_task(_work(load, n, tally, stop)) for n in range(load.workers)]
    watch = asyncio.create_task(_watch(tally, stop))
    await asyncio.sleep(QUIET)
    await breaking()
    await asyncio.sleep((seconds - QUIET) / 2)
    await healing()
    await asyncio.sleep((seconds - QUIET) / 2)
    stop.set()
    await asyncio.gather(watch, *workers)


async def _work(load: Load, worker: int, tally: Tally, stop: asyncio.Event) -> None:
    number = 0
    while not stop.is_set():
        number += 1
        tally.calls += 1
        started = time.monotonic()
        try:
            with deadline_scope(load.deadline):
                right = await load.call(worker, number)
        except SDKError:
            await asyncio.sleep(0.005)  # a caller that does not hammer
        except Exception as error:  # noqa: BLE001 - an untyped error is a finding, to be shown
            tally.untyped = type(error).__name__
        else:
            tally.answered += right
            tally.wrong += not right
        late = time.monotonic() - started - load.deadline
        tally.late = max(tally.late, late)
        tally.over += late > GRACE
        await asyncio.sleep(0)


async def _watch(tally: Tally, stop: asyncio.Event) -> None:
    while not stop.is_set():
        started = time.monotonic()
        await asyncio.sleep(0.005)
        tally.stall = max(tally.stall, time.monotonic() - started - 0.005)


async def nothing() -> None:
    """Break or heal nothing."""


def weather(proxy: FaultProxy, faults: Faults) -> tuple[Break, Break]:
    """Return how to make the proxy's network bad and well again."""

    async def worsen() -> None:
        proxy.faults = faults

    async def heal() -> None:
        proxy.faults = Faults()

    return worsen, heal


def refusing(proxy: FaultProxy) -> tuple[Break, Break]:
    """Return how to let a server vanish, as seen from here, and come back."""
    vanish, heal = weather(proxy, Faults(refuse=True))

    async def cut() -> None:
        await vanish()
        proxy.cut()

    return cut, heal


def stalling(proxy: FaultProxy) -> tuple[Break, Break]:
    """Return how to hold all traffic, and let it pass again."""

    async def pause() -> None:
        proxy.pause()

    async def resume() -> None:
        proxy.resume()

    return pause, resume
