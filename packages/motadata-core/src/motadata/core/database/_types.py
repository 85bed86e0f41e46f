"""Teaches connections our types: `jsonb` for plain values, vectors for sequences of numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from motadata.core.database._driver import Connection, vector_schema


async def prepare_connection(connection: Connection) -> None:
    """Let mappings bind to `jsonb`, sequences of numbers to `vector`, and prepare for reading.

    It runs in one transaction, for the look-ups take several round trips, and a pooler in
    transaction mode may serve each from another server connection otherwise.
    """
    connection.check_answers()
    try:
        await connection.execute("begin")
        await _teach(connection)
        await connection.prepare_reading()
        await connection.execute("commit")
    except BaseException:
        # Neither roll back nor say goodbye: a server that is silent would be waited for.
        connection.terminate()
        raise


async def _teach(connection: Connection) -> None:
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
        await connection.set_type_codec(
            "halfvec",
            schema=schema,
            encoder=_encode_half_vector,
            decoder=_decode_half_vector,
            format="binary",
        )


@dataclass(frozen=True, slots=True)
class Opaque:
    """A value that the driver must not take for a dimension of the array that it stands in."""

    value: object


def _encode_json(value: object) -> str:
    value = value.value if isinstance(value, Opaque) else value
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def _numbers(value: object) -> list[float]:
    value = value.value if isinstance(value, Opaque) else value
    if not isinstance(value, Sequence) and hasattr(value, "tolist"):
        value = value.tolist()  # NumPy arrays and their like
    if not isinstance(value, Sequence):
        message = "a vector is a sequence of numbers"
        raise ValueError(message)  # noqa: TRY004 - what the driver expects of a codec
    return list(value)


def _encode_vector(value: object) -> bytes:
    from pgvector import Vector

    binary: bytes = Vector(_numbers(value)).to_binary()
    return binary


def _decode_vector(data: bytes) -> list[float]:
    from pgvector import Vector

    numbers: list[float] = Vector.from_binary(data).to_list()
    return numbers


def _encode_half_vector(value: object) -> bytes:
    from pgvector import HalfVector

    binary: bytes = HalfVector(_numbers(value)).to_binary()
    return binary


def _decode_half_vector(data: bytes) -> list[float]:
    from pgvector import HalfVector

    numbers: list[float] = HalfVector.from_binary(data).to_list()
    return numbers
