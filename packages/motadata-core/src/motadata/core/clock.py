"""One clock: what time is it, and wait until later. A parameter wherever time matters.

Production uses `SYSTEM_CLOCK`; tests use `motadata.core.testing.ManualClock`, which moves only when
told to, so that nothing waits for real.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final, Protocol


class Clock(Protocol):
    """A monotonic clock that can be waited on."""

    def now(self) -> float:
        """Return seconds since an arbitrary start; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`; when not positive, after other tasks had a turn."""
        ...


class SystemClock:
    """The machine's own monotonic clock."""

    __slots__ = ()

    now = staticmethod(time.monotonic)
    sleep = staticmethod(asyncio.sleep)


SYSTEM_CLOCK: Final[Clock] = SystemClock()
