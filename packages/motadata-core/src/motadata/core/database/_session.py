"""The driver's connection, taught to keep its session clean.

What could outlive a transaction on its connection (settings, locks, temporary tables, a role) would
otherwise meet the pool's next user, another tenant. Sent with COMMIT in one message, cleaning costs
no round trip, and behind a pooler it reaches the server connection that did the work.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from motadata.core.database._answers import check_answers
from motadata.core.database._driver import load_driver
from motadata.core.database._reading import reading_connection


# What DISCARD ALL does, which may not stand beside another statement; prepared statements stay.
_CLEAN: Final = (
    "close all; set session authorization default; reset all; unlisten *;"
    " select pg_catalog.pg_advisory_unlock_all(); discard temp; discard sequences"
)


@cache
def connection_class() -> type:
    """Return the driver's connection with what this module and `_reading` add."""

    class TenantConnection(reading_connection(load_driver())):  # type: ignore[misc]  # it has no types
        """A connection that knows whether its session is clean."""

        # Repeated from `_reading`, because the type checker does not see through the call above.
        __slots__ = ("_is_clean", "_was_read")

        async def open_transaction(self, script: str, *, timeout: float) -> None:
            """Open a transaction on a clean session: reads leave the cleaning to who comes next."""
            was_read, self._was_read = getattr(self, "_was_read", False), False
            await self.execute(f"{_CLEAN}; {script}" if was_read else script, timeout=timeout)

        async def commit_and_clean(self, check: str, *, timeout: float) -> None:
            """Commit unless the check fails, then clean the session."""
            await self.execute(f"{check}; commit; {_CLEAN}", timeout=timeout)
            self._is_clean = True

        async def roll_back_and_clean(self, *, timeout: float) -> None:
            """Roll back, then clean the session."""
            await self.execute(f"rollback; {_CLEAN}", timeout=timeout)
            self._is_clean = True

        def check_answers(self) -> None:
            """Have what the server answers from now on looked at before the driver reads it."""
            check_answers(self._transport, self._protocol)

        def is_fit(self) -> bool:
            """Tell once whether its session is clean and no transaction is open."""
            if self.is_in_transaction() or not getattr(self, "_is_clean", False):
                return False
            self._is_clean = False
            return True

        async def reset(self, *, timeout: float | None = None) -> None:
            """Make it fit for the next user; the pool calls this when a connection comes back."""
            is_clean, self._is_clean = getattr(self, "_is_clean", False), False
            if self.is_in_transaction():
                await self.execute(f"rollback; {_CLEAN}", timeout=timeout)
            elif not is_clean:
                await self.execute(_CLEAN, timeout=timeout)

    return TenantConnection
