"""A value on the server: one byte of version, one of how many tags, the tags, the encoded value."""

from __future__ import annotations

from typing import Final

from motadata.core.cache._redis_scripts import TAG_BYTES, VALUE_VERSION
from motadata.core.codec import MessagePackCodec
from motadata.core.errors import CacheError, CodecError


_CODEC: Final = MessagePackCodec()
_HEADER: Final = 2
_DIGEST: Final = 32


def encode_value(value: object) -> bytes:
    """Return the encoded value, without its tags, which the server adds.

    Raises:
        CacheError: A part of it has no encoding, or it is too large or nested too deep.
    """
    try:
        return _CODEC.encode(value)
    except CodecError as error:
        message = f"The value cannot be cached. {error}"
        raise CacheError(message) from None


def decode_value(data: bytes) -> tuple[object, tuple[str, ...]] | None:
    """Return a value and the digests of its tags; None when this version cannot read it."""
    if len(data) < _HEADER or data[0] != VALUE_VERSION:
        return None
    start = _HEADER + data[1] * TAG_BYTES
    tags = tuple(
        data[at : at + _DIGEST].decode("ascii", "replace")
        for at in range(_HEADER, start, TAG_BYTES)
    )
    try:
        return _CODEC.decode(data[start:]), tags
    except CodecError:
        # Written by a newer version, with a record that this one does not know.
        return None
