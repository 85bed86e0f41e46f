"""What the body of a failed answer says about its failure; its words are only looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import orjson

from motadata.core.errors import SDKError
from motadata.gateway._refusals import parse_retry_after, refusal


_LOOKED_AT: Final = 4_000
_LOWEST_STATUS: Final = 400
_HIGHEST_STATUS: Final = 599


def failure_of(model: str, status: int, headers: Mapping[str, str], body: bytes) -> SDKError:
    """Return the error of an answer whose status is not 200."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = body[:_LOOKED_AT].decode("utf-8", "replace")
    codes, words = _said(value)
    wait = parse_retry_after(headers.get("Retry-After", ""))
    return refusal(model, status, codes=codes, words=words, retry_after=wait)


def failure_within(model: str, value: object) -> SDKError | None:
    """Return the error that an answer of status 200, or an event, carries; None when it is none."""
    if not isinstance(value, Mapping) or not value.get("error"):
        return None
    codes, words = _said(value)
    numbers = (int(code) for code in codes if code.isdecimal() and len(code) == len("400"))
    status = next((code for code in numbers if _LOWEST_STATUS <= code <= _HIGHEST_STATUS), None)
    return refusal(model, status, codes=codes, words=words)


def _said(value: object) -> tuple[tuple[str, ...], str]:
    """Return codes and words of an error: OpenAI's and Anthropic's shape, vLLM's, FastAPI's."""
    if isinstance(value, Mapping):
        error = value.get("error", value)
        if isinstance(error, Mapping):
            codes = tuple(
                str(error[name]) for name in ("code", "type", "status") if error.get(name)
            )
            return codes, str(error.get("message") or error.get("detail") or "")[:_LOOKED_AT]
        value = error
    return (), str(value)[:_LOOKED_AT]
