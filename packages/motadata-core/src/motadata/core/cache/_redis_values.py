"""A value on the server: a header that the server writes, and the encoded value.

| bytes | hold |
|---|---|
| 1 | the version of this form |
| 1 | the number of tags |
| 13 | when it ends, in milliseconds of the server's clock, in decimal digits |
| 48 a tag | 32 digits of the tag's digest, 16 of the word that it bore when the value was made |
| 4 | CRC-32 of the value's place and of the rest |
| the rest | MessagePack |

The checksum is made where the value is encoded and checked where it is decoded, so a bit that flips
on any way, or an answer to somebody else's question, is a miss and never another value.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from importlib import import_module
from struct import Struct
from typing import Final, cast

from motadata.core.cache._key import RedisNames
from motadata.core.codec import MessagePackCodec
from motadata.core.errors import CacheError, CodecError


Checksum = Callable[[bytes, int], int]


def find_checksum() -> Checksum:
    """Return CRC-32, of zlib-ng where it is installed: a seventh of the time.

    That is a tenth of what reading a value of 2 KB takes, and more for larger ones.
    """
    try:
        return cast("Checksum", import_module("zlib_ng.zlib_ng").crc32)
    except ImportError:
        return zlib.crc32


checksum: Final = find_checksum()

VERSION: Final = 2
_ENDS: Final = slice(2, 15)
_HEADER: Final = 15
_TAG: Final = 48
_DIGEST: Final = 32
_CHECKSUM: Final = 4

open_value: Final = Struct(">BB13xIBH").unpack_from
"""Returns version, number of tags, checksum, and how a text without tags begins: `TEXT`, size."""

ENCODED: Final = _HEADER + _CHECKSUM
"""Where a value without tags begins."""

IN_TEXT: Final = ENCODED + 3
"""Where a text of 256 bytes to 64 KB begins that has no tags."""

TEXT: Final = 0xDA
"""How MessagePack begins such a text."""

_CODEC: Final = MessagePackCodec()


class DamagedValueError(CodecError):
    """A value is not the one that was stored there."""


def place_mark(names: RedisNames, digest: str) -> int:
    """Return the checksum of a value's place, with which that of the value begins."""
    return checksum(names.value_key("", digest).encode(), 0)


def encode_value(value: object, mark: int) -> bytes:
    """Return the encoded value with its checksum, without its header.

    Raises:
        CacheError: A part of it has no encoding, or it is too large or nested too deep.
    """
    try:
        encoded = _CODEC.encode(value)
    except CodecError as error:
        message = f"The value cannot be cached. {error}"
        raise CacheError(message) from None
    return checksum(encoded, mark).to_bytes(_CHECKSUM, "big") + encoded


def decode_value(data: bytes, mark: int) -> object:
    """Return a value.

    Raises:
        DamagedValueError: It was not stored at this place, or not like this.
        CodecError: This version cannot read it.
    """
    if len(data) < _HEADER or data[0] != VERSION:
        message = "The cached value has a form that is not known."
        raise CodecError(message, remedy="Update motadata-core on every instance.")
    start = _HEADER + data[1] * _TAG
    encoded = data[start + _CHECKSUM :]
    if checksum(encoded, mark) != int.from_bytes(data[start : start + _CHECKSUM], "big"):
        message = "The cached value was damaged on its way."
        raise DamagedValueError(message, remedy="Use TLS to the server where this happens often.")
    return _CODEC.decode(encoded)


def has_tags(data: bytes) -> bool:
    """Tell whether a value has tags, without reading them."""
    return data[1:2] > b"\0"


def read_tags(data: bytes) -> tuple[tuple[str, bytes], ...]:
    """Return the digest of each tag of a value, and the word that it must bear."""
    if len(data) < _HEADER or data[1] == 0:
        return ()
    return tuple(
        (data[at : at + _DIGEST].decode("ascii", "replace"), data[at + _DIGEST : at + _TAG])
        for at in range(_HEADER, _HEADER + data[1] * _TAG, _TAG)
    )


def milliseconds_left(data: bytes, now: int) -> int:
    """Return how long a value has still to live, by the server's clock."""
    digits = data[_ENDS]
    return max(0, int(digits) - now) if digits.isdigit() else 0
