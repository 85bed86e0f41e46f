"""Turns: fair between owners, in order for each, nothing lost when waiting ends early."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motadata.core.errors import IngestionError
from motadata.ingest._turns import Turns


async def use(turns: Turns, owner: str, log: list[str], gate: asyncio.Event) -> None:
    async with turns.turn(owner, timeout=10):
        log.append(owner)
        await gate.wait()
        await asyncio.sleep(0)


async def test_owner_with_many_files_does_not_hold_up_the_next():
    turns, log, gate = Turns(1, most_waiting=100), list[str](), asyncio.Event()
    tasks = [asyncio.create_task(use(turns, "acme", log, gate)) for _ in range(10)]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(use(turns, "globex", log, gate)))
    await asyncio.sleep(0)

    gate.set()
    await asyncio.gather(*tasks)

    assert log.index("globex") <= 2
    assert len(log) == 11


async def test_too_many_waiting_are_sent_away():
    turns, gate = Turns(1, most_waiting=1), asyncio.Event()
    tasks = [asyncio.create_task(use(turns, "acme", [], gate)) for _ in range(2)]
    await asyncio.sleep(0)

    with pytest.raises(IngestionError, match="wait") as caught:
        async with turns.turn("acme", timeout=1):
            pass

    assert caught.value.retryable
    gate.set()
    await asyncio.gather(*tasks)


async def test_waiting_ends_with_its_timeout_and_the_place_is_not_lost():
    turns = Turns(1, most_waiting=5)

    async with turns.turn("acme", timeout=1):
        with pytest.raises(IngestionError, match="free"):
            async with turns.turn("acme", timeout=0.01):
                pass

    async with turns.turn("acme", timeout=1):
        pass


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(0, 5)), min_size=1, max_size=25
    )
)
def test_cancellation_never_loses_or_doubles_a_place(plan: list[tuple[str, bool, int]]):
    async def run() -> None:
        turns = Turns(2, most_waiting=100)
        inside = 0

        async def one(owner: str, spins: int) -> None:
            nonlocal inside
            async with turns.turn(owner, timeout=10):
                inside += 1
                assert inside <= 2
                try:
                    for _ in range(spins):
                        await asyncio.sleep(0)
                finally:
                    inside -= 1

        tasks = []
        for owner, cancelled, spins in plan:
            task = asyncio.create_task(one(owner, spins))
            tasks.append(task)
            for _ in range(spins // 2):
                await asyncio.sleep(0)
            if cancelled:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert turns._free == 2
        assert not turns._queues

    asyncio.run(run())
