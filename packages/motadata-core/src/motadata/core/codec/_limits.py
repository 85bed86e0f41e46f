"""What the formats share: limits, checked before anything is decoded, and models by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Literal

from motadata.core.codec._models import ModelSet
from motadata.core.errors import CodecError, ConfigurationError


if TYPE_CHECKING:
    from pydantic import BaseModel

MAX_BYTES: Final = 16 * 1024 * 1024
MAX_DEPTH: Final = 64

Engine = Literal["auto", "fast", "plain"]
"""What does the work: `fast` needs the extra of that name, `auto` takes it where it is there."""


class LimitedCodec:
    """A codec with limits and models; the formats derive from it."""

    def __init__(
        self,
        *,
        max_bytes: int = MAX_BYTES,
        max_depth: int = MAX_DEPTH,
        models: Iterable[type[BaseModel]] = (),
    ) -> None:
        for name, number in (("max_bytes", max_bytes), ("max_depth", max_depth)):
            if number < 1:
                message = f"{name}={number!r} is not a limit."
                raise ConfigurationError(message, remedy="Give a positive number.")
        self._max_bytes = max_bytes
        self._max_depth = max_depth
        self._models = ModelSet(models)

    def _checked(self, data: object) -> bytes:
        return check_bytes(data, self._max_bytes)

    def _too_large(self, size: int) -> CodecError:
        return _too_large(size, self._max_bytes)


def check_bytes(data: object, limit: int) -> bytes:
    """Return `data` as bytes, unless there are too many of them.

    Raises:
        CodecError: It is neither bytes nor a view of them, or larger than `limit`.
    """
    if type(data) is bytes and len(data) <= limit:
        return data
    if not isinstance(data, bytes | bytearray | memoryview):
        message = f"A value of type {type(data).__name__!r} cannot be decoded."
        raise CodecError(message, remedy="Pass bytes.")
    size = memoryview(data).nbytes
    if size > limit:
        raise _too_large(size, limit)
    return bytes(data)


def _too_large(size: int, limit: int) -> CodecError:
    message = f"The encoded value has {size} bytes; at most {limit} are allowed."
    return CodecError(message, remedy="Split it, or raise max_bytes on both sides.")


def half_a_pair() -> CodecError:
    """Return the error of a text that has no UTF-8 form; the cause of it holds the text."""
    message = "A text holds half of a surrogate pair, which has no UTF-8 form."
    return CodecError(message, remedy="Replace it before encoding.")


def too_deep() -> CodecError:
    """Return the error of nesting for which the interpreter's own stack does not suffice."""
    message = "The value is nested too deep for the stack of the caller."
    return CodecError(message, remedy="Flatten it, or lower max_depth.")


def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return a mapping of those pairs.

    Raises:
        CodecError: A key stands there twice.
    """
    tree = dict(pairs)
    if len(tree) != len(pairs):
        message = "A mapping holds one key twice."
        raise CodecError(message)
    return tree
