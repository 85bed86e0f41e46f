"""MessagePack: small, and the format of what instances tell each other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from motadata.core.codec._limits import (
    MAX_BYTES,
    MAX_DEPTH,
    Engine,
    LimitedCodec,
    half_a_pair,
    too_deep,
)
from motadata.core.codec._packing import (
    EXTENSION_HEADERS,
    TEXT_HEADERS,
    choose_packing,
    extension,
    pack_tree,
    read_lone_text,
    read_lone_vector,
    unpack_strictly,
    write_lone_vector,
)
from motadata.core.codec._plainness import is_plain, may_hold_bytes, may_hold_times
from motadata.core.codec._tree import Form, flatten, restore
from motadata.core.codec._vectors import is_array
from motadata.core.errors import CodecError


if TYPE_CHECKING:
    from pydantic import BaseModel

    from motadata.core.codec._vectors import Array


class MessagePackCodec(LimitedCodec):
    """MessagePack, about two thirds the size of JSON for text and half for vectors.

    Args:
        max_bytes: Largest encoded value.
        max_depth: Most containers, records and models within each other.
        models: Classes of pydantic models, whose instances travel by the names of their classes.
        engine: `fast` is ormsgpack, of the extra `fast`; `plain` is msgpack; `auto` is the first
            of them that is installed. Both write the same bytes.

    Raises:
        ConfigurationError: A limit is not positive, or a model's class is none or not alone.
        MissingExtraError: The engine is `fast` and not installed.
    """

    def __init__(
        self,
        *,
        max_bytes: int = MAX_BYTES,
        max_depth: int = MAX_DEPTH,
        models: Iterable[type[BaseModel]] = (),
        engine: Engine = "auto",
    ) -> None:
        super().__init__(max_bytes=max_bytes, max_depth=max_depth, models=models)
        self._form = Form(self._models, binary=True, vector=extension)
        packing = choose_packing(engine)
        self._pack = packing.pack
        self._unpack = packing.unpack
        self._is_strict = packing.is_strict

    @property
    def content_type(self) -> str:
        """`application/msgpack`."""
        return "application/msgpack"

    def encode(self, value: object) -> bytes:
        """Return `value` as MessagePack.

        Raises:
            CodecError: A part of the value has no encoding, or it is too large or nested too deep.
        """
        data: bytes | None = None
        if type(value) is not dict and is_array(value):
            data = write_lone_vector(cast("Array", value))
        elif self._is_strict:
            try:
                packed = self._pack(value)
                if is_plain(packed, value, self._max_depth):
                    data = packed
            except (TypeError, ValueError, RecursionError):
                pass
        if data is None:
            data = self._encode_anything(value)
        if len(data) > self._max_bytes:
            raise self._too_large(len(data))
        return data

    def decode(self, data: bytes) -> object:
        """Return the value that `data` encodes.

        Raises:
            CodecError: `data` is malformed, larger or deeper than the limits.
            MissingExtraError: It holds a vector, and numpy is not installed.
        """
        if type(data) is not bytes or not 0 < len(data) <= self._max_bytes:
            data = self._checked(data)
        elif data[0] in EXTENSION_HEADERS and (vector := read_lone_vector(data)) is not None:
            return vector
        elif data[0] in TEXT_HEADERS and (text := read_lone_text(data)) is not None:
            return text
        try:
            tree = self._unpack(data)
            # Bytes that come out as they went in hold no key twice, and nothing behind the value.
            exact = self._pack(tree) == data
        except (TypeError, ValueError, CodecError, RecursionError):
            exact, tree = False, None
        try:
            if not exact:
                tree = unpack_strictly(data)
            elif (
                # msgpack lets bytes be keys, and makes times of its own.
                self._is_strict or not (may_hold_bytes(data) or may_hold_times(data))
            ) and is_plain(data, tree, self._max_depth):
                return tree
            return restore(tree, self._form, self._max_depth)
        except RecursionError:
            raise too_deep() from None

    def _encode_anything(self, value: object) -> bytes:
        try:
            return pack_tree(flatten(value, self._form, self._max_depth))
        except UnicodeEncodeError:
            # Not chained: the error holds the text.
            raise half_a_pair() from None
        except RecursionError:
            raise too_deep() from None
