"""litellm's exceptions as ours: by status, without a word of their text.

The text of a provider's error may quote the prompt or the key. It stays in the `__cause__`, for a
debugger; what we raise, log or show names the model and the status only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

from motadata.core.errors import (
    ConfigurationError,
    GatewayError,
    ProviderError,
    RateLimitError,
    SDKError,
    ValidationError,
)


_UNKNOWN_MODEL: Final = frozenset({"NotFoundError", "LiteLLMUnknownProvider"})
_REFUSED: Final = frozenset(
    {"BadRequestError", "ContextWindowExceededError", "UnsupportedParamsError"}
)
_UNREACHABLE: Final = frozenset({"Timeout", "APIConnectionError", "APITimeoutError"})
_LONGEST_WAIT: Final = 86_400.0


@contextmanager
def mapped(model: str) -> Iterator[None]:
    """Raise what litellm raises in the block as one of our errors."""
    try:
        yield
    except (SDKError, TimeoutError):
        raise
    except Exception as error:
        raise as_sdk_error(error, model) from error


def as_sdk_error(error: Exception, model: str) -> GatewayError | ConfigurationError:
    """Return the error of ours that says the same.

    Args:
        error: Anything that litellm or the libraries below it raised.
        model: Full name of the model that was asked.
    """
    # litellm wraps what breaks a stream that has begun.
    original = getattr(error, "original_exception", None)
    error = original if isinstance(original, Exception) else error
    kind = type(error).__name__
    status = _status(error)
    kinds = {cls.__name__ for cls in type(error).__mro__}
    if kind == "ContentPolicyViolationError":
        message = f"The provider of {model!r} refused the content of the request."
        return ValidationError(message, remedy="Rephrase it.")
    if kind == "BadRequestError" and "LLM Provider NOT provided" in str(error):
        return _unknown(model)
    if kinds & _UNKNOWN_MODEL or status == HTTPStatus.NOT_FOUND:
        return _unknown(model)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        message = f"The provider of {model!r} refused the key (status {status})."
        return ConfigurationError(message, remedy="Give a valid one in `api_keys`.")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        wait = _retry_after(error)
        hint = "" if wait is None else f" for {wait:g} s"
        message = f"The provider of {model!r} asks to wait{hint}."
        return RateLimitError(message, retry_after=wait, remedy="Try again later.")
    if kinds & _UNREACHABLE or status == HTTPStatus.REQUEST_TIMEOUT:
        message = f"The provider of {model!r} could not be reached or fell silent ({kind})."
        return ProviderError(message, remedy="Try again, or check its address.", retryable=True)
    if kinds & _REFUSED or status in (
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    ):
        message = f"The provider of {model!r} refused the request ({kind})."
        remedy = "Check its parameters, and its length against the model's context."
        return ValidationError(message, remedy=remedy)
    shown = f"status {status}" if status else kind
    retryable = status is not None and status >= HTTPStatus.INTERNAL_SERVER_ERROR
    message = f"The provider of {model!r} failed ({shown})."
    remedy = "Try again." if retryable else "See the cause of this error."
    return ProviderError(message, remedy=remedy, retryable=retryable)


def _unknown(model: str) -> ConfigurationError:
    message = f"The provider does not know the model {model!r}."
    return ConfigurationError(message, remedy="Check its name, and what the key may use.")


def _status(error: Exception) -> int | None:
    status = getattr(error, "status_code", None)
    return status if isinstance(status, int) and status >= HTTPStatus.BAD_REQUEST else None


def _retry_after(error: Exception) -> float | None:
    """Return the seconds of a `Retry-After` header, which is a number or a date."""
    for source in (getattr(error, "response", None), error, error.__cause__, error.__context__):
        headers = getattr(source, "headers", None) or getattr(
            source, "litellm_response_headers", None
        )
        if isinstance(headers, Mapping):
            seconds = parse_retry_after(str(headers.get("retry-after", "")))
            if seconds is not None:
                return seconds
    return None


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
