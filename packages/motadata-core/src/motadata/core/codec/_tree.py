"""Between values and formats: a tree of plain values in which the rest is tagged."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Final, NoReturn, cast
from uuid import UUID

from motadata.core.codec._records import build_record, record_name
from motadata.core.errors import CodecError
from motadata.core.models import Record


_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**64 - 1


def flatten(value: object, *, binary: bool, depth: int) -> object:
    """Return `value` as a tree of plain values.

    Args:
        value: What to encode.
        binary: Whether the format has bytes of its own.
        depth: How many containers may still be within each other.

    Raises:
        CodecError: A part of it has no encoding, or is nested too deep.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if _INT_MIN <= value <= _INT_MAX else {"$int": hex(value)}
    if isinstance(value, float):
        return value if math.isfinite(value) else _refuse_number(value)
    if isinstance(value, list | tuple | dict | Record):
        if depth == 0:
            message = "The value is nested too deep."
            raise CodecError(message, remedy="Flatten it, or raise max_depth on both sides.")
        return _flatten_container(value, binary=binary, depth=depth - 1)
    if binary and isinstance(value, bytes):
        return value
    return _flatten_scalar(value)


def _flatten_container(
    value: list[object] | tuple[object, ...] | dict[object, object] | Record,
    *,
    binary: bool,
    depth: int,
) -> object:
    if isinstance(value, Record):
        name = record_name(value)
        items = {field: value[field] for field in value.keys()}  # noqa: SIM118 - it has no iterator
        return {
            "$record": [
                name,
                {field: flatten(item, binary=binary, depth=depth) for field, item in items.items()},
            ]
        }
    if isinstance(value, dict):
        tree = {
            _text_key(key): flatten(item, binary=binary, depth=depth) for key, item in value.items()
        }
        return _escape(tree)
    if _is_vector(value) and all(map(math.isfinite, cast("list[float]", value))):
        return list(value)
    return [flatten(item, binary=binary, depth=depth) for item in value]


def _flatten_scalar(value: object) -> object:
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            message = "A datetime without time zone has no encoding."
            raise CodecError(message, remedy="Give it one, such as datetime.UTC.")
        return {"$datetime": value.isoformat()}
    if isinstance(value, date):
        return {"$date": value.isoformat()}
    if isinstance(value, UUID):
        return {"$uuid": str(value)}
    if isinstance(value, Decimal):
        return {"$decimal": str(value)} if value.is_finite() else _refuse_number(value)
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode("ascii")}
    message = f"A value of type {type(value).__name__!r} has no encoding."
    raise CodecError(
        message, remedy="Pass plain values, lists, dicts or records of motadata.core.models."
    )


def restore(tree: object, *, depth: int) -> object:
    """Return the value that a tree stands for.

    Raises:
        CodecError: A tag is unknown or its content malformed, or it is nested too deep.
    """
    if tree is None or isinstance(tree, bool | str | int | bytes):
        return tree
    if isinstance(tree, float):
        return tree if math.isfinite(tree) else _refuse_number(tree)
    if depth == 0:
        message = "The data is nested too deep."
        raise CodecError(message, remedy="Flatten it, or raise max_depth.")
    if type(tree) is list:
        if _is_vector(tree) and all(map(math.isfinite, tree)):
            return tree
        return [restore(item, depth=depth - 1) for item in tree]
    if type(tree) is dict:
        return _restore_dict(tree, depth=depth - 1)
    message = f"The data holds a value of type {type(tree).__name__!r}."
    raise CodecError(message, remedy="Encode it with a codec of motadata.core.codec.")


def _restore_dict(tree: dict[object, object], *, depth: int) -> object:
    if len(tree) == 1:
        tag, content = next(iter(tree.items()))
        if isinstance(tag, str) and tag.startswith("$"):
            if tag.startswith("$$"):
                return {tag[1:]: restore(content, depth=depth)}
            if tag == "$record":
                return _restore_record(content, depth=depth)
            return _restore_scalar(tag, content)
    return {_text_key(key): restore(item, depth=depth) for key, item in tree.items()}


def _restore_record(content: object, *, depth: int) -> Record:
    match content:
        case [str(name), dict(fields)]:
            values = {_text_key(key): restore(item, depth=depth) for key, item in fields.items()}
            return build_record(name, values)
    message = "A record is not [name, fields]."
    raise CodecError(message)


def _restore_scalar(tag: str, content: object) -> object:
    read = _SCALARS.get(tag)
    if read is None:
        message = f"The tag {tag[:40]!r} is unknown."
        raise CodecError(message, remedy="It may come from a newer version: update motadata-core.")
    if isinstance(content, str):
        try:
            return read(content)
        except (ValueError, InvalidOperation, binascii.Error):
            pass
    # Not chained: the error quotes the content.
    message = f"The content of {tag} is malformed."
    raise CodecError(message)


def _read_int(text: str) -> int:
    return int(text, 16)


def _read_bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _read_datetime(text: str) -> datetime:
    value = datetime.fromisoformat(text)
    if value.utcoffset() is None:
        message = "without time zone"
        raise ValueError(message)
    return value


def _read_decimal(text: str) -> Decimal:
    value = Decimal(text)
    if not value.is_finite():
        message = "not finite"
        raise ValueError(message)
    return value


_SCALARS: Final[Mapping[str, Callable[[str], object]]] = {
    "$int": _read_int,
    "$bytes": _read_bytes,
    "$datetime": _read_datetime,
    "$date": date.fromisoformat,
    "$uuid": UUID,
    "$decimal": _read_decimal,
}


def _escape(tree: dict[str, object]) -> dict[str, object]:
    if len(tree) == 1:
        key = next(iter(tree))
        if key.startswith("$"):
            return {f"${key}": tree[key]}
    return tree


def _is_vector(items: list[object] | tuple[object, ...]) -> bool:
    return len(items) > 0 and set(map(type, items)) == {float}


def _text_key(key: object) -> str:
    if isinstance(key, str):
        return key
    message = f"A mapping with a key of type {type(key).__name__!r} has no encoding."
    raise CodecError(message, remedy="Use strings as keys.")


def _refuse_number(value: float | Decimal) -> NoReturn:
    message = f"The number {value} has no encoding."
    raise CodecError(message, remedy="Send None, or leave it out.")
