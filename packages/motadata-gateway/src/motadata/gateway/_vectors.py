"""Vectors of one precision: unit length in float32, whether fresh or from a cache."""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Sequence
from typing import Final

from motadata.core.errors import ProviderError


FLOAT_BYTES: Final = 4
# What float32 can tell apart at 1: a vector that is that close is of length 1 already.
_UNIT: Final = 2.0**-23


def unit_length(vector: Sequence[float]) -> tuple[float, ...]:
    """Return the vector scaled to length 1, each number rounded to float32.

    Raises:
        ProviderError: It is empty, zero or not finite.
    """
    length = math.hypot(*vector)
    if not math.isfinite(length) or length == 0:
        message = f"A model returned a vector of {len(vector)} numbers that has no direction."
        raise ProviderError(message, remedy="Use another embedding model.")
    if abs(length - 1) > _UNIT:
        vector = [value / length for value in vector]
    return tuple(array("f", vector))


def pack(vector: Sequence[float]) -> bytes:
    """Return a float32 vector as little-endian bytes."""
    values = array("f", vector)
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def unpack(data: bytes) -> tuple[float, ...]:
    """Return what `pack` was given."""
    values = array("f", data)
    if sys.byteorder == "big":
        values.byteswap()
    return tuple(values)
