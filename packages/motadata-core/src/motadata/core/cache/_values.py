"""What a cache takes: values that every codec can encode, so that a cache can be exchanged."""

from __future__ import annotations

import sys
from dataclasses import fields, is_dataclass
from datetime import date
from decimal import Decimal
from typing import Final, cast
from uuid import UUID

from motadata.core.codec import MessagePackCodec
from motadata.core.errors import CacheError, CodecError
from motadata.core.models import Record


_MAX_DEPTH: Final = 64

_PLAIN: Final = frozenset((str, bytes, int, float, bool))
_VECTORS: Final = MessagePackCodec()
_IMMUTABLE: Final = (str, bytes, int, float, Record, date, UUID, Decimal, type(None))


def snapshot(value: object, depth: int = 0) -> object:
    """Return `value` with lists, dicts and vectors copied: changing the original changes no cache.

    A vector comes out as it does of a cache on a server: it cannot be written to.

    Raises:
        CacheError: A part of it is of a type that no codec encodes, or is nested too deep.
    """
    if type(value) in _PLAIN or isinstance(value, _IMMUTABLE):
        return value
    if depth >= _MAX_DEPTH:
        message = f"A value nested deeper than {_MAX_DEPTH} levels cannot be cached."
        raise CacheError(message, remedy="Flatten it.")
    if isinstance(value, list):
        return [snapshot(item, depth + 1) for item in value]
    if isinstance(value, tuple):
        return tuple(snapshot(item, depth + 1) for item in value)
    if isinstance(value, dict):
        return {_text(key): snapshot(item, depth + 1) for key, item in value.items()}
    if _is_vector(value):
        try:
            return _VECTORS.decode(_VECTORS.encode(value))
        except CodecError as error:
            message = f"The value cannot be cached. {error}"
            raise CacheError(message) from None
    message = f"A value of type {type(value).__name__!r} cannot be cached."
    raise CacheError(
        message, remedy="Pass plain values, lists, dicts or records of motadata.core.models."
    )


def weigh(value: object) -> int:
    """Return about how many bytes of memory a value takes."""
    size = sys.getsizeof(value)
    if isinstance(value, dict):
        return size + sum(weigh(key) + weigh(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return size + sum(weigh(item) for item in value)
    if _is_vector(value):
        # What the array says of itself leaves out the memory that it looks into.
        return size + memoryview(cast("bytes", value)).nbytes
    if is_dataclass(value):
        return size + sum(weigh(getattr(value, field.name)) for field in fields(value))
    return size


def _is_vector(value: object) -> bool:
    """Tell whether `value` is an array of numpy, without importing numpy."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def _text(key: object) -> str:
    if isinstance(key, str):
        return key
    message = f"A dict with a key of type {type(key).__name__!r} cannot be cached."
    raise CacheError(message, remedy="Use strings as keys.")
