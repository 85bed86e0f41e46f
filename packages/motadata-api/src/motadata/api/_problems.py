"""What a failure looks like from outside: a status and a problem body, for every error there is.

    {"error": {"code": "document_not_found", "message": "…", "remedy": "…",
               "retryable": false, "trace_id": "…"}}

The table below is the only place that knows statuses. A failure that is none of the caller's
business (500) says no more than its trace id.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from pydantic_core import ErrorDetails

from motadata.api.schemas import ErrorBody, ErrorDetail
from motadata.api.unified import ModeNotAvailableError
from motadata.core import errors


_STATUS: Final[dict[type[errors.SDKError], int]] = {
    errors.TenantError: 400,
    errors.ValidationError: 400,
    errors.AuthenticationError: 401,
    errors.AccessError: 403,
    errors.DocumentNotFoundError: 404,
    errors.FileTooLargeError: 413,
    errors.UnsupportedFormatError: 415,
    errors.IngestionError: 422,
    errors.DocumentProcessingError: 422,
    errors.RetrievalError: 422,
    errors.MLError: 422,
    errors.RateLimitError: 429,
    errors.BudgetExceededError: 429,
    errors.MissingExtraError: 501,
    ModeNotAvailableError: 501,
    errors.ConfigurationError: 503,
    errors.ConnectionError: 503,
    errors.GatewayError: 503,
    errors.AgentError: 503,
    errors.CacheError: 503,
    errors.MessagingError: 503,
    errors.ResilienceError: 503,
    errors.DeadlineExceededError: 504,
}
_INTERNAL: Final = 500
_RETRYABLE_STATUS: Final = 503
_DEFAULT_RETRY_AFTER: Final = 1.0
_MAX_NAME: Final = 80


@dataclass(frozen=True, slots=True)
class Problem:
    """A failure as the HTTP API and the command line tell it.

    Attributes:
        retry_after: Seconds to wait before another try, when that may help.
    """

    status: int
    code: str
    message: str
    remedy: str | None = None
    retryable: bool = False
    retry_after: float | None = None

    def body(self, trace_id: str | None) -> ErrorBody:
        """Return what is sent."""
        return ErrorBody(error=self.detail(trace_id))

    def detail(self, trace_id: str | None) -> ErrorDetail:
        """Return the part of the body that describes the failure."""
        return ErrorDetail(
            code=self.code,
            message=self.message,
            remedy=self.remedy,
            retryable=self.retryable,
            trace_id=trace_id,
        )

    def headers(self) -> dict[str, str]:
        """Return the headers that belong to its status."""
        headers: dict[str, str] = {}
        if self.status == 401:  # noqa: PLR2004 - statuses are their own names
            headers["www-authenticate"] = 'Bearer realm="motadata"'
        if self.retry_after is not None:
            headers["retry-after"] = str(max(1, math.ceil(self.retry_after)))
        return headers


class ProblemError(Exception):
    """A failure that belongs to HTTP alone: a body that is too long, a path that is not there.

    It never leaves this package; what callers of the SDK catch is in `motadata.core.errors`.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def problem_of(error: BaseException) -> Problem:
    """Return how an error is told."""
    if isinstance(error, ProblemError):
        return error.problem
    if not isinstance(error, errors.SDKError):
        return internal_problem()
    status = _status_of(error)
    if status == _INTERNAL:
        return internal_problem(code=error.code, retryable=error.retryable)
    retry_after = getattr(error, "retry_after", None)
    if retry_after is None and (status in (429, 503, 504) and error.retryable):
        retry_after = _DEFAULT_RETRY_AFTER
    return Problem(
        status=status,
        code=error.code,
        message=message_of(error),
        remedy=error.remedy,
        retryable=error.retryable,
        retry_after=retry_after,
    )


def internal_problem(*, code: str = "internal_error", retryable: bool = False) -> Problem:
    """Return how a failure of ours is told: without its inside."""
    return Problem(
        status=_INTERNAL,
        code=code,
        message="The server failed; the request may or may not have been carried out.",
        remedy="Give the trace_id to whoever runs the server: the log has the rest.",
        retryable=retryable,
    )


def operator_problem(error: errors.SDKError) -> Problem:
    """Return how an error is told to whoever runs the SDK: with its inside."""
    problem = problem_of(error)
    if problem.status != _INTERNAL:
        return problem
    return replace(problem, message=message_of(error), remedy=error.remedy)


def message_of(error: errors.SDKError) -> str:
    """Return an error's message without the remedy that it ends in."""
    text = str(error)
    return text.removesuffix(error.remedy).rstrip() if error.remedy else text


def invalid_request(details: Sequence[ErrorDetails], *, located: bool = False) -> Problem:
    """Return how a request that does not fit its schema is told: which field, not which value.

    Args:
        details: What pydantic found.
        located: Whether each place starts with the part of the request: body, query or path.
    """
    first = details[0]
    malformed = first["type"] == "json_invalid"
    if malformed:
        return Problem(
            status=400,
            code="malformed_json",
            message="The body is not valid JSON.",
            remedy="Send one JSON object with Content-Type: application/json.",
        )
    location = first["loc"][1:] if located else first["loc"]
    name = ".".join(map(str, location))[:_MAX_NAME] or "the body"
    return Problem(
        status=422,
        code="invalid_request",
        message=f"{name}: {first['msg']}.",
        remedy="Correct the field; /openapi.json describes every request.",
    )


def _status_of(error: errors.SDKError) -> int:
    for kind in type(error).__mro__:
        status = _STATUS.get(kind)
        if status is not None:
            return _RETRYABLE_STATUS if error.retryable and status == 422 else status  # noqa: PLR2004
    return _INTERNAL
