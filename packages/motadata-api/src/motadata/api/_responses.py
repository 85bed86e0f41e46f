"""Answers of endpoints, as JSON."""

from __future__ import annotations

from typing import Final

from fastapi.responses import Response
from pydantic import BaseModel

from motadata.api._problems import Problem
from motadata.api.schemas import ErrorBody
from motadata.core.observability import current_trace_id


JSON: Final = "application/json"

PROBLEMS: Final[dict[int | str, dict[str, object]]] = {
    status: {"model": ErrorBody, "description": description}
    for status, description in {
        400: "The request is malformed.",
        401: "The API key is missing or not valid.",
        413: "The body is too large.",
        422: "A field or a file does not fit.",
        429: "A limit is reached; Retry-After says for how long.",
        503: "A part of the service is not available; the same request may succeed later.",
        504: "The request took too long.",
    }.items()
}
"""What every endpoint may answer besides success, for its OpenAPI description."""


def json_response(body: BaseModel, *, status: int = 200) -> Response:
    """Return a body, validated already, as JSON."""
    return Response(body.model_dump_json(), status_code=status, media_type=JSON)


def problem_response(problem: Problem) -> Response:
    """Return a failure as JSON."""
    body = problem.body(current_trace_id()).model_dump_json()
    return Response(body, status_code=problem.status, media_type=JSON, headers=problem.headers())
