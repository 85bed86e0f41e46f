"""The storm of cancellations cancels what runs, about half of it, and hides no failure."""

from __future__ import annotations

import asyncio

import pytest

from motadata.core.testing.storm import storm


@pytest.mark.parametrize("early", [0.0, 0.4])
async def test_half_of_the_calls_are_cancelled_while_they_run(early: float) -> None:
    begun = ended = cancelled = 0

    async def call(number: int) -> None:
        nonlocal begun, ended, cancelled
        begun += 1
        try:
            for _ in range(number % 40):
                await asyncio.sleep(0)
            await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            cancelled += 1
            raise
        ended += 1

    report = await storm(call, calls=1_100, early=early)

    assert (report.calls, report.cancelled, report.served) == (begun, cancelled, ended)
    assert begun == 1_100
    assert report.share_cancelled == pytest.approx(0.5, abs=0.1)


async def test_call_that_ends_at_once_cannot_be_cancelled_and_does_not_count_as_such() -> None:
    async def call(number: int) -> None:
        pass

    report = await storm(call, calls=100)

    assert (report.cancelled, report.served) == (0, 100)


async def test_what_a_call_raises_is_reported_as_is_a_cancellation_from_within() -> None:
    async def call(number: int) -> None:
        if number == 3:
            raise LookupError
        if number == 4:
            raise asyncio.CancelledError
        await asyncio.sleep(0.001)

    report = await storm(call, calls=10, early=0.0)

    assert [type(failure) for failure in report.failures] == [LookupError, asyncio.CancelledError]
    assert report.served + report.cancelled == 8
