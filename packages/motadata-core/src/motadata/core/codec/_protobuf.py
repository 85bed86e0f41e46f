"""Protobuf: for readers in languages that share no code with this one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from motadata.core.codec._descriptor import ValueMessage, value_message
from motadata.core.codec._limits import (
    MAX_BYTES,
    MAX_DEPTH,
    LimitedCodec,
    half_a_pair,
    too_deep,
    unique,
)
from motadata.core.codec._tree import Form, flatten, restore
from motadata.core.codec._vectors import unpack_vector
from motadata.core.errors import CodecError, ConfigurationError


if TYPE_CHECKING:
    from pydantic import BaseModel

_DEEPEST: Final = 96
_INTEGERS: Final = range(-(2**63), 2**63)


class Kind(IntEnum):
    """The kinds of `envelope.proto`."""

    NULL = 1
    BOOLEAN = 2
    INTEGER = 3
    NUMBER = 4
    TEXT = 5
    BYTES = 6
    LIST = 7
    DICT = 8
    NUMBERS = 9
    VECTOR_F4 = 10
    VECTOR_F8 = 11
    BIG_INTEGER = 12
    DATETIME = 13
    DATE = 14
    UUID = 15
    DECIMAL = 16
    RECORD = 17
    MODEL = 18


class _Vector(tuple[str, bytes]):
    """The type and the bytes of a vector within a tree."""

    __slots__ = ()


_TAGS: Final = {
    "$int": Kind.BIG_INTEGER,
    "$datetime": Kind.DATETIME,
    "$date": Kind.DATE,
    "$uuid": Kind.UUID,
    "$decimal": Kind.DECIMAL,
}
_NAMED: Final = {"$record": Kind.RECORD, "$model": Kind.MODEL}
_TAG_OF: Final[dict[int, str]] = {kind: tag for tag, kind in (_TAGS | _NAMED).items()}
_VECTORS: Final = {"<f4": Kind.VECTOR_F4, "<f8": Kind.VECTOR_F8}
_VECTOR_OF: Final[dict[int, str]] = {kind: name for name, kind in _VECTORS.items()}


class ProtobufCodec(LimitedCodec):
    """Protobuf by the published `envelope.proto`, message `Value`; needs the extra `protobuf`.

    Slower than MessagePack from Python, since each part of a value is a message of its own.

    Args:
        max_bytes: Largest encoded value.
        max_depth: Most containers, records and models within each other; at most 96.
        models: Classes of pydantic models, whose instances travel by the names of their classes.

    Raises:
        ConfigurationError: A limit is out of range, or a model's class is none or not alone.
        MissingExtraError: protobuf is not installed.
    """

    def __init__(
        self,
        *,
        max_bytes: int = MAX_BYTES,
        max_depth: int = MAX_DEPTH,
        models: Iterable[type[BaseModel]] = (),
    ) -> None:
        super().__init__(max_bytes=max_bytes, max_depth=max_depth, models=models)
        if max_depth > _DEEPEST:
            message = f"max_depth={max_depth!r} is more than Protobuf's libraries read."
            raise ConfigurationError(message, remedy=f"Give at most {_DEEPEST}.")
        self._form = Form(self._models, binary=True, vector=_vector)
        self._message = value_message()

    @property
    def content_type(self) -> str:
        """`application/protobuf`."""
        return "application/protobuf"

    def encode(self, value: object) -> bytes:
        """Return `value` as a serialized message.

        Raises:
            CodecError: A part of the value has no encoding, or it is too large or nested too deep.
        """
        message = self._message()
        try:
            _write(message, flatten(value, self._form, self._max_depth))
            data = message.SerializeToString(deterministic=True)
        except UnicodeEncodeError:
            # Not chained: the error holds the text.
            raise half_a_pair() from None
        except RecursionError:
            raise too_deep() from None
        if len(data) > self._max_bytes:
            raise self._too_large(len(data))
        return data

    def decode(self, data: bytes) -> object:
        """Return the value that `data` encodes.

        Raises:
            CodecError: `data` is malformed, larger or deeper than the limits.
            MissingExtraError: It holds a vector, and numpy is not installed.
        """
        data = self._checked(data)
        try:
            message = self._parse(data)
            return restore(_read(message), self._form, self._max_depth)
        except RecursionError:
            raise too_deep() from None

    def _parse(self, data: bytes) -> ValueMessage:
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

        message = self._message()
        try:
            # Protobuf itself refuses what is nested deeper than a hundred messages.
            message.ParseFromString(data)
        except (DecodeError, RecursionError) as error:
            text = f"The data is not the message Value of Protobuf ({type(error).__name__})."
            raise CodecError(text) from None
        message.DiscardUnknownFields()
        if message.SerializeToString(deterministic=True) != data:
            text = "The data holds fields that are unknown, out of order or twice."
            remedy = "Write fields in their order; or it is newer: update motadata-core."
            raise CodecError(text, remedy=remedy)
        return message


def _vector(kind: str, data: bytes) -> object:
    return _Vector((kind, data))


def _write(message: ValueMessage, tree: object) -> None:
    if isinstance(tree, str):
        message.kind, message.text = Kind.TEXT, tree
    elif tree is None:
        message.kind = Kind.NULL
    elif isinstance(tree, bool):
        message.kind, message.boolean = Kind.BOOLEAN, tree
    elif isinstance(tree, int):
        if tree in _INTEGERS:
            message.kind, message.integer = Kind.INTEGER, tree
        else:
            message.kind, message.text = Kind.BIG_INTEGER, hex(tree)
    elif isinstance(tree, float):
        message.kind, message.number = Kind.NUMBER, tree
    elif isinstance(tree, bytes):
        message.kind, message.data = Kind.BYTES, tree
    else:
        _write_container(message, tree)


def _write_container(message: ValueMessage, tree: object) -> None:
    match tree:
        case _Vector():
            message.kind, message.data = _VECTORS[tree[0]], tree[1]
        case list():
            if tree and set(map(type, tree)) == {float}:
                message.kind = Kind.NUMBERS
                message.numbers.extend(tree)
                return
            message.kind = Kind.LIST
            for item in tree:
                _write(message.items.add(), item)
        case dict():
            tag = next(iter(tree)) if len(tree) == 1 else ""
            if tag in _TAGS:
                message.kind, message.text = _TAGS[tag], tree[tag]
            elif tag in _NAMED:
                message.kind = _NAMED[tag]
                message.text, fields = tree[tag]
                _write_items(message, fields)
            else:
                message.kind = Kind.DICT
                # Kinds tell tags from keys, so no key needs its second dollar sign.
                _write_items(message, {tag[1:]: tree[tag]} if tag.startswith("$$") else tree)


def _write_items(message: ValueMessage, items: dict[str, object]) -> None:
    message.keys.extend(items)
    for item in items.values():
        _write(message.items.add(), item)


def _read(message: ValueMessage) -> object:
    read = _READERS.get(message.kind)
    if read is not None:
        return read(message)
    kind = message.kind
    if kind in _VECTOR_OF:
        return unpack_vector(_VECTOR_OF[kind], message.data)
    tag = _TAG_OF.get(kind)
    if tag is None:
        text = f"The kind {kind} is unknown."
        raise CodecError(text, remedy="It may come from a newer version: update motadata-core.")
    return {tag: [message.text, _read_items(message)] if tag in _NAMED else message.text}


def _read_dict(message: ValueMessage) -> dict[str, object]:
    tree = _read_items(message)
    if len(tree) == 1:
        key = next(iter(tree))
        if key.startswith("$"):
            return {f"${key}": tree[key]}
    return tree


def _read_items(message: ValueMessage) -> dict[str, object]:
    if len(message.keys) != len(message.items):
        text = f"A mapping holds {len(message.keys)} keys and {len(message.items)} values."
        raise CodecError(text, remedy="Write a value for each key.")
    return unique(
        [(key, _read(item)) for key, item in zip(message.keys, message.items, strict=True)]
    )


_READERS: Final[dict[int, Callable[[ValueMessage], object]]] = {
    Kind.NULL: lambda _: None,
    Kind.BOOLEAN: lambda message: message.boolean,
    Kind.INTEGER: lambda message: message.integer,
    Kind.NUMBER: lambda message: message.number,
    Kind.TEXT: lambda message: message.text,
    Kind.BYTES: lambda message: message.data,
    Kind.LIST: lambda message: [_read(item) for item in message.items],
    Kind.DICT: _read_dict,
    Kind.NUMBERS: lambda message: list(message.numbers),
}
