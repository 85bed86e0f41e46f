"""The usage log as a file for a spreadsheet or a warehouse, written as it is read."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson

from motadata.core.errors import GatewayError, MissingExtraError
from motadata.core.protocols import Row
from motadata.gateway.usage._record import COLUMNS


if TYPE_CHECKING:
    import pyarrow as pa

_CSV_ROWS: Final = 1000
_PARQUET_ROWS: Final = 10_000
_DECIMALS: Final = 18
_SMALLEST: Final = Decimal(1).scaleb(-_DECIMALS)
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


async def export_csv(calls: AsyncIterator[Row]) -> AsyncIterator[str]:
    """Yield the calls as CSV with a line of names, some thousand lines at a time.

        async for part in export_csv(reports.calls(tenant_id="acme")):
            await response.write(part.encode())

    Words that a spreadsheet would take for a formula are preceded by an apostrophe.

    Args:
        calls: From `UsageReports.calls`.

    Raises:
        DatabaseError: They could not be read.
    """
    yield _as_csv([dict(zip(COLUMNS, COLUMNS, strict=True))])
    async for rows in _some(calls, _CSV_ROWS):
        yield _as_csv(rows)


async def export_parquet(calls: AsyncIterator[Row], path: Path) -> int:
    """Write the calls to a Parquet file, and return how many there were.

    Money is `decimal128(38, 18)`, times are microseconds of UTC, verdicts are JSON. A file that
    could not be finished is deleted.

    Args:
        calls: From `UsageReports.calls`.
        path: Where to; what is there is replaced once all is written.

    Raises:
        MissingExtraError: The extra `parquet` is not installed.
        DatabaseError: They could not be read.
        GatewayError: The file cannot be written.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError(
            "pyarrow", extra="parquet", distribution="motadata-gateway"
        ) from error
    schema = _schema()
    partial = path.with_name(f".{path.name}.partial")
    count = 0
    try:
        writer = await asyncio.to_thread(parquet.ParquetWriter, partial, schema)
        try:
            async for rows in _some(calls, _PARQUET_ROWS):
                table = await asyncio.to_thread(_as_table, rows, schema)
                await asyncio.to_thread(writer.write_table, table)
                count += len(rows)
        finally:
            await asyncio.to_thread(writer.close)
        await asyncio.to_thread(partial.replace, path)
    except (pa.ArrowException, OSError) as error:
        message = f"The Parquet file {str(path)!r} could not be written."
        raise GatewayError(message, remedy="Give it a folder with room.") from error
    finally:
        await asyncio.to_thread(partial.unlink, missing_ok=True)
    return count


async def _some(calls: AsyncIterator[Row], most: int) -> AsyncIterator[list[Row]]:
    rows: list[Row] = []
    async for row in calls:
        rows.append(row)
        if len(rows) == most:
            yield rows
            rows = []
    if rows:
        yield rows


def _as_csv(rows: list[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerows([_cell(row[name]) for name in COLUMNS] for row in rows)
    return text.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, list):
        return orjson.dumps(value).decode()
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return f"{value:f}" if isinstance(value, Decimal) else value


def _schema() -> pa.Schema:
    import pyarrow as pa

    kinds: Mapping[str, pa.DataType] = {
        "uuid": pa.string(),
        "text": pa.string(),
        "jsonb": pa.string(),
        "bigint": pa.int64(),
        "integer": pa.int32(),
        "boolean": pa.bool_(),
        "double precision": pa.float64(),
        "numeric": pa.decimal128(38, _DECIMALS),
        "timestamptz": pa.timestamp("us", tz="UTC"),
    }
    return pa.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])


def _as_table(rows: list[Row], schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    def column(name: str) -> list[object]:
        values = (row[name] for row in rows)
        if COLUMNS[name] == "uuid":
            return [str(value) for value in values]
        if COLUMNS[name] == "jsonb":
            return [orjson.dumps(value).decode() for value in values]
        if COLUMNS[name] == "numeric":
            return [
                None if value is None else Decimal(str(value)).quantize(_SMALLEST)
                for value in values
            ]
        return list(values)

    return pa.table({name: column(name) for name in COLUMNS}, schema=schema)
