"""The texts that stand for values of which a format has no form of its own."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Final, NoReturn
from uuid import UUID

from motadata.core.errors import CodecError


_FOLD: Final = ";fold=1"


def write_scalar(value: object) -> tuple[str, str]:
    """Return the tag and the text of a value.

    Raises:
        CodecError: It has no encoding.
    """
    match value:
        case int():
            return "$int", hex(value)
        case datetime():
            # An offset says which of two equal times is meant; without one, only the fold does.
            fold = _FOLD if value.fold and value.utcoffset() is None else ""
            return "$datetime", value.isoformat() + fold
        case date():
            return "$date", value.isoformat()
        case UUID():
            return "$uuid", str(value)
        case Decimal():
            return "$decimal", str(value) if value.is_finite() else refuse_number(value)
        case bytes():
            return "$bytes", base64.b64encode(value).decode("ascii")
    message = f"A value of type {type(value).__name__!r} has no encoding."
    remedy = (
        "Pass plain values, lists, dicts, records of motadata.core.models, or pydantic models "
        "that the codec was created with."
    )
    raise CodecError(message, remedy=remedy)


def read_scalar(tag: str, content: object) -> object:
    """Return the value that a tagged text stands for.

    Raises:
        CodecError: The tag is unknown, or the text malformed.
    """
    read = _READERS.get(tag)
    if read is None:
        message = f"The tag {tag[:40]!r} is unknown."
        raise CodecError(message, remedy="It may come from a newer version: update motadata-core.")
    if isinstance(content, str):
        try:
            return read(content)
        except (ValueError, OverflowError, InvalidOperation, binascii.Error):
            pass
    # Not chained: the error quotes the content.
    message = f"The content of {tag} is malformed."
    raise CodecError(message)


def refuse_number(value: float | Decimal) -> NoReturn:
    """Refuse NaN or an infinity.

    Raises:
        CodecError: Always.
    """
    message = f"The number {value} has no encoding."
    raise CodecError(message, remedy="Send None, or leave it out.")


def _read_int(text: str) -> int:
    return int(text, 16)


def _read_bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _read_datetime(text: str) -> datetime:
    if text.endswith(_FOLD):
        return datetime.fromisoformat(text.removesuffix(_FOLD)).replace(fold=1)
    return datetime.fromisoformat(text)


def _read_decimal(text: str) -> Decimal:
    value = Decimal(text)
    if not value.is_finite():
        message = "not finite"
        raise ValueError(message)
    return value


_READERS: Final[Mapping[str, Callable[[str], object]]] = {
    "$int": _read_int,
    "$bytes": _read_bytes,
    "$datetime": _read_datetime,
    "$date": date.fromisoformat,
    "$uuid": UUID,
    "$decimal": _read_decimal,
}
