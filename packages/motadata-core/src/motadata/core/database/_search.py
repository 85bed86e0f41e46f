"""Writes the statement of a nearest-neighbour search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from motadata.core.database import _identifiers as identifiers
from motadata.core.errors import QueryError
from motadata.core.protocols.database import Metric, Precision


_OPERATORS: Final[Mapping[Metric, str]] = {"cosine": "<=>", "l2": "<->", "inner_product": "<#>"}
_PRECISIONS: Final[tuple[Precision, ...]] = ("full", "half")
_MOST_ROWS: Final = 1000


def search_settings(neighbours: int) -> dict[str, str]:
    """Return the settings of a search's transaction; `_reading` prepares the same for reading.

    A generic plan, chosen without the tenant and the vector, is 20 to 30 times slower. And where
    the planner takes a vector index, it has to go on until it has found enough rows of the tenant.

    Args:
        neighbours: How many candidates an index search keeps at least.
    """
    return {
        "plan_cache_mode": "force_custom_plan",
        "hnsw.iterative_scan": "strict_order",
        "hnsw.ef_search": str(neighbours),
    }


def search_statement(
    table: str,
    vector: Sequence[float],
    *,
    tenant: str,
    limit: int,
    columns: Sequence[str],
    filters: Mapping[str, object],
    vector_column: str,
    metric: Metric,
    precision: Precision = "full",
) -> tuple[str, list[object]]:
    """Return the SQL and its arguments; the tenant is `$1`, the vector `$2`.

    Raises:
        QueryError: A name is no identifier, the metric is unknown, or the limit is out of range.
    """
    if metric not in _OPERATORS:
        message = f"{metric!r} is no metric."
        raise QueryError(message, remedy=f"Use one of {', '.join(_OPERATORS)}.")
    if type(limit) is not int or not 1 <= limit <= _MOST_ROWS:
        message = f"The limit {limit!r} is out of range."
        raise QueryError(message, remedy=f"Use 1 to {_MOST_ROWS}.")
    if len(vector) == 0:
        message = "The vector has no numbers."
        raise QueryError(message, remedy="Pass as many numbers as the column has dimensions.")
    chosen = ", ".join("*" if name == "*" else identifiers.column(name) for name in columns)
    nearest = identifiers.column(vector_column)
    compared, sought = _compared(nearest, dimensions=len(vector), precision=precision)
    arguments: list[object] = [tenant, vector]
    conditions = ["tenant_id = $1", f"{nearest} is not null"]
    for name, value in filters.items():
        if value is None:
            conditions.append(f"{identifiers.column(name)} is null")
            continue
        arguments.append(value)
        conditions.append(f"{identifiers.column(name)} = ${len(arguments)}")
    distance = f"{compared} {_OPERATORS[metric]} {sought}"
    prefix = f"{chosen}, " if chosen else ""
    sql = (
        f"select {prefix}{distance} as distance from {identifiers.table(table)}"  # noqa: S608 - names are validated and quoted
        f" where {' and '.join(conditions)} order by {distance} limit {limit}"
    )
    return sql, arguments


def _compared(column: str, *, dimensions: int, precision: Precision) -> tuple[str, str]:
    """Return what is compared with what: the expressions that an index of that precision holds.

    Raises:
        QueryError: The precision is unknown.
    """
    if precision not in _PRECISIONS:
        message = f"{precision!r} is no precision."
        raise QueryError(message, remedy=f"Use one of {', '.join(_PRECISIONS)}.")
    if precision == "full":
        return column, "$2"
    return f"{column}::halfvec({dimensions})", f"$2::halfvec({dimensions})"
