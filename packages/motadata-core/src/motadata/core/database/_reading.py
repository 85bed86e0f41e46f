"""The driver's connection, taught to read for a tenant in one round trip.

A read needs no transaction block. In PostgreSQL's extended protocol, everything up to a Sync
message is one transaction; what is set with `set_config(…, true)` before the statement holds for
the statement and ends with it. So the binding travels in front of the statement in the same write,
and the answer to both comes in one round trip (PostgreSQL documentation, 54.2.4, "Pipelining").
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Final

from motadata.core.database._driver import Record
from motadata.core.database._wire import in_front_of


# Settings and locks are what a read can leave to the next read. It makes no temporary table and
# draws from no sequence, for it is read-only; a cursor or a channel that a function has opened is
# out of other reads' reach, and a transaction block cleans them away before it begins.
RESET_STATEMENT: Final = "motadata_reset"
_RESET: Final = "reset all"

# No row comes back, which the driver would take for one of the statement's: the settings are not
# null. It fails as a whole or holds as a whole.
BIND_STATEMENT: Final = "motadata_bind"
_BINDING: Final = (
    "select where (pg_catalog.pg_advisory_unlock_all()::text"
    " || pg_catalog.set_config('motadata.tenant_id', $1::text, true)"
    " || pg_catalog.set_config('search_path', $2::text, true)"
    " || pg_catalog.set_config('statement_timeout', $3::text, true)"
    " || pg_catalog.set_config('transaction_read_only', 'on', true)) is null"
)
SEARCH_STATEMENT: Final = "motadata_search"
_SEARCH: Final = (
    "select where (pg_catalog.set_config('plan_cache_mode', 'force_custom_plan', true)"
    " || pg_catalog.set_config('hnsw.iterative_scan', 'strict_order', true)"
    " || pg_catalog.set_config('hnsw.ef_search', $1::text, true)) is null"
)
_SCRIPTS: Final = {RESET_STATEMENT: _RESET, BIND_STATEMENT: _BINDING, SEARCH_STATEMENT: _SEARCH}


def reading_connection(driver: ModuleType) -> type:
    """Return the driver's connection with what this module adds."""

    class ReadingConnection(driver.Connection):  # type: ignore[misc, name-defined]  # it has no types
        """A connection that reads for a tenant."""

        __slots__ = ("_in_front", "_is_clean", "_prepared", "_was_read")

        async def prepare_reading(self) -> None:
            """Prepare the statements that bind a read; without prepared statements, none."""
            if not self._stmt_cache_enabled:
                return
            in_front = in_front_of(self._transport)
            if in_front is None:
                return
            self._in_front = in_front
            # Kept, for the driver closes what nobody holds.
            self._prepared = [
                await self._get_statement(sql, None, named=name, use_cache=False)
                for name, sql in _SCRIPTS.items()
            ]
            for statement in self._prepared:
                statement.attach()

        async def read_bound(
            self, binding: bytes, sql: str, args: Sequence[object], *, timeout: float
        ) -> list[Record] | None:
            """Run a prepared statement with a binding in front, in a transaction of its own.

            Returns:
                Its rows, or None when this connection has not prepared it yet: nothing was sent.
            """
            protocol = self._protocol
            statement = self._stmt_cache.get((sql, protocol.get_record_class(), False))
            if statement is None or not getattr(self, "_prepared", None):
                return None
            if protocol._is_cancelling():  # noqa: SLF001 - the driver has no other way to ask
                return None
            self._is_clean, self._was_read = False, True
            # The binding and the statement leave as one message, and the Sync that the driver sends
            # after its statement ends the transaction of both.
            self._in_front.put(binding)
            try:
                rows: list[Record] = await protocol.bind_execute(
                    statement, args, "", 0, False, timeout
                )
            except driver.OutdatedSchemaCacheError:
                await self.reload_schema_state()
                raise
            except driver.InvalidCachedStatementError:
                self._drop_global_statement_cache()
                raise
            finally:
                self._in_front.clear()
            self._is_clean = True  # the next user cleans away what may be left
            return rows

    return ReadingConnection
