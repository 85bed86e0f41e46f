"""litellm's exceptions as ours: by status and kind, without a word of their text.

The text stays in the `__cause__`, for a debugger.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final

from motadata.core.errors import ProviderError, SDKError
from motadata.gateway._refusals import parse_retry_after, refusal, unknown_model, unreachable
from motadata.gateway._wire import malformed


_UNKNOWN_MODEL: Final = frozenset({"NotFoundError", "LiteLLMUnknownProvider"})
_REFUSED: Final = frozenset(
    {"BadRequestError", "ContextWindowExceededError", "UnsupportedParamsError"}
)
_UNREACHABLE: Final = frozenset({"Timeout", "APIConnectionError", "APITimeoutError"})
_UNREADABLE: Final = "Error converting to valid response block"
"""What litellm says, with a status of its own making, of an answer of Gemini's that is none."""
_RETRY_DELAY: Final = re.compile(r'"retryDelay":\s*"([\d.]+)s"')
"""How Gemini asks to wait: in the body, without a `Retry-After`."""


@contextmanager
def mapped(model: str) -> Iterator[None]:
    """Raise what litellm raises in the block as one of our errors."""
    try:
        yield
    except (SDKError, TimeoutError):
        raise
    except Exception as error:
        raise as_sdk_error(error, model) from error


def as_sdk_error(error: Exception, model: str) -> SDKError:
    """Return the error of ours that says the same.

    Args:
        error: Anything that litellm or the libraries below it raised.
        model: Full name of the model that was asked.
    """
    # litellm wraps what breaks a stream that has begun.
    original = getattr(error, "original_exception", None)
    error = original if isinstance(original, Exception) else error
    kind = type(error).__name__
    kinds = {cls.__name__ for cls in type(error).__mro__}
    if kinds & _UNKNOWN_MODEL or "LLM Provider NOT provided" in str(error):
        return unknown_model(model)
    if kinds & _UNREACHABLE:
        return unreachable(model, kind)
    status = _status(error)
    if status == HTTPStatus.UNPROCESSABLE_ENTITY and _UNREADABLE in str(error):
        return malformed(model)
    if status is None and kinds & _REFUSED:
        status = HTTPStatus.BAD_REQUEST.value
    if status is None:
        message = f"The provider of {model!r} failed ({kind})."
        return ProviderError(message, remedy="See the cause of this error.", retryable=False)
    codes = (kind, str(getattr(error, "code", "")), str(getattr(error, "type", "")))
    return refusal(model, status, codes=codes, words=str(error), retry_after=_retry_after(error))


def _status(error: Exception) -> int | None:
    status = getattr(error, "status_code", None)
    return status if isinstance(status, int) and status >= HTTPStatus.BAD_REQUEST else None


def _retry_after(error: Exception) -> float | None:
    """Return the seconds of a `Retry-After` header, a number or a date, or of Gemini's words."""
    for source in (getattr(error, "response", None), error, error.__cause__, error.__context__):
        headers = getattr(source, "headers", None) or getattr(
            source, "litellm_response_headers", None
        )
        if isinstance(headers, Mapping):
            seconds = parse_retry_after(str(headers.get("retry-after", "")))
            if seconds is not None:
                return seconds
    delay = _RETRY_DELAY.search(str(error))
    return None if delay is None else parse_retry_after(delay[1])
