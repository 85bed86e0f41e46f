"""What may stand in a log line: facts, not secrets and not what people wrote."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import is_dataclass
from datetime import date
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from pathlib import PurePath
from typing import Final, Literal
from uuid import UUID

from motadata.core.errors import SDKError
from motadata.core.observability._personal_data import hide_personal_data


REDACTED: Final = "[redacted]"

_MAX_TEXT: Final = 500
_MAX_ITEMS: Final = 50
_MAX_DEPTH: Final = 4
_LONGEST_KNOWN_NAME: Final = 64

_SECRET_WORDS: Final = frozenset(
    (
        *("authorization", "cookie", "credential", "credentials", "passphrase", "passwd"),
        *("password", "secret", "secrets", "token"),
    )
)
_SECRET_PAIRS: Final = ("api_key", "apikey", "access_key", "private_key", "signing_key")
_HARMLESS_ENDINGS: Final = frozenset(["at", "count", "expiry", "id", "length", "name", "type"])
_TEXT_WORDS: Final = frozenset(
    (
        *("answer", "arguments", "body", "chunk", "content", "context", "document", "embedding"),
        *("input", "message", "messages", "output", "passage", "passages", "payload", "prompt"),
        *("query", "question", "quote", "text", "texts", "vector", "vectors"),
    )
)
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SUSPECT: Final = re.compile(r"://|(?i:bearer|basic)\s|\b(?:sk|pk|rk|mtd|ghp|xox[a-z])[-_.]")
_SECRETS_IN_TEXT: Final = (
    (re.compile(r"(://[^/\s:@]*):[^@/\s]+@"), r"\1:[redacted]@"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"), r"\1 [redacted]"),
    (re.compile(r"\b(?:sk|pk|rk|mtd|ghp|xox[a-z])[-_.][\w.-]{12,}"), REDACTED),
)


def redact(name: str, value: object) -> object:
    """Return `value` as it may be logged under `name`: plain, short and without secrets.

    What is named like a secret (`password`, `api_key`) or like something that people wrote
    (`prompt`, `document_text`) is replaced by a mark. Records, bytes and unknown objects show their
    type only, and long texts lose their end.
    """
    return _redact(name, value, 0)


def _redact(name: str, value: object, depth: int) -> object:  # noqa: PLR0911 - one line a type
    if value is None or isinstance(value, bool):
        return value
    kind = _kind_of(name) if len(name) <= _LONGEST_KNOWN_NAME else _kind_of.__wrapped__(name)
    if kind == "secret":
        return REDACTED
    if isinstance(value, int | float):
        return value if math.isfinite(value) else str(value)
    if kind == "text":
        return REDACTED
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, UUID | date | Decimal | PurePath):
        return str(value)
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, BaseException):
        return describe_error(value)
    if depth < _MAX_DEPTH and not is_dataclass(value):
        if isinstance(value, Mapping):
            pairs = list(value.items())[:_MAX_ITEMS]
            return {str(key): _redact(str(key), item, depth + 1) for key, item in pairs}
        if isinstance(value, list | tuple | set | frozenset):
            return [_redact("", item, depth + 1) for item in list(value)[:_MAX_ITEMS]]
    return f"<{type(value).__qualname__}>"


def clean_text(text: str) -> str:
    """Return a text without secrets and personal data of a known form, cut after 500 characters."""
    shown = text[: 2 * _MAX_TEXT]
    # Most texts that are logged hold nothing of the kind.
    if _SUSPECT.search(shown):
        for pattern, replacement in _SECRETS_IN_TEXT:
            shown = pattern.sub(replacement, shown)
    shown = hide_personal_data(shown)
    return shown if len(shown) <= _MAX_TEXT else shown[:_MAX_TEXT] + "…"


def describe_error(error: BaseException) -> dict[str, object]:
    """Return what may be logged of an error: of a third-party one, no message."""
    shown: dict[str, object] = {"type": type(error).__qualname__}
    if isinstance(error, SDKError):
        shown |= {"code": error.code, "message": clean_text(str(error))}
    return shown


@lru_cache(maxsize=4096)
def _kind_of(name: str) -> Literal["secret", "text", "fact"]:
    """Tell what is named so; names are few, and come again with every line."""
    words = _words(name)
    if _is_secret(words):
        return "secret"
    return "text" if words[-1] in _TEXT_WORDS else "fact"


def _words(name: str) -> list[str]:
    lowered = _CAMEL.sub("_", name).lower()
    return lowered.replace("-", "_").replace(".", "_").split("_")


def _is_secret(words: list[str]) -> bool:
    if words[-1] in _HARMLESS_ENDINGS:
        return False
    joined = "_".join(words)
    return not _SECRET_WORDS.isdisjoint(words) or any(pair in joined for pair in _SECRET_PAIRS)
