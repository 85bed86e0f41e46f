"""Inserts many rows in few statements, for a role that row-level security binds.

PostgreSQL refuses COPY FROM under row-level security. `INSERT … SELECT … FROM unnest(…)` sends one
array a column instead of one message a row; each row is checked by the policy as ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from motadata.core.database import _identifiers as identifiers
from motadata.core.database._types import Opaque
from motadata.core.errors import QueryError


BATCH: Final = 2000
"""Rows a statement; what is held in memory at a time."""

# Scalars by the categories of pg_type; arrays and composites would be taken apart by unnest.
_SCALAR: Final = frozenset("BDEINSTUV")
_NESTED: Final = frozenset({"json", "jsonb", "vector", "halfvec"})

COLUMN_TYPES: Final = """
select a.attname::text as name, t.typname::text as type, t.typcategory::text as category,
       format_type(a.atttypid, null) as shown
from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid = a.atttypid
where a.attrelid = to_regclass($1) and a.attnum > 0 and not a.attisdropped
"""
"""Types of a table's columns; `$1` is its quoted name."""


def single_insert(table: str, columns: Sequence[str]) -> str:
    """Return the statement that inserts one row.

    Raises:
        QueryError: A name is no identifier, or there is no column.
    """
    places = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
    return f"{_head(table, columns)} values ({places})"


def array_insert(
    table: str, columns: Sequence[str], types: Sequence[Mapping[str, object]]
) -> str | None:
    """Return the statement that inserts an array a column, or None where a type forbids it.

    Args:
        table: Table or `schema.table`.
        columns: Names, in the order of the arrays.
        types: Rows of `COLUMN_TYPES`; a column that is not among them is left to the server.
    """
    known = {row["name"]: row for row in types}
    if any(name not in known or known[name]["category"] not in _SCALAR for name in columns):
        return None
    arrays = ", ".join(f"${n}::{known[name]['shown']}[]" for n, name in enumerate(columns, start=1))
    return f"{_head(table, columns)} select * from unnest({arrays})"  # noqa: S608 - names are validated and quoted


def nested_columns(columns: Sequence[str], types: Sequence[Mapping[str, object]]) -> frozenset[int]:
    """Return the positions of columns whose single values may be sequences."""
    nested = {row["name"] for row in types if row["type"] in _NESTED}
    return frozenset(number for number, name in enumerate(columns) if name in nested)


def batches(
    rows: Iterable[Sequence[object]], *, width: int, tenant: str
) -> Iterator[list[Sequence[object]]]:
    """Yield the rows in lists of `BATCH`.

    Raises:
        QueryError: A row has another number of values.
    """
    source, start = iter(rows), 0
    while batch := list(islice(source, BATCH)):
        for number, row in enumerate(batch, start=start):
            if len(row) != width:
                message = f"Row {number} has {len(row)} values instead of {width}."
                raise QueryError(
                    message, remedy="Give each column a value, None for NULL.", tenant_id=tenant
                )
        yield batch
        start += len(batch)


def transposed(batch: Sequence[Sequence[object]], nested: frozenset[int]) -> list[list[object]]:
    """Return an array a column; sequences within are hidden from the driver."""
    return [
        [None if value is None else Opaque(value) for value in column]
        if number in nested
        else list(column)
        for number, column in enumerate(zip(*batch, strict=True))
    ]


def _head(table: str, columns: Sequence[str]) -> str:
    if not columns:
        message = "There is no column to insert into."
        raise QueryError(message, remedy="Name at least tenant_id.")
    names = ", ".join(identifiers.column(name) for name in columns)
    return f"insert into {identifiers.table(table)} ({names})"
