"""The limit to a stream's silence, on a clock that the tests move."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from motadata.gateway._silence import SilenceLimit


Move = Callable[[float], None]


@pytest.fixture
async def move(monkeypatch: pytest.MonkeyPatch) -> Move:
    """Return what moves the loop's clock, which stands still otherwise."""
    loop = asyncio.get_running_loop()
    now = [loop.time()]
    monkeypatch.setattr(loop, "time", lambda: now[0])

    def move(seconds: float) -> None:
        now[0] += seconds

    return move


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_wait_that_lasts_too_long_ends_the_block(move: Move):
    async def wait() -> None:
        async with SilenceLimit(10):
            move(10.1)
            await turns()

    with pytest.raises(TimeoutError):
        await wait()


async def test_many_waits_may_last_longer_together(move: Move):
    parts = 0
    async with SilenceLimit(10) as silence:
        for _ in range(20):
            move(7)
            await turns()
            silence.ended()
            parts += 1
            silence.begins()

    assert parts == 20


async def test_time_in_which_nothing_is_waited_for_does_not_count(move: Move):
    async with SilenceLimit(10) as silence:
        silence.ended()
        for _ in range(5):
            move(35)
            await turns()
        silence.begins()
        move(9)
        await turns()


async def test_wait_after_a_pause_is_limited_from_its_own_beginning(move: Move):
    passed: list[int] = []

    async def wait() -> None:
        async with SilenceLimit(10) as silence:
            silence.ended()
            move(14)
            await turns()
            silence.begins()
            for second in range(1, 13):
                move(1)
                await turns()
                passed.append(second)

    with pytest.raises(TimeoutError):
        await wait()
    assert passed[-1] == 9


async def test_nothing_is_left_on_the_loop_afterwards(move: Move):
    async with SilenceLimit(10):
        pass
    move(1_000)
    await turns()

    assert not asyncio.current_task().cancelling()  # type: ignore[union-attr]
