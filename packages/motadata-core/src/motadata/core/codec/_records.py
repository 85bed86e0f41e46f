"""Records of `motadata.core.models` from decoded fields, each checked against its annotation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from functools import cache
from types import NoneType, UnionType
from typing import Final, Literal, Union, get_args, get_origin, get_type_hints

from motadata.core import models
from motadata.core.errors import CodecError
from motadata.core.models import Record


Reader = Callable[[object], object]
"""Returns a decoded value as its field holds it; raises TypeError when it does not fit."""


def _find_records() -> dict[str, type[Record]]:
    values = ((name, getattr(models, name)) for name in models.__all__)
    return {
        name: value
        for name, value in values
        if isinstance(value, type) and issubclass(value, Record) and value is not Record
    }


_RECORDS: Final = _find_records()


def record_name(record: Record) -> str:
    """Return the name under which a record travels.

    Raises:
        CodecError: It is none of `motadata.core.models`.
    """
    name = type(record).__name__
    if _RECORDS.get(name) is not type(record):
        message = f"The record {name!r} is none of motadata.core.models and has no encoding."
        raise CodecError(message, remedy="Encode its to_dict() instead.")
    return name


@cache
def field_names(name: str) -> tuple[str, ...]:
    """Return the fields of the record of that name, in their order of definition."""
    kind = _RECORDS[name]
    return tuple(field.name for field in fields(kind))  # type: ignore[arg-type]  # as below


def build_record(name: str, values: Mapping[str, object]) -> Record:
    """Return the record of that name with those fields; fields with a default may be absent.

    Raises:
        CodecError: The name or a field is unknown, a field is missing, or its value does not fit.
    """
    kind = _RECORDS.get(name)
    if kind is None:
        message = f"The record {name[:40]!r} is unknown."
        raise CodecError(message, remedy="It may come from a newer version: update motadata-core.")
    readers, required = _fields_of(name)
    if not required <= values.keys() <= readers.keys():
        message = f"A record {name!r} has missing or unknown fields."
        raise CodecError(message, remedy="It may come from another version of motadata-core.")
    checked = {}
    for field, value in values.items():
        try:
            checked[field] = readers[field](value)
        except TypeError:
            message = f"The field {field!r} of a record {name!r} holds a {type(value).__name__!r}."
            raise CodecError(message) from None
    return kind(**checked)


@cache
def _fields_of(name: str) -> tuple[dict[str, Reader], frozenset[str]]:
    kind = _RECORDS[name]
    hints = get_type_hints(kind)
    definitions = fields(kind)  # type: ignore[arg-type]  # every record is a dataclass
    required = frozenset(
        field.name
        for field in definitions
        if field.default is MISSING and field.default_factory is MISSING
    )
    return {field.name: _reader(hints[field.name]) for field in definitions}, required


def _reader(annotation: object) -> Reader:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return _union_reader([_reader(argument) for argument in arguments])
    if origin is Literal:
        return _literal_reader(arguments)
    if origin is tuple:
        return _tuple_reader(_reader(arguments[0]))
    if origin is Mapping:
        return _mapping_reader(_reader(arguments[1]))
    if annotation is object:
        return lambda value: value
    if annotation is float:
        return _type_reader((float, int))
    if isinstance(annotation, type) and (annotation is NoneType or origin is None):
        return _type_reader((annotation,))
    message = f"motadata.core.models uses an annotation that codecs do not know: {annotation!r}"
    raise NotImplementedError(message)


def _type_reader(kinds: tuple[type, ...]) -> Reader:
    def read(value: object) -> object:
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise TypeError
        return value

    return read


def _union_reader(readers: list[Reader]) -> Reader:
    def read(value: object) -> object:
        for reader in readers:
            try:
                return reader(value)
            except TypeError:
                continue
        raise TypeError

    return read


def _literal_reader(allowed: tuple[object, ...]) -> Reader:
    def read(value: object) -> object:
        if not isinstance(value, str) or value not in allowed:
            raise TypeError
        return value

    return read


def _tuple_reader(item: Reader) -> Reader:
    def read(value: object) -> object:
        if not isinstance(value, list):
            raise TypeError
        return tuple(item(element) for element in value)

    return read


def _mapping_reader(item: Reader) -> Reader:
    def read(value: object) -> object:
        if not isinstance(value, dict):
            raise TypeError
        return {key: item(element) for key, element in value.items()}

    return read
