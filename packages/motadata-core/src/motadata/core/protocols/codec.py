"""The contract of a codec: values to bytes and back, exactly, within limits."""

from __future__ import annotations

from typing import Protocol


class Codec(Protocol):
    """Turns values into bytes and back.

    Round-trips exactly: None, bool, int of any size, finite float, str, bytes, list, dict with
    string keys, datetime with time zone or without, date, UUID, Decimal, vectors of numpy (one
    axis, float32 or float64, finite), and the records of `motadata.core.models`. A codec that was
    told of pydantic models round-trips them as well, and refuses one that would not come back.

    A tuple comes back as a list, a bytearray as bytes, a time zone as its offset, an enumeration
    that is a string or a number as that, and a vector cannot be written to. NaN and infinities are
    refused, since formats disagree about them.
    """

    @property
    def content_type(self) -> str:
        """The media type of what `encode` returns, such as `application/json`."""
        ...

    def encode(self, value: object) -> bytes:
        """Return `value` as bytes.

        Raises:
            CodecError: The value, or a part of it, has no encoding, or is nested too deep.
        """
        ...

    def decode(self, data: bytes) -> object:
        """Return the value that `data` encodes.

        Raises:
            CodecError: `data` is malformed, larger or deeper than the limits.
            MissingExtraError: It holds a vector, and numpy is not installed.
        """
        ...
