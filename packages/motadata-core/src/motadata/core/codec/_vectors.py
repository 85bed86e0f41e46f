"""Vectors of numpy: their raw little-endian bytes, and the name of their type."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Final

from motadata.core.errors import CodecError, MissingExtraError


if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.generic]

EXTENSIONS: Final = {1: "<f4", 2: "<f8"}
"""The MessagePack extension types of vectors, and what each holds."""

CODES: Final = {name: code for code, name in EXTENSIONS.items()}

_WIDTHS: Final = {"<f4": 4, "<f8": 8}
# By the character of a type in numpy, which is far quicker to get than its name.
_KINDS: Final = {"f": "<f4", "d": "<f8"}

_dtypes: dict[str, np.dtype[np.generic]] = {}


def is_array(value: object) -> bool:
    """Tell whether `value` is an array of numpy, without importing numpy."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def pack_vector(value: Array) -> tuple[str, bytes]:
    """Return the type and the bytes of a vector.

    Raises:
        CodecError: It is no vector of float32 or float64, or holds NaN or an infinity.
    """
    dtype = value.dtype
    kind = _KINDS.get(dtype.char)
    if kind is None or value.ndim != 1:
        message = f"An array of {dtype.name} with {value.ndim} axes has no encoding."
        raise CodecError(message, remedy="Pass one vector, as .astype('float32') or 'float64'.")
    if dtype.str != kind:
        value = value.astype(kind)
    # Looking for a zero among the answers takes a quarter of the time of their `all`.
    if 0 in _numpy().isfinite(value).tobytes():
        message = "A vector that holds NaN or an infinity has no encoding."
        raise CodecError(message, remedy="Replace these numbers, or leave the vector out.")
    return kind, value.tobytes()


def unpack_vector(kind: str, data: bytes) -> Array:
    """Return the vector of those bytes, which cannot be written to.

    Raises:
        CodecError: The type is unknown, the length is not a multiple of its width, or NaN or an
            infinity is among the numbers.
        MissingExtraError: numpy is not installed.
    """
    width = _WIDTHS.get(kind)
    if width is None or len(data) % width:
        message = f"A vector of type {kind[:8]!r} cannot have {len(data)} bytes."
        raise CodecError(message, remedy="It may come from a newer version: update motadata-core.")
    numpy = _numpy()
    dtype = _dtypes.get(kind)
    if dtype is None:
        # Reading the name costs as much as reading the vector.
        dtype = _dtypes[kind] = numpy.dtype(kind)
    vector: Array = numpy.frombuffer(data, dtype)
    if 0 in numpy.isfinite(vector).tobytes():
        message = "The data holds a vector with NaN or an infinity."
        raise CodecError(message, remedy="Replace these numbers, or leave the vector out.")
    return vector


def _numpy() -> ModuleType:
    loaded = sys.modules.get("numpy")
    if loaded is not None:
        return loaded
    try:
        import numpy as np
    except ImportError:
        raise MissingExtraError("numpy", extra="vectors", distribution="motadata-core") from None
    return np
