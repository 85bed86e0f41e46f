"""Lines into the database, each tenant's in a transaction of that tenant."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final

from motadata.core.errors import QueryError
from motadata.core.observability import get_logger
from motadata.core.protocols import Database
from motadata.gateway.usage._record import ADDED, COLUMNS
from motadata.gateway.usage._spool import Line


_MOST_ROWS: Final = 1000
_MOST_BYTES: Final = 2_000_000
_CONNECTIONS: Final = 2
_UNFIT: Final = ("22", "23")
"""Classes of SQLSTATE that say that a value, and not the server, is at fault."""

_NAMES: Final = ", ".join(COLUMNS)
_VALUES: Final = ", ".join(f"coalesce({name}, 0)" if name in ADDED else name for name in COLUMNS)
_TYPED: Final = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
# The array of a tenant's rows travels as one text; row-level security checks each row of it. What
# is there already was sent before a crash.
_INSERT: Final = (
    f"insert into motadata.gateway_call (tenant_id, {_NAMES}) "  # noqa: S608 - constants only
    f"select $1, {_VALUES} from jsonb_to_recordset($2::text::jsonb) as row ({_TYPED}) "
    "on conflict (tenant_id, call_id) do nothing"
)

_log = get_logger("gateway")


async def insert(database: Database, lines: Sequence[Line], *, timeout: float) -> list[Line]:
    """Insert lines, and return those that the database will never take.

    Args:
        database: Where `motadata.gateway.migrations` has run.
        lines: Of any number of tenants.
        timeout: Seconds for each statement.

    Raises:
        DatabaseError: Some lines are not there; all of them may be sent again.
    """
    free = asyncio.Semaphore(_CONNECTIONS)
    unfit: list[Line] = []

    async def send(batch: Sequence[Line]) -> None:
        async with free:
            unfit.extend(await _insert(database, batch, timeout))

    results = await asyncio.gather(
        *(send(batch) for batch in _batches(lines)), return_exceptions=True
    )
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return unfit


async def _insert(database: Database, batch: Sequence[Line], timeout: float) -> list[Line]:
    tenant = batch[0].tenant_id
    rows = b"[" + b",".join(line.body for line in batch) + b"]"
    try:
        async with asyncio.timeout(2 * timeout):
            async with database.transaction(tenant, timeout=timeout) as transaction:
                await transaction.execute(_INSERT, tenant, rows.decode())
    except QueryError as error:
        if not _is_unfit(error):
            raise
        if len(batch) == 1:
            _log.error("usage_row_refused", tenant_id=tenant, code=error.code)
            return list(batch)
        middle = len(batch) // 2
        first = await _insert(database, batch[:middle], timeout)
        return first + await _insert(database, batch[middle:], timeout)
    return []


def _batches(lines: Sequence[Line]) -> Iterator[list[Line]]:
    tenants: dict[str, list[Line]] = {}
    for line in lines:
        tenants.setdefault(line.tenant_id, []).append(line)
    for own in tenants.values():
        batch: list[Line] = []
        size = 0
        for line in own:
            if batch and (len(batch) >= _MOST_ROWS or size + len(line.body) > _MOST_BYTES):
                yield batch
                batch, size = [], 0
            batch.append(line)
            size += len(line.body)
        yield batch


def _is_unfit(error: QueryError) -> bool:
    state = getattr(error.__cause__, "sqlstate", None)
    return isinstance(state, str) and state.startswith(_UNFIT)
