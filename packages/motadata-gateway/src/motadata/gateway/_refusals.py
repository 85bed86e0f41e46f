"""What a provider's refusal means, as one of our errors; the same for both lanes.

The provider's own words are looked at and never repeated: they may quote the prompt or the key.
What is raised names the model and the status.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

from motadata.core.errors import (
    ConfigurationError,
    ContentPolicyError,
    ContextLengthError,
    ProviderError,
    RateLimitError,
    SDKError,
    ValidationError,
)


_LONGEST_WAIT: Final = 86_400.0
_POLICY: Final = frozenset(
    (
        *("content_policy_violation", "content_filter", "content_policy", "safety"),
        *("ResponsibleAIPolicyViolation", "moderation_blocked", "ContentPolicyViolationError"),
    )
)
_TOO_LONG: Final = frozenset(("context_length_exceeded", "ContextWindowExceededError"))
_TOO_LONG_WORDS: Final = re.compile(
    r"context[ _](length|window|limit|size)|prompt is too long|input is too long"
    r"|too many (input )?tokens|maximum (input|prompt) length|exceeds? the (model's )?max",
    re.IGNORECASE,
)
_POLICY_WORDS: Final = re.compile(r"content (management )?policy|flagged|moderation", re.IGNORECASE)
_SPENT: Final = frozenset(("insufficient_quota", "billing_hard_limit_reached"))
_REFUSED: Final = frozenset((None, 400, 413, 422))
_TRANSIENT: Final = frozenset((408, 409, 425))
# What a stream that has begun, whose status is 200, calls its failure.
_STATUS_OF: Final[Mapping[str, int]] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "api_error": 500,
    "server_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}


def refusal(
    model: str,
    status: int | None,
    *,
    codes: tuple[str, ...] = (),
    words: str = "",
    retry_after: float | None = None,
) -> SDKError:
    """Return the error of ours that says the same.

    Args:
        model: Full name of the model that was asked.
        status: HTTP status; None when an answer that had begun broke off with an error.
        codes: What the provider calls the error, such as `error.code` and `error.type`.
        words: Its text, by which a kind is told that has no code of its own.
        retry_after: Seconds that it asks to wait.
    """
    if status is None:
        status = next((_STATUS_OF[code] for code in codes if code in _STATUS_OF), None)
    known = set(codes)
    special = _of_content(model, status, known, words)
    if special is not None:
        return special
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        message = f"The provider of {model!r} refused the key (status {status})."
        remedy = "Give a valid one: in `api_keys`, or by TenantKeys.put if it is the tenant's own."
        return ConfigurationError(message, remedy=remedy)
    if status == HTTPStatus.NOT_FOUND or "model_not_found" in known:
        return unknown_model(model)
    if status == HTTPStatus.TOO_MANY_REQUESTS and not known & _SPENT:
        hint = "" if retry_after is None else f" for {retry_after:g} s"
        message = f"The provider of {model!r} asks to wait{hint}."
        return RateLimitError(message, retry_after=retry_after, remedy="Try again later.")
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.PAYMENT_REQUIRED):
        message = f"The account at the provider of {model!r} is spent (status {status})."
        return ProviderError(message, remedy="Top it up.", retryable=False, status=status)
    return _of_status(model, status, retry_after)


def unknown_model(model: str) -> ConfigurationError:
    """Return the error that the provider does not know the model."""
    message = f"The provider does not know the model {model!r}."
    return ConfigurationError(message, remedy="Check its name, and what the key may use.")


def unreachable(model: str, kind: str) -> ProviderError:
    """Return the error that there was no whole answer, for a reason that is not the provider's."""
    message = f"The provider of {model!r} could not be reached or fell silent ({kind})."
    return ProviderError(message, remedy="Try again, or check its address.", retryable=True)


def parse_retry_after(text: str) -> float | None:
    """Return the seconds that a `Retry-After` header names, at most a day, or None."""
    text = text.strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return None
        zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = (zoned - datetime.now(UTC)).total_seconds()
    if seconds != seconds:  # noqa: PLR0124 - not a number
        return None
    return min(max(seconds, 0.0), _LONGEST_WAIT)


def _of_content(model: str, status: int | None, codes: set[str], words: str) -> SDKError | None:
    flagged = status in (HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN) and _POLICY_WORDS.search(
        words
    )
    if codes & _POLICY or flagged:
        message = f"The provider of {model!r} refused the content of the request."
        return ContentPolicyError(
            message, remedy="Rephrase it, or ask another.", retryable=False, status=status
        )
    if codes & _TOO_LONG or (status in _REFUSED and _TOO_LONG_WORDS.search(words)):
        message = f"The conversation is longer than the model {model!r} takes."
        return ContextLengthError(message, remedy="Shorten it, or ask a model with more room.")
    return None


def _of_status(model: str, status: int | None, retry_after: float | None) -> SDKError:
    if status is not None and status not in _TRANSIENT:
        if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
            message = f"The provider of {model!r} refused the request (status {status})."
            return ValidationError(message, remedy="Check its parameters and its length.")
        if status < HTTPStatus.BAD_REQUEST:
            message = f"The address of the provider of {model!r} serves no models ({status})."
            return ProviderError(
                message, remedy="Check `base_urls`.", retryable=False, status=status
            )
    shown = "an error of its own" if status is None else f"status {status}"
    return ProviderError(
        f"The provider of {model!r} failed ({shown}).",
        remedy="Try again.",
        retryable=True,
        status=status,
        retry_after=retry_after,
    )
