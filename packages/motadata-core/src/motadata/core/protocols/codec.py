"""The contract of a codec: values to bytes and back, exactly, within limits."""

from __future__ import annotations

from typing import Protocol


class Codec(Protocol):
    """Turns values into bytes and back.

    Round-trips exactly: None, bool, int of any size, finite float, str, bytes, list, dict with
    string keys, datetime with time zone, date, UUID, Decimal, and the records of
    `motadata.core.models`.
    A tuple comes back as a list. NaN and infinities are refused, since formats disagree about them.
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
        """
        ...
