"""One call as one line: what is put on disk and into the database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

import orjson

from motadata.core.models import Usage
from motadata.gateway._call import Call
from motadata.gateway._requests import ChatRequest, EmbeddingRequest


Operation = Literal["chat", "embedding"]


COLUMNS: Final[Mapping[str, str]] = {
    "call_id": "uuid",
    "began_at": "timestamptz",
    "operation": "text",
    "user_id": "text",
    "feature": "text",
    "prompt": "text",
    "model_asked": "text",
    "model": "text",
    "provider": "text",
    "input_tokens": "bigint",
    "cached_input_tokens": "bigint",
    "cache_write_tokens": "bigint",
    "long_cache_write_tokens": "bigint",
    "output_tokens": "bigint",
    "reasoning_tokens": "bigint",
    "web_searches": "bigint",
    "cost_usd": "numeric",
    "saved_usd": "numeric",
    "price_version": "text",
    "seconds": "double precision",
    "first_token_seconds": "double precision",
    "streamed": "boolean",
    "cached": "text",
    "shared": "boolean",
    "fallback_from": "text",
    "attempts": "integer",
    "lost": "bigint",
    "finish_reason": "text",
    "error": "text",
    "verdicts": "jsonb",
    "trace_id": "text",
    "asked": "text",
    "answered": "text",
}
"""Columns of `motadata.gateway_call` besides the tenant, and their types."""

ADDED: Final = frozenset({"long_cache_write_tokens", "lost"})
"""Counts that lines on disk lack which an older version left there; they are 0."""

_NONE_USED: Final = Usage()
_LONGEST: Final = 256


@dataclass(slots=True)
class Course:
    """How a call went, beside what its notes say.

    Attributes:
        began: When, in seconds since 1970.
        started: When, by the clock that measures.
        seconds: How long it took.
        finish_reason: Why the answer ended; empty when there is none.
        error: Code of the error that it ended with, or empty.
        lost: Requests whose use nobody knows, though the provider may charge for them.
        asked: The conversation, when it is kept.
        answered: The answer, when it is kept.
    """

    began: float
    started: float
    seconds: float = 0.0
    finish_reason: str = ""
    error: str = ""
    lost: int = 0
    asked: str | None = None
    answered: str | None = None


def line_of(
    call: Call[ChatRequest] | Call[EmbeddingRequest],
    course: Course,
    *,
    operation: Operation,
    trace_id: str,
) -> bytes:
    """Return a call as JSON without line breaks, in the columns of the table."""
    notes, by = call.notes, call.attribution
    spent = notes.spent
    # What was not sent to anybody costs nothing; what was, and was not counted, nobody knows.
    free = spent is None and (notes.shared or bool(notes.cached) or not notes.attempts)
    used = spent or _NONE_USED
    saved, cost = notes.saved_usd, used.cost_usd
    row = {
        "call_id": notes.call_id,
        "began_at": datetime.fromtimestamp(course.began, UTC),
        "operation": operation,
        "user_id": by.user[:_LONGEST],
        "feature": by.feature[:_LONGEST],
        "prompt": by.prompt[:_LONGEST],
        "model_asked": call.request.model,
        "model": notes.model,
        "provider": notes.provider,
        "input_tokens": used.input_tokens,
        "cached_input_tokens": used.cached_input_tokens,
        "cache_write_tokens": used.cache_write_tokens,
        "long_cache_write_tokens": used.long_cache_write_tokens,
        "output_tokens": used.output_tokens,
        "reasoning_tokens": used.reasoning_tokens,
        "web_searches": used.web_searches,
        "cost_usd": "0" if free else None if cost is None else str(cost),
        "saved_usd": None if saved is None else str(saved),
        "price_version": notes.price_version,
        "seconds": course.seconds,
        "first_token_seconds": notes.first_token,
        "streamed": call.emit is not None,
        "cached": notes.cached,
        "shared": notes.shared,
        "fallback_from": notes.fallback_from,
        "attempts": notes.attempts,
        "lost": course.lost,
        "finish_reason": course.finish_reason,
        "error": course.error,
        "verdicts": [[each.rule, each.action, each.stage] for each in notes.verdicts],
        "trace_id": trace_id,
        "asked": course.asked,
        "answered": course.answered,
    }
    try:
        line = orjson.dumps(row)
    except orjson.JSONEncodeError:
        # Lone surrogates; as rare as they are unwanted in a database.
        line = orjson.dumps({name: _text(value) for name, value in row.items()})
    if b"\\u0000" in line:
        line = line.replace(b"\\u0000", b"\\ufffd")
    # A copy: orjson's own is shrunk from a larger block, and keeping thousands of those until they
    # are written costs the allocator ten microseconds each.
    return b"%b" % line


def _text(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    return value
