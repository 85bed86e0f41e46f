"""When the time is up: at an instant, or at one that moves with those who wait."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final


class SharedDeadline:
    """The deadline of work that several callers wait for: that of whoever waits longest.

        deadline = SharedDeadline()
        with deadline.waiting():           # each caller, around its wait
            …
        with deadline.scope():             # the work, in a task with `context_without_deadline`
            remaining()                    # moves as callers come and go

    There is none while one of them has none, and none while nobody waits: whoever began the work
    has to cancel it then. A wait by `time_limit` within the scope goes on when the deadline moves
    on; a number that `remaining` returned before does not.
    """

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[object, Deadline] = {}

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Have the surrounding deadline count for as long as the block waits for the work."""
        waiter = object()
        self._waiting[waiter] = CURRENT.get()
        try:
            yield
        finally:
            del self._waiting[waiter]

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Make it the deadline of the block, which is the work or a part of it."""
        token = CURRENT.set(self)
        try:
            yield
        finally:
            CURRENT.reset(token)

    def deadlines(self) -> list[Deadline]:
        """Return those of all who wait now."""
        return list(self._waiting.values())


@dataclass(frozen=True, slots=True)
class Shortened:
    """A deadline within one that moves.

    Attributes:
        instant: Its own end.
        outer: The one around it, which may be sooner.
    """

    instant: float
    outer: SharedDeadline | Shortened


Deadline = float | SharedDeadline | Shortened | None
"""A reading of `time.monotonic`, or one to be found out when it is asked for; None when none."""

CURRENT: Final[ContextVar[Deadline]] = ContextVar("motadata_deadline", default=None)


def end_of(deadline: Deadline, passed: tuple[SharedDeadline, ...] = ()) -> float:
    """Return the instant at which the time is up as things stand; infinity for none.

    Args:
        deadline: Which.
        passed: Whose waiters are being asked already: works that wait for each other in a circle
            give each other no time.
    """
    if deadline is None:
        return math.inf
    if isinstance(deadline, Shortened):
        return min(deadline.instant, end_of(deadline.outer, passed))
    if isinstance(deadline, SharedDeadline):
        if deadline in passed:
            return -math.inf
        passed = (*passed, deadline)
        return max((end_of(one, passed) for one in deadline.deadlines()), default=math.inf)
    return deadline
