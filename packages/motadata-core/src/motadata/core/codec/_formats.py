"""The formats: JSON, which everything can read, and MessagePack, which is smaller."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Final, NoReturn

import msgpack  # type: ignore[import-untyped]  # its wheel carries no types

from motadata.core.codec._tree import flatten, restore
from motadata.core.errors import CodecError, ConfigurationError
from motadata.core.protocols import Codec


_MAX_BYTES: Final = 16 * 1024 * 1024
_MAX_DEPTH: Final = 64
# A record is three containers in its encoded form: {"$record": [name, {…}]}.
_CONTAINERS_PER_LEVEL: Final = 3

# Strings are swallowed whole, even one that is never closed, so that the scan is linear.
_NESTING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
_ESCAPED_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")


class _TreeCodec:
    """What the formats share: limits, and a tree of plain values between value and bytes."""

    def __init__(self, *, max_bytes: int = _MAX_BYTES, max_depth: int = _MAX_DEPTH) -> None:
        for name, number in (("max_bytes", max_bytes), ("max_depth", max_depth)):
            if number < 1:
                message = f"{name}={number!r} is not a limit."
                raise ConfigurationError(message, remedy="Give a positive number.")
        self._max_bytes = max_bytes
        self._max_depth = max_depth

    def _pack(self, value: object, pack: Callable[[object], bytes], *, binary: bool) -> bytes:
        tree = flatten(value, binary=binary, depth=self._max_depth)
        try:
            data = pack(tree)
        except UnicodeEncodeError:
            # Not chained: the error holds the text.
            message = "A text holds half of a surrogate pair, which has no UTF-8 form."
            raise CodecError(message, remedy="Replace it before encoding.") from None
        self._check_size(len(data))
        return data

    def _check(self, data: object) -> bytes:
        if not isinstance(data, bytes | bytearray | memoryview):
            message = f"A value of type {type(data).__name__!r} cannot be decoded."
            raise CodecError(message, remedy="Pass bytes.")
        self._check_size(len(data))
        return bytes(data)

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            message = f"The encoded value has {size} bytes; at most {self._max_bytes} are allowed."
            raise CodecError(message, remedy="Split it, or raise max_bytes on both sides.")


class JsonCodec(_TreeCodec):
    """JSON (RFC 8259) in UTF-8, without NaN, infinities and duplicate keys.

    Args:
        max_bytes: Largest encoded value.
        max_depth: Most containers and records within each other.
    """

    @property
    def content_type(self) -> str:
        """`application/json`."""
        return "application/json"

    def encode(self, value: object) -> bytes:
        """Return `value` as JSON.

        Raises:
            CodecError: A part of the value has no encoding, or it is too large or nested too deep.
        """
        return self._pack(value, _dump_json, binary=False)

    def decode(self, data: bytes) -> object:
        """Return the value that `data` encodes.

        Raises:
            CodecError: `data` is malformed, larger or deeper than the limits.
        """
        checked = self._check(data)
        self._check_nesting(checked)
        try:
            tree = _load_json(checked.decode())
        except UnicodeDecodeError as error:
            message = f"The data is not UTF-8: byte {error.start} does not fit."
            raise CodecError(message) from None
        except UnicodeEncodeError:
            message = "A text in the data holds half of a surrogate pair."
            raise CodecError(message) from None
        except json.JSONDecodeError as error:
            message = f"The data is not JSON: {error.msg} at character {error.pos}."
            raise CodecError(message) from None
        except ValueError:
            message = "The data holds a number that is too long."
            raise CodecError(message) from None
        return restore(tree, depth=self._max_depth)

    def _check_nesting(self, data: bytes) -> None:
        limit = self._max_depth * _CONTAINERS_PER_LEVEL
        if data.count(b"[") + data.count(b"{") <= limit:
            return
        depth = 0
        for found in _NESTING.finditer(data):
            mark = data[found.start()]
            if mark in b"[{":
                depth += 1
                if depth > limit:
                    message = f"The data is nested deeper than {self._max_depth} levels."
                    raise CodecError(message, remedy="Flatten it, or raise max_depth.")
            elif mark in b"]}":
                depth -= 1


class MessagePackCodec(_TreeCodec):
    """MessagePack, about two thirds the size of JSON for text and half for vectors.

    Args:
        max_bytes: Largest encoded value.
        max_depth: Most containers and records within each other.
    """

    @property
    def content_type(self) -> str:
        """`application/msgpack`."""
        return "application/msgpack"

    def encode(self, value: object) -> bytes:
        """Return `value` as MessagePack.

        Raises:
            CodecError: A part of the value has no encoding, or it is too large or nested too deep.
        """
        return self._pack(value, msgpack.packb, binary=True)

    def decode(self, data: bytes) -> object:
        """Return the value that `data` encodes.

        Raises:
            CodecError: `data` is malformed, larger or deeper than the limits.
        """
        checked = self._check(data)
        try:
            # The unpacker keeps its own stack of bounded depth, so nesting cannot overflow ours.
            tree = msgpack.unpackb(checked, object_pairs_hook=_unique)
        except (ValueError, msgpack.UnpackException, RecursionError) as error:
            message = f"The data is not MessagePack ({type(error).__name__})."
            raise CodecError(message) from None
        return restore(tree, depth=self._max_depth)


def get_codec(content_type: str) -> Codec:
    """Return the codec of a media type; parameters such as `charset` are ignored.

    Raises:
        CodecError: No codec writes it.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    codec = _CODECS.get(media_type)
    if codec is None:
        message = f"No codec writes {media_type[:80]!r}."
        raise CodecError(message, remedy=f"Known are {', '.join(sorted(_CODECS))}.")
    return codec


def _dump_json(tree: object) -> bytes:
    return json.dumps(tree, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _load_json(text: str) -> object:
    tree: object = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique)
    if _ESCAPED_SURROGATE.search(text):
        # Pairs have become one character by now; halves show when the tree is written again.
        _dump_json(tree)
    return tree


def _refuse_constant(name: str) -> NoReturn:
    message = f"{name} is no JSON number."
    raise CodecError(message, remedy="Send null, or leave it out.")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    tree = dict(pairs)
    if len(tree) != len(pairs):
        message = "A mapping holds one key twice."
        raise CodecError(message)
    return tree


_CODECS: Final[dict[str, Codec]] = {
    "application/json": JsonCodec(),
    "application/msgpack": MessagePackCodec(),
}
