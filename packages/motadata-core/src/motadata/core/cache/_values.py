"""What a cache takes: values that every codec can encode, so that a cache can be exchanged."""

from __future__ import annotations

import sys
from dataclasses import fields, is_dataclass
from datetime import date
from decimal import Decimal
from typing import Final
from uuid import UUID

from motadata.core.errors import CacheError
from motadata.core.models import Record


_MAX_DEPTH: Final = 64

_PLAIN: Final = frozenset((str, bytes, int, float, bool))
_IMMUTABLE: Final = (str, bytes, int, float, Record, date, UUID, Decimal, type(None))


def snapshot(value: object, depth: int = 0) -> object:
    """Return `value` with its lists and dicts copied: changing the original changes no cache.

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
    if is_dataclass(value):
        return size + sum(weigh(getattr(value, field.name)) for field in fields(value))
    return size


def _text(key: object) -> str:
    if isinstance(key, str):
        return key
    message = f"A dict with a key of type {type(key).__name__!r} cannot be cached."
    raise CacheError(message, remedy="Use strings as keys.")
