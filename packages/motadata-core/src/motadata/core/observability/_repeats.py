"""Lines that come again and again: the first is written, then one now and then with a count.

A connection that is away for a minute has the same to say every tenth of a second.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Final

from motadata.core.observability._logging import Logger, get_logger


_INTERVAL: Final = 5.0
_MOST_KINDS: Final = 64


class Repeated:
    """Warnings of one event: the first at once, then at most one every few seconds.

    Each line but the first says in `repeated` how many were held back before it.

    Args:
        log: Where they go.
        event: What they are called.
        interval: Seconds between two lines.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        log: Logger,
        event: str,
        *,
        interval: float = _INTERVAL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._event = event
        self._interval = interval
        self._clock = clock
        self._next: float | None = None
        self._held = 0

    def warning(self, **fields: object) -> None:
        """Write a line, or count it."""
        now = self._clock()
        if self._next is not None and now < self._next:
            self._held += 1
            return
        self._next = now + self._interval
        if self._held:
            fields["repeated"] = self._held
            self._held = 0
        self._log.warning(self._event, **fields)

    def restart(self) -> int:
        """Return how many were held back and not told of; the next one is a first one again."""
        held, self._held, self._next = self._held, 0, None
        return held


class _Bridge(logging.Handler):
    """Writes a library's log lines as ours: of an exception the type, of a text its constant."""

    def __init__(self, component: str, interval: float, clock: Callable[[], float]) -> None:
        super().__init__(logging.WARNING)
        self._out = get_logger(component)
        self._interval = interval
        self._clock = clock
        self._kinds: dict[tuple[str, str], Repeated] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or count it; each constant text is counted by itself."""
        kind = (record.name, str(record.msg)[:200])
        repeated = self._kinds.get(kind)
        if repeated is None:
            if len(self._kinds) >= _MOST_KINDS:
                self._kinds.clear()
            repeated = self._kinds[kind] = Repeated(
                self._out, "driver_warning", interval=self._interval, clock=self._clock
            )
        # The arguments may quote anything; the words around them are the library's.
        fields: dict[str, object] = {"driver": record.name, "said": kind[1]}
        if record.exc_info:
            fields["error"] = record.exc_info[1] or sys.exception()
        repeated.warning(**fields)


def adopt_logger(
    name: str,
    *,
    component: str,
    interval: float = 30.0,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Have a library's own warnings written as ours, instead of as plain text on standard error.

    Handlers that the host has given that logger keep getting its lines; the root's do not. Calling
    it again changes nothing.

    Args:
        name: Of the library's logger; those below it come along.
        component: In whose name the lines are written.
        interval: Seconds between two lines that say the same.
        clock: Seconds that only grow.
    """
    logger = logging.getLogger(name)
    if any(isinstance(handler, _Bridge) for handler in logger.handlers):
        return
    logger.addHandler(_Bridge(component, interval, clock))
    logger.propagate = False
