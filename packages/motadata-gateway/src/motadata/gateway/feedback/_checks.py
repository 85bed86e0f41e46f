"""Values that come from outside, refused by name before they reach a statement."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

from motadata.core.errors import ValidationError


_LONGEST_USER: Final = 200


def checked_call_id(call_id: str) -> UUID:
    """Return the id of a call.

    Raises:
        ValidationError: It is none, as when nothing recorded the call.
    """
    try:
        return UUID(call_id)
    except (ValueError, AttributeError, TypeError):
        message = f"{str(call_id)[:40]!r} is no id of a call."
        remedy = "Pass the answer's call_id; it is empty unless the gateway has a usage log."
        raise ValidationError(message, remedy=remedy) from None


def checked_user(user: str) -> str:
    """Return who speaks.

    Raises:
        ValidationError: It is no string of at most 200 printable characters.
    """
    text = checked_text("user", user, longest=_LONGEST_USER)
    if not text.isprintable():
        message = "The user's id holds control characters."
        raise ValidationError(message, remedy="Pass an opaque id, such as a UUID.")
    return text


def checked_text(name: str, value: str, *, longest: int) -> str:
    """Return a text that PostgreSQL can keep.

    Raises:
        ValidationError: It is no string, too long, or holds NUL or half of a surrogate pair.
    """
    given: object = value
    if not isinstance(given, str):
        message = f"The {name} is a {type(given).__name__}."
        raise ValidationError(message, remedy="Pass a string.")
    if len(given) > longest:
        message = f"The {name} has {len(given)} characters."
        raise ValidationError(message, remedy=f"Pass at most {longest}.")
    try:
        given.encode()
    except UnicodeEncodeError:
        broken = True
    else:
        broken = "\0" in given
    if broken:
        message = f"The {name} holds NUL or half of a surrogate pair."
        raise ValidationError(message, remedy="Pass valid text.")
    return given


def check_count(name: str, value: object, *, low: int, high: int) -> None:
    """Refuse what is no whole number of a range.

    Raises:
        ValidationError: It is none.
    """
    fits = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
    if not fits:
        message = f"{name}={str(value)[:40]!r} is out of range."
        raise ValidationError(message, remedy=f"Pass {low} to {high}.")


def checked_moment(name: str, value: datetime | None, *, otherwise: datetime) -> datetime:
    """Return a moment, or the other one when there is none.

    Raises:
        ValidationError: It has no time zone.
    """
    if value is None:
        return otherwise
    given: object = value
    if not isinstance(given, datetime) or given.tzinfo is None:
        message = f"{name} is no moment with a time zone."
        raise ValidationError(message, remedy="Pass one like datetime.now(UTC).")
    return given
