"""Between values and formats: a tree of plain values in which the rest is tagged."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from motadata.core.codec._models import ModelSet
from motadata.core.codec._records import build_record, field_names, record_name
from motadata.core.codec._scalars import read_scalar, refuse_number, write_scalar
from motadata.core.codec._vectors import is_array, pack_vector, unpack_vector
from motadata.core.errors import CodecError
from motadata.core.models import Record


if TYPE_CHECKING:
    from pydantic import BaseModel

    from motadata.core.codec._vectors import Array

_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**64 - 1
_RECORD: Final = "$record"
_MODEL: Final = "$model"
_NAMED: Final = frozenset({_RECORD, _MODEL})
_SCALAR_TAG: Final = re.compile(r"\$(?!\$|record\Z|model\Z)").match
_UNCHANGED: Final = frozenset({str, bool, type(None)})


@dataclass(frozen=True, slots=True)
class Form:
    """What a tree may hold, which depends on the format.

    Attributes:
        models: The pydantic models that have a name.
        binary: Whether the format has bytes of its own.
        vector: Makes the format's own form of a vector; None means a tagged one.
    """

    models: ModelSet
    binary: bool = False
    vector: Callable[[str, bytes], object] | None = None


def flatten(value: object, form: Form, depth: int) -> object:
    """Return `value` as a tree of plain values.

    Args:
        value: What to encode.
        form: What the tree may hold.
        depth: How many containers may still be within each other.

    Raises:
        CodecError: A part of it has no encoding, or is nested too deep.
    """
    kind = type(value)
    if kind in _UNCHANGED:
        return value
    if kind is float:
        number = cast("float", value)
        return number if math.isfinite(number) else refuse_number(number)
    if kind is int and _INT_MIN <= cast("int", value) <= _INT_MAX:
        return value
    if isinstance(value, dict | list | tuple | Record) or form.models.knows(kind):
        if depth == 0:
            message = "The value is nested too deep."
            raise CodecError(message, remedy="Flatten it, or raise max_depth on both sides.")
        return _flatten_container(value, form, depth - 1)
    return _flatten_scalar(value, form)


def _flatten_container(value: object, form: Form, depth: int) -> object:
    if isinstance(value, dict):
        return _escape(_flatten_items(value, form, depth))
    if isinstance(value, list | tuple):
        if _is_vector(value):
            return list(value)
        return [item if type(item) in _UNCHANGED else flatten(item, form, depth) for item in value]
    if isinstance(value, Record):
        name = record_name(value)
        fields = {field: getattr(value, field) for field in field_names(name)}
        return {_RECORD: [name, _flatten_items(fields, form, depth)]}
    model = cast("BaseModel", value)
    return {_MODEL: [type(value).__name__, _flatten_items(form.models.dump(model), form, depth)]}


def _flatten_items(items: dict[str, object], form: Form, depth: int) -> dict[str, object]:
    return {
        key if type(key) is str else _text_key(key): (
            item if type(item) in _UNCHANGED else flatten(item, form, depth)
        )
        for key, item in items.items()
    }


def _flatten_scalar(value: object, form: Form) -> object:
    # Subclasses of plain types, such as enumerations that are strings, travel as what they are.
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        number = int.__index__(value)
        return number if _INT_MIN <= number <= _INT_MAX else dict([write_scalar(number)])
    if isinstance(value, float):
        return float.__float__(value) if math.isfinite(value) else refuse_number(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value) if form.binary else dict([write_scalar(bytes(value))])
    if is_array(value):
        kind, data = pack_vector(cast("Array", value))
        if form.vector is not None:
            return form.vector(kind, data)
        return {"$vector": [kind, base64.b64encode(data).decode("ascii")]}
    return dict([write_scalar(value)])


def restore(tree: object, form: Form, depth: int) -> object:
    """Return the value that a tree stands for.

    Raises:
        CodecError: A tag is unknown or its content malformed, or it is nested too deep.
        MissingExtraError: It holds a vector, and numpy is not installed.
    """
    kind = type(tree)
    if kind in _UNCHANGED or kind is int or kind is bytes:
        return tree
    if kind is float:
        number = cast("float", tree)
        return number if math.isfinite(number) else refuse_number(number)
    if is_array(tree):
        return tree
    if isinstance(tree, dict) and len(tree) == 1:
        # A value of its own, not a container, so the depth does not matter.
        tag, content = next(iter(tree.items()))
        if isinstance(tag, str) and _SCALAR_TAG(tag):
            return _restore_vector(content) if tag == "$vector" else read_scalar(tag, content)
    if depth == 0:
        message = "The data is nested too deep."
        raise CodecError(message, remedy="Flatten it, or raise max_depth.")
    if isinstance(tree, list):
        if _is_vector(tree):
            return tree
        return [
            item if type(item) in _UNCHANGED else restore(item, form, depth - 1) for item in tree
        ]
    if isinstance(tree, dict):
        return _restore_dict(tree, form, depth - 1)
    message = f"The data holds a value of type {kind.__name__!r}."
    raise CodecError(message, remedy="Encode it with a codec of motadata.core.codec.")


def _restore_dict(tree: dict[object, object], form: Form, depth: int) -> object:
    if len(tree) == 1:
        tag, content = next(iter(tree.items()))
        if isinstance(tag, str) and tag.startswith("$"):
            if tag in _NAMED:
                return _restore_named(tag, content, form, depth)
            return {tag[1:]: restore(content, form, depth)}
    return _restore_items(tree, form, depth)


def _restore_items(tree: dict[object, object], form: Form, depth: int) -> dict[str, object]:
    return {
        key if type(key) is str else _text_key(key): (
            item if type(item) in _UNCHANGED else restore(item, form, depth)
        )
        for key, item in tree.items()
    }


def _restore_named(tag: str, content: object, form: Form, depth: int) -> object:
    match content:
        case [str(name), dict(fields)]:
            values = _restore_items(fields, form, depth)
            return build_record(name, values) if tag == _RECORD else form.models.build(name, values)
    message = f"The content of {tag} is malformed."
    raise CodecError(message)


def _restore_vector(content: object) -> object:
    match content:
        case [str(kind), str(text)]:
            with suppress(ValueError):
                return unpack_vector(kind, base64.b64decode(text, validate=True))
    message = "The content of $vector is malformed."
    raise CodecError(message)


def _escape(tree: dict[str, object]) -> dict[str, object]:
    if len(tree) == 1:
        key = next(iter(tree))
        if key.startswith("$"):
            return {f"${key}": tree[key]}
    return tree


def _is_vector(items: list[object] | tuple[object, ...]) -> bool:
    """Tell whether these are finite floats only; where their sum overflows, the slow way tells."""
    if not items or type(items[0]) is not float or set(map(type, items)) != {float}:
        return False
    return math.isfinite(sum(cast("list[float]", items)))


def _text_key(key: object) -> str:
    if isinstance(key, str):
        return str.__str__(key)
    message = f"A mapping with a key of type {type(key).__name__!r} has no encoding."
    raise CodecError(message, remedy="Use strings as keys.")
