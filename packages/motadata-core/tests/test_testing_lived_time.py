"""Lived time goes on with the clock, and stands still while the process gets no turn."""

from __future__ import annotations

import asyncio
import time

from motadata.core.testing.lived_time import LivedTime


async def test_it_goes_on_while_the_loop_has_its_turns() -> None:
    began = time.monotonic()
    async with LivedTime() as lived:
        while lived.seconds < 0.1:  # noqa: ASYNC110 - it is what is measured
            await asyncio.sleep(0.001)

    assert time.monotonic() - began >= 0.1


async def test_it_stands_still_while_the_loop_gets_no_turn() -> None:
    async with LivedTime() as lived:
        await asyncio.sleep(0)
        time.sleep(0.5)  # noqa: ASYNC251 - as a machine does that has no time for us
        await asyncio.sleep(0)

    assert lived.seconds < 0.1
