"""A signal as a row: checked, told apart from others, and comparable to its like."""

from __future__ import annotations

import hashlib
import string
import unicodedata
from dataclasses import dataclass
from typing import Final, Literal, cast, get_args
from uuid import UUID, uuid5

from motadata.core.errors import ValidationError
from motadata.core.models import Correction, Flag, FlagReason, Rating, Signal, Vote
from motadata.core.protocols import Row
from motadata.core.tenancy import TenantId
from motadata.gateway.feedback._checks import checked_text


Kind = Literal["rating", "vote", "correction", "flag"]

LONGEST_CORRECTION: Final = 20_000
LONGEST_COMMENT: Final = 2_000
_STARS: Final = range(1, 6)
_NEUTRAL: Final = 3
_REASONS: Final = frozenset(get_args(FlagReason))
_QUOTES: Final = "\u2018\u2019\u201c\u201d\u201e\u00ab\u00bb"
_ENDS: Final = string.whitespace + string.punctuation + "…" + _QUOTES


@dataclass(frozen=True, slots=True)
class SignalRow:
    """The columns that depend on what was said.

    Attributes:
        approves: None for neither.
        digest: What corrections that say the same have in common; else empty.
    """

    kind: Kind
    approves: bool | None
    stars: int | None = None
    reason: str = ""
    body: str = ""
    digest: bytes = b""


def row_of(signal: Signal) -> SignalRow:
    """Return a signal as a row.

    Raises:
        ValidationError: It is no signal, or holds what cannot be kept.
    """
    # Callers without a type checker pass what they like.
    given: object = signal
    match given:
        case Rating():
            stars = _checked_stars(given.stars)
            approves = None if stars == _NEUTRAL else stars > _NEUTRAL
            return SignalRow("rating", approves, stars=stars, body=_comment(given.comment))
        case Vote():
            useful = _checked_bool(given.useful)
            return SignalRow("vote", useful, body=_comment(given.comment))
        case Correction():
            text = checked_text("correction", given.text, longest=LONGEST_CORRECTION)
            if not text.strip():
                message = "The correction is empty."
                raise ValidationError(message, remedy="Say what the answer should have been.")
            return SignalRow("correction", approves=False, body=text, digest=digest_of(text))
        case Flag():
            if given.reason not in _REASONS:
                message = f"{str(given.reason)[:40]!r} is no reason to flag an answer."
                remedy = f"Use one of: {', '.join(get_args(FlagReason))}."
                raise ValidationError(message, remedy=remedy)
            body = _comment(given.comment)
            return SignalRow("flag", approves=False, reason=given.reason, body=body)
    message = f"A {type(signal).__name__} is no feedback."
    raise ValidationError(message, remedy="Pass a Rating, a Vote, a Correction or a Flag.")


def signal_of(row: Row) -> Signal:
    """Return a row as the signal that it was."""
    body = str(row["body"])
    match row["kind"]:
        case "rating":
            return Rating(cast("int", row["stars"]), body)
        case "vote":
            return Vote(useful=bool(row["approves"]), comment=body)
        case "correction":
            return Correction(body)
    return Flag(cast("FlagReason", row["reason"]), body)


def digest_of(text: str) -> bytes:
    """Return what equal corrections have in common: words, not case, blanks and outer marks."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    words = " ".join(folded.split())
    return hashlib.sha256((words.strip(_ENDS) or words).encode()).digest()


def id_of(tenant: TenantId, call_id: UUID, user: str, kind: Kind) -> UUID:
    """Return the id by which the same person's next word of that kind replaces this one."""
    # Tenant and kind hold no blank, so that no two places read the same.
    return uuid5(call_id, f"{tenant} {kind} {user}")


def _comment(value: str) -> str:
    return checked_text("comment", value, longest=LONGEST_COMMENT)


def _checked_stars(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value not in _STARS:
        message = f"stars={str(value)[:40]!r} is no rating."
        raise ValidationError(message, remedy="Pass 1, 2, 3, 4 or 5.")
    return value


def _checked_bool(value: object) -> bool:
    if not isinstance(value, bool):
        message = f"useful={str(value)[:40]!r} is neither True nor False."
        raise ValidationError(message, remedy="Pass a bool.")
    return value
