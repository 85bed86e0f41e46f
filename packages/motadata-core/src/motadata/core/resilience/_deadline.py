"""Deadlines that travel with the work: whoever waits knows how long its caller still will.

    with deadline_scope(2.0):
        await gateway.generate_async(…)      # no part of it waits longer than what is left

A nested scope can only shorten. The deadline lives in a context variable, so it follows `await`,
tasks and `asyncio.to_thread`; a thread of another kind needs `contextvars.copy_context().run`.
Work that outlives the caller who begins it takes `context_without_deadline` along instead; work
that several callers wait for has a `SharedDeadline`.
Instants are readings of `time.monotonic`, which is the event loop's clock.
"""

from __future__ import annotations

import math
import time
from contextvars import Context, Token, copy_context
from types import TracebackType

from motadata.core.errors import ConfigurationError, DeadlineExceededError
from motadata.core.resilience._ends import CURRENT, Deadline, Shortened, end_of
from motadata.core.resilience._timeouts import block_timeout


class deadline_scope:  # noqa: N801 - used like a function, as contextlib's own are
    """Allow the block `seconds`, or what is left of the surrounding deadline when that is less.

    The scope interrupts nothing by itself: waits inside it do, by `time_limit` or `remaining`.
    `with deadline_scope(2.0) as instant:` gives the instant at which the time is up; it counts from
    there on. Each is entered once.

    Within a `SharedDeadline` that moves on, the block's own seconds still count.

    Raises:
        ConfigurationError: `seconds` is not a number; raised on entering.
    """

    __slots__ = ("_seconds", "_token")

    _token: Token[Deadline]

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
        outer = CURRENT.get()
        if isinstance(outer, float):
            instant = min(instant, outer)
        elif outer is not None:
            self._token = CURRENT.set(Shortened(instant, outer))
            return min(instant, end_of(outer))
        self._token = CURRENT.set(instant)
        return instant

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Go back to the deadline around the block."""
        CURRENT.reset(self._token)


def remaining(limit: float | None = None) -> float | None:
    """Return how many seconds are left, at most `limit`; None when there is neither.

    Never negative: 0.0 says that the time is up.
    """
    instant = CURRENT.get()
    if instant is not None and not isinstance(instant, float):
        instant = end_of(instant)
        instant = None if instant == math.inf else instant
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
    context.run(CURRENT.set, None)
    return context


def check_deadline(*, what: str) -> None:
    """Stop work that has no `await` to be interrupted at, such as a loop in a thread.

    Raises:
        DeadlineExceededError: The surrounding deadline is over.
    """
    if remaining() == 0.0:
        message = f"The time that the caller allowed was over during {what}."
        raise DeadlineExceededError(message, remedy="Allow more time, or ask for less at once.")


class time_limit(block_timeout):  # noqa: N801 - used like a function, as contextlib's own are
    """Cancel the block when `seconds`, or the surrounding deadline if sooner, are over.

    A deadline that moves on meanwhile moves the end of the block with it. A `TimeoutError` of the
    block's own passes as it is. Each is entered once.

    Args:
        seconds: The wait's own limit; None leaves only the deadline.
        what: What was waited for, for the error: `"a database connection"`.

    Raises:
        DeadlineExceededError: The time was up; raised on leaving.
    """

    __slots__ = ("_began", "_end", "_what")

    def __init__(self, seconds: float | None, *, what: str) -> None:
        super().__init__(seconds)
        self._what = what
        self._began = 0.0
        self._end: Deadline = None

    async def __aenter__(self) -> None:
        """Begin to count."""
        deadline, own = CURRENT.get(), self._seconds
        if deadline is not None:
            self._began = time.monotonic()
            end = math.inf if own is None else self._began + own
            if isinstance(deadline, float):
                end = min(end, deadline)
            else:
                self._end = Shortened(end, deadline)
                end = end_of(self._end)
            self._seconds = max(0.0, end - self._began)
        if self._seconds is not None:
            self._begin(self._seconds)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop counting."""
        if self._leave(kind) or (self._expired and isinstance(error, TimeoutError)):
            raise self._exceeded() from error

    def _expire(self) -> None:
        if self._end is not None and (left := end_of(self._end) - time.monotonic()) > 0:
            self._seconds = left + time.monotonic() - self._began
            self._wait(left)
        else:
            super()._expire()

    def _exceeded(self) -> DeadlineExceededError:
        message = (
            f"Waiting for {self._what} took longer than the {self._seconds:.3g} s that were left."
        )
        return DeadlineExceededError(
            message, remedy="Allow more time, or ask for less work at once."
        )
