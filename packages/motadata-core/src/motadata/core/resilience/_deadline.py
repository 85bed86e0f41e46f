"""Deadlines that travel with the work: whoever waits knows how long its caller still will.

    with deadline_scope(2.0):
        await gateway.generate_async(…)      # no part of it waits longer than what is left

A nested scope can only shorten. The deadline lives in a context variable, so it follows `await`,
tasks and `asyncio.to_thread`; a thread of another kind needs `contextvars.copy_context().run`.
Instants are readings of `time.monotonic`, which is the event loop's clock.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar

from motadata.core.errors import ConfigurationError, DeadlineExceededError


_deadline: ContextVar[float | None] = ContextVar("motadata_deadline", default=None)


@contextmanager
def deadline_scope(seconds: float) -> Iterator[float]:
    """Allow the block `seconds`, or what is left of the surrounding deadline when that is less.

    The scope interrupts nothing by itself: waits inside it do, by `time_limit` or `remaining`.
    Yields the instant at which the time is up.

    Raises:
        ConfigurationError: `seconds` is not a number.
    """
    if math.isnan(seconds):
        message = f"A deadline of {seconds!r} seconds is none."
        raise ConfigurationError(message, remedy="Give a number of seconds.")
    instant = time.monotonic() + seconds
    outer = _deadline.get()
    if outer is not None and outer < instant:
        instant = outer
    token = _deadline.set(instant)
    try:
        yield instant
    finally:
        _deadline.reset(token)


def remaining(limit: float | None = None) -> float | None:
    """Return how many seconds are left, at most `limit`; None when there is neither.

    Never negative: 0.0 says that the time is up.
    """
    instant = _deadline.get()
    if instant is None:
        return limit
    left = max(0.0, instant - time.monotonic())
    return left if limit is None else min(left, limit)


def check_deadline(*, what: str) -> None:
    """Stop work that has no `await` to be interrupted at, such as a loop in a thread.

    Raises:
        DeadlineExceededError: The surrounding deadline is over.
    """
    if remaining() == 0.0:
        message = f"The time that the caller allowed was over during {what}."
        raise DeadlineExceededError(message, remedy="Allow more time, or ask for less at once.")


@asynccontextmanager
async def time_limit(seconds: float | None, *, what: str) -> AsyncIterator[None]:
    """Cancel the block when `seconds`, or the surrounding deadline if sooner, are over.

    A `TimeoutError` of the block's own passes as it is.

    Args:
        seconds: The wait's own limit; None leaves only the deadline.
        what: What was waited for, for the error: `"a database connection"`.

    Raises:
        DeadlineExceededError: The time was up.
    """
    limit = remaining(seconds)
    timer = asyncio.timeout(limit)
    try:
        async with timer:
            yield
    except TimeoutError as error:
        if limit is None or not timer.expired():
            raise
        message = f"Waiting for {what} took longer than the {limit:.3g} s that were left."
        raise DeadlineExceededError(
            message, remedy="Allow more time, or ask for less work at once."
        ) from error
