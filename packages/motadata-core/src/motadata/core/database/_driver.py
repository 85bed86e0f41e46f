"""The only door to asyncpg: importing it, connecting, and teaching connections our types."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Final

from motadata.core.errors import MissingExtraError


if TYPE_CHECKING:
    import asyncpg

MINIMUM_PGVECTOR: Final = (0, 8, 4)
"""Older ones overflow a buffer and corrupt indexes."""


def load_driver() -> ModuleType:
    """Import asyncpg.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import asyncpg
        import pgvector  # noqa: F401 - both come with the extra, both are needed
    except ImportError as error:
        name = error.name or "asyncpg"
        raise MissingExtraError(name, extra="postgres", distribution="motadata-core") from error
    module: ModuleType = asyncpg
    return module


async def prepare_connection(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Let mappings and lists bind to `jsonb`, and sequences of numbers to `vector`.

    It runs in one transaction, for the look-ups take several round trips and a pooler in transaction
    mode may serve each from another server connection otherwise.
    """
    async with connection.transaction():
        schema = await vector_schema(connection)
        for name in ("json", "jsonb"):
            await connection.set_type_codec(
                name, schema="pg_catalog", encoder=_encode_json, decoder=json.loads
            )
        if schema is not None:
            await connection.set_type_codec(
                "vector",
                schema=schema,
                encoder=_encode_vector,
                decoder=_decode_vector,
                format="binary",
            )


async def vector_schema(connection: asyncpg.Connection[asyncpg.Record]) -> str | None:
    """Return the schema that the vector extension lives in, or None when it is not installed."""
    name: str | None = await connection.fetchval(
        "select n.nspname::text from pg_catalog.pg_extension e"
        " join pg_catalog.pg_namespace n on n.oid = e.extnamespace where e.extname = 'vector'"
    )
    return name


def quote_literal(text: str) -> str:
    """Return `text` as an SQL string literal; backslashes mean themselves."""
    return "'" + text.replace("'", "''") + "'"


def quote_name(name: str) -> str:
    """Return `name` as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _encode_json(value: object) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def _encode_vector(value: object) -> bytes:
    from pgvector import Vector

    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        # NumPy arrays and their like know how to become lists of plain numbers.
        value = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        message = "a vector is a sequence of numbers"
        raise ValueError(message)  # noqa: TRY004 - what the driver expects of a codec
    numbers = [float(number) for number in value]
    if not all(map(math.isfinite, numbers)):
        message = "a vector has finite numbers only"
        raise ValueError(message)
    return Vector(numbers).to_binary()


def _decode_vector(data: bytes) -> list[float]:
    from pgvector import Vector

    return Vector.from_binary(data).to_list()
