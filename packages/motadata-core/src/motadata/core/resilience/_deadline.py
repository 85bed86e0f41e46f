"""Deadlines that travel with the work: whoever waits knows how long its caller still will.

    with deadline_scope(2.0):
        await gateway.generate_async(…)      # no part of it waits longer than what is left

A nested scope can only shorten. The deadline lives in a context variable, so it follows `await`,
tasks and `asyncio.to_thread`; a thread of another kind needs `contextvars.copy_context().run`.
Work that outlives the caller who begins it takes `context_without_deadline` along instead.
Instants are readings of `time.monotonic`, which is the event loop's clock.
"""

from __future__ import annotations

import asyncio
import math
import time
from contextvars import Context, ContextVar, Token, copy_context
from types import TracebackType

from motadata.core.errors import ConfigurationError, DeadlineExceededError


_deadline: ContextVar[float | None] = ContextVar("motadata_deadline", default=None)


class deadline_scope:  # noqa: N801 - used like a function, as contextlib's own are
    """Allow the block `seconds`, or what is left of the surrounding deadline when that is less.

    The scope interrupts nothing by itself: waits inside it do, by `time_limit` or `remaining`.
    `with deadline_scope(2.0) as instant:` gives the instant at which the time is up; it counts from
    there on. Each is entered once.

    Raises:
        ConfigurationError: `seconds` is not a number; raised on entering.
    """

    __slots__ = ("_seconds", "_token")

    _token: Token[float | None]

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> float:
        """Begin to count."""
        try:
            instant = time.monotonic() + self._seconds
        except (TypeError, OverflowError):
            instant = math.nan
        if math.isnan(instant):
            message = f"A deadline of {self._seconds!r} seconds is none."
            raise ConfigurationError(message, remedy="Give a number of seconds.")
        outer = _deadline.get()
        if outer is not None and outer < instant:
            instant = outer
        self._token = _deadline.set(instant)
        return instant

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Go back to the deadline around the block."""
        _deadline.reset(self._token)


def remaining(limit: float | None = None) -> float | None:
    """Return how many seconds are left, at most `limit`; None when there is neither.

    Never negative: 0.0 says that the time is up.
    """
    instant = _deadline.get()
    if instant is None:
        return limit
    left = max(0.0, instant - time.monotonic())
    return left if limit is None else min(left, limit)


def context_without_deadline() -> Context:
    """Return a copy of the context without a deadline, for work that goes on without its caller.

    `asyncio.create_task(work, context=context_without_deadline())`: a task of the background, or of
    several callers, must not end with the one in whose call it happened to begin.
    """
    context = copy_context()
    context.run(_deadline.set, None)
    return context


def check_deadline(*, what: str) -> None:
    """Stop work that has no `await` to be interrupted at, such as a loop in a thread.

    Raises:
        DeadlineExceededError: The surrounding deadline is over.
    """
    if remaining() == 0.0:
        message = f"The time that the caller allowed was over during {what}."
        raise DeadlineExceededError(message, remedy="Allow more time, or ask for less at once.")


class time_limit:  # noqa: N801 - used like a function, as contextlib's own are
    """Cancel the block when `seconds`, or the surrounding deadline if sooner, are over.

    A `TimeoutError` of the block's own passes as it is. Each is entered once.

    Args:
        seconds: The wait's own limit; None leaves only the deadline.
        what: What was waited for, for the error: `"a database connection"`.

    Raises:
        DeadlineExceededError: The time was up; raised on leaving.
    """

    __slots__ = ("_limit", "_timer", "_what")

    def __init__(self, seconds: float | None, *, what: str) -> None:
        self._limit = seconds
        self._what = what
        self._timer: asyncio.Timeout | None = None

    async def __aenter__(self) -> None:
        """Begin to count."""
        self._limit = remaining(self._limit)
        if self._limit is not None:
            timer = asyncio.timeout(self._limit)
            await timer.__aenter__()
            self._timer = timer

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop counting."""
        timer = self._timer
        if timer is None:
            return
        try:
            await timer.__aexit__(kind, error, traceback)
        except TimeoutError as expired:
            raise self._exceeded() from expired
        if isinstance(error, TimeoutError) and timer.expired():
            raise self._exceeded() from error

    def _exceeded(self) -> DeadlineExceededError:
        message = (
            f"Waiting for {self._what} took longer than the {self._limit:.3g} s that were left."
        )
        return DeadlineExceededError(
            message, remedy="Allow more time, or ask for less work at once."
        )
