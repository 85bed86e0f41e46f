"""One envelope around encoded values: its version, the media type, the bytes.

It is the message `Envelope` of `envelope.proto`, so every language's Protobuf reads it. It is
written and read here without Protobuf, whose wire format is three fields deep at this point:
https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from motadata.core.codec._limits import MAX_BYTES, check_bytes
from motadata.core.codec._registry import get_codec
from motadata.core.errors import CodecError
from motadata.core.protocols import Codec


VERSION: Final = 1

# A tag is the field's number, shifted by three bits, and how its value is written: 0 is a number
# by sevens of bits, 2 is a length and that many bytes.
_VERSION_TAG: Final = 0x08
_TYPE_TAG: Final = 0x12
_BODY_TAG: Final = 0x1A
_MAX_HEADER: Final = 256
_LAST_SHIFT: Final = 63
_CONTINUES: Final = 0x80


def seal(value: object, *, codec: Codec | None = None) -> bytes:
    """Return `value` encoded in an envelope that says how.

    Args:
        value: What to encode.
        codec: How; None means MessagePack.

    Raises:
        CodecError: A part of the value has no encoding, or it is too large or nested too deep.
    """
    chosen = codec or get_codec("application/msgpack")
    kind, body = chosen.content_type.encode(), chosen.encode(value)
    return b"".join(
        (
            bytes((_VERSION_TAG, VERSION, _TYPE_TAG)),
            _write_number(len(kind)) + kind,
            bytes((_BODY_TAG,)) + _write_number(len(body)),
            body,
        )
    )


def unseal(data: bytes, *, codecs: Iterable[Codec] = (), max_bytes: int = MAX_BYTES) -> object:
    """Return the value within an envelope.

    Args:
        data: What `seal` wrote, in this version or an earlier one.
        codecs: What to read with instead of the codecs of `get_codec`, such as codecs that know
            the models of the application.
        max_bytes: Largest body.

    Raises:
        CodecError: It is no envelope, of a newer version, of an unknown media type, or its body is
            malformed or beyond the limits.
        MissingExtraError: The extra of its format is not installed.
    """
    content_type, body = _open(check_bytes(data, max_bytes + _MAX_HEADER))
    for codec in codecs:
        if codec.content_type == content_type:
            return codec.decode(body)
    return get_codec(content_type).decode(body)


def _open(data: bytes) -> tuple[str, bytes]:
    if data[:1] != bytes((_VERSION_TAG,)):
        raise _no_envelope()
    version, at = _read_number(data, 1)
    if version != VERSION:
        message = f"The envelope is of version {version}; known is {VERSION}."
        raise CodecError(message, remedy="It comes from a newer version: update motadata-core.")
    kind, at = _read_bytes(data, at, _TYPE_TAG)
    body, at = _read_bytes(data, at, _BODY_TAG)
    if at != len(data) or not kind.isascii():
        raise _no_envelope()
    return kind.decode("ascii"), body


def _read_bytes(data: bytes, at: int, tag: int) -> tuple[bytes, int]:
    if data[at : at + 1] != bytes((tag,)):
        raise _no_envelope()
    size, at = _read_number(data, at + 1)
    if size > len(data) - at:
        raise _no_envelope()
    return data[at : at + size], at + size


def _read_number(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(data) and shift <= _LAST_SHIFT:
        byte = data[at]
        number |= (byte & ~_CONTINUES) << shift
        at, shift = at + 1, shift + 7
        if byte < _CONTINUES:
            return number, at
    raise _no_envelope()


def _write_number(number: int) -> bytes:
    written = bytearray()
    while number >= _CONTINUES:
        written.append(number & ~_CONTINUES & 0xFF | _CONTINUES)
        number >>= 7
    written.append(number)
    return bytes(written)


def _no_envelope() -> CodecError:
    message = "The data is no envelope of this SDK, or was cut or damaged."
    return CodecError(message, remedy="Pass the bytes that seal returned.")
