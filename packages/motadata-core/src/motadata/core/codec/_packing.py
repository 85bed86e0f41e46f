"""The libraries that read and write MessagePack, behind one face, and vectors as extensions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol, cast

import msgpack  # type: ignore[import-untyped]  # its wheel carries no types

from motadata.core.codec._limits import Engine, unique
from motadata.core.codec._vectors import CODES, EXTENSIONS, is_array, pack_vector, unpack_vector
from motadata.core.errors import CodecError, MissingExtraError, SDKError


if TYPE_CHECKING:
    from motadata.core.codec._vectors import Array

# The headers of extensions that tell a length, and how many bytes tell it.
EXTENSION_HEADERS: Final = {0xC7: 1, 0xC8: 2, 0xC9: 4}

# The same of texts from 32 bytes on.
TEXT_HEADERS: Final = {0xD9: 1, 0xDA: 2, 0xDB: 4}

# The sizes between which an extension tells its length in two bytes.
_SHORT: Final = 0xFF
_LONG: Final = 0xFFFF


class Packing(Protocol):
    """What a library does with plain values and vectors; it may lose what everything else is."""

    @property
    def is_strict(self) -> bool:
        """Whether it refuses keys that are not texts, and types that codecs do not know."""
        ...

    def pack(self, value: object) -> bytes:
        """Return MessagePack; raise TypeError or ValueError for what has none."""
        ...

    def unpack(self, data: bytes) -> object:
        """Return a tree; raise ValueError or TypeError for what cannot be read."""
        ...


class FastPacking:
    """ormsgpack, told to convert nothing by itself.

    Raises:
        ImportError: It is not installed.
    """

    is_strict = True

    def __init__(self) -> None:
        import ormsgpack

        extension = ormsgpack.Ext
        self._pack = ormsgpack.packb
        self._unpack = ormsgpack.unpackb
        self._default = lambda value: _write_array(value, extension)
        self._options = (
            ormsgpack.OPT_PASSTHROUGH_BIG_INT
            | ormsgpack.OPT_PASSTHROUGH_DATACLASS
            | ormsgpack.OPT_PASSTHROUGH_DATETIME
            | ormsgpack.OPT_PASSTHROUGH_ENUM
            | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
            | ormsgpack.OPT_PASSTHROUGH_UUID
        )

    def pack(self, value: object) -> bytes:
        """Return MessagePack; a TypeError says that there is none."""
        return self._pack(value, self._default, self._options)

    def pack_without_vectors(self, value: object) -> bytes:
        """Return MessagePack; a TypeError says that there is none, or a vector in it."""
        return self._pack(value, None, self._options)

    def unpack(self, data: bytes) -> object:
        """Return a tree; a ValueError says that the data is malformed."""
        return self._unpack(data, ext_hook=_read_quietly)


class PlainPacking:
    """msgpack, which everybody has."""

    is_strict = False

    def pack(self, value: object) -> bytes:
        """Return MessagePack; a TypeError or ValueError says that there is none."""
        packed: bytes = msgpack.packb(value, default=_write_plain_array, strict_types=True)
        return packed

    def unpack(self, data: bytes) -> object:
        """Return a tree; a ValueError says that the data is malformed."""
        tree: object = msgpack.unpackb(data, ext_hook=_read_quietly)
        return tree


def choose_packing(engine: Engine) -> Packing:
    """Return the library of an engine.

    Raises:
        MissingExtraError: It is `fast` and not installed.
    """
    if engine != "plain":
        try:
            return FastPacking()
        except ImportError as error:
            if engine == "fast":
                raise missing("ormsgpack") from error
    return PlainPacking()


def missing(package: str) -> MissingExtraError:
    """Return the error that names the extra of the fast engines."""
    return MissingExtraError(package, extra="fast", distribution="motadata-core")


def pack_tree(tree: object) -> bytes:
    """Return a tree as MessagePack, whatever is installed."""
    packed: bytes = msgpack.packb(tree)
    return packed


def unpack_strictly(data: bytes) -> object:
    """Return the tree, with every reason for a refusal.

    Raises:
        CodecError: The data is malformed, a key stands there twice, or a vector is none.
        MissingExtraError: It holds a vector, and numpy is not installed.
    """
    try:
        # The unpacker keeps its own stack of bounded depth, so nesting cannot overflow ours.
        tree: object = msgpack.unpackb(data, object_pairs_hook=unique, ext_hook=_read_extension)
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        message = f"The data is not MessagePack ({type(error).__name__})."
        raise CodecError(message) from None
    return tree


def extension(kind: str, data: bytes) -> object:
    """Return the form of a vector that msgpack writes."""
    form: object = msgpack.ExtType(CODES[kind], data)
    return form


def read_lone_vector(data: bytes) -> object | None:
    """Return the vector that is all of `data`; None when it is anything else.

    Raises:
        CodecError: It is a vector with NaN, or of a length that it cannot have.
        MissingExtraError: numpy is not installed.
    """
    width = EXTENSION_HEADERS.get(data[0]) if data else None
    if width is None or len(data) < width + 2:
        return None
    kind = EXTENSIONS.get(data[width + 1])
    if kind is None or int.from_bytes(data[1 : width + 1], "big") != len(data) - width - 2:
        return None
    return unpack_vector(kind, data[width + 2 :])


def read_lone_text(data: bytes) -> str | None:
    """Return the text that is all of `data`; None when it is anything else."""
    start = TEXT_HEADERS[data[0]] + 1
    if int.from_bytes(data[1:start], "big") != len(data) - start:
        return None
    try:
        return data[start:].decode()
    except UnicodeDecodeError:
        return None


def write_lone_vector(value: Array) -> bytes:
    """Return a vector as MessagePack.

    Raises:
        CodecError: It has no encoding.
    """
    kind, data = pack_vector(value)
    size = len(data)
    if _SHORT < size <= _LONG:
        return b"\xc8%c%c%c%b" % (size >> 8, size & 0xFF, CODES[kind], data)
    return pack_tree(extension(kind, data))


def _write_array(value: object, form: Callable[[int, bytes], object]) -> object:
    if not is_array(value):
        raise TypeError
    kind, data = pack_vector(cast("Array", value))
    return form(CODES[kind], data)


def _write_plain_array(value: object) -> object:
    return _write_array(value, msgpack.ExtType)


def _read_extension(code: int, data: bytes) -> object:
    kind = EXTENSIONS.get(code)
    if kind is None:
        message = f"The data holds an extension of the unknown type {code}."
        raise CodecError(message, remedy="Encode it with a codec of motadata.core.codec.")
    return unpack_vector(kind, data)


def _read_quietly(code: int, data: bytes) -> object:
    # What cannot be read comes out differently when it is written again, and is looked at then.
    try:
        return _read_extension(code, data)
    except SDKError:
        return None
