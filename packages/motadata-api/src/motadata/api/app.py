"""Builds the ASGI application that serves a platform over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from motadata.api._console import console_routes
from motadata.api._documents import document_routes, upload_routes
from motadata.api._feedback import feedback_routes
from motadata.api._health import health_routes
from motadata.api._metrics import metrics_routes
from motadata.api._middleware import (
    Authentication,
    Authenticator,
    RequestContext,
    RequestLimits,
)
from motadata.api._problems import Problem, ProblemError, invalid_request
from motadata.api._query import query_routes
from motadata.api._responses import problem_response
from motadata.api._usage import usage_routes
from motadata.api._version import __version__
from motadata.api.keys import ApiKeys
from motadata.api.settings import ApiSettings
from motadata.core.platform import Platform


_CODES = {404: "not_found", 405: "method_not_allowed", 400: "bad_request"}


def create_app(
    platform: Platform,
    *,
    settings: ApiSettings | None = None,
    authenticate: Authenticator | None = None,
) -> FastAPI:
    """Return an ASGI application that serves what `platform` has.

    Endpoints of components that are not installed are absent. A platform that is not open yet is
    opened and closed by the application's lifespan; an open one stays its owner's.

    Args:
        platform: The components.
        settings: Limits; None reads `MOTADATA_API_…` from the platform's environment.
        authenticate: Takes a bearer token, returns its tenant, raises `AuthenticationError`; None
            asks the platform's `api_keys`.

    Raises:
        ConfigurationError: A setting does not fit.
    """
    limits = settings or ApiSettings.from_environment(platform.environment)

    async def by_api_key(token: str) -> str:
        return await cast("ApiKeys", platform.component("api_keys")).verify(token)

    app = FastAPI(
        title="Motadata AI SDK",
        version=__version__,
        description="Documents in, cited answers out, per tenant.",
        docs_url=None,  # both pages would load scripts from elsewhere
        redoc_url=None,
        lifespan=lambda _app: _open_platform(platform),
        exception_handlers={
            RequestValidationError: _on_invalid_request,
            HTTPException: _on_http_exception,
        },
    )
    app.include_router(health_routes(platform))
    if limits.metrics_token is not None:
        app.include_router(metrics_routes(limits.metrics_token))
    app.include_router(console_routes())
    if "knowledge_base" in platform.roles or "agent" in platform.roles:
        app.include_router(query_routes(platform))
    if "knowledge_base" in platform.roles:
        app.include_router(upload_routes(platform, limits))
        app.include_router(document_routes(platform))
    if "feedback" in platform.roles:
        app.include_router(feedback_routes(platform))
    if "usage" in platform.roles:
        app.include_router(usage_routes(platform))
    # The last one added stands outermost.
    app.add_middleware(Authentication, authenticate=authenticate or by_api_key)
    app.add_middleware(RequestLimits, settings=limits)
    app.add_middleware(RequestContext)
    return app


@asynccontextmanager
async def _open_platform(platform: Platform) -> AsyncIterator[None]:
    if any(platform.has(role) for role in platform.roles):
        yield
        return
    async with platform:
        yield


async def _on_invalid_request(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return problem_response(invalid_request(error.errors(), located=True))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, ProblemError):  # FastAPI wraps what reading the body raised
        return problem_response(error.__cause__.problem)
    messages = {
        404: f"There is nothing at {request.url.path[:200]!r}.",
        405: f"The method {request.method} does not go with {request.url.path[:200]!r}.",
        400: "The body cannot be read.",
    }
    problem = Problem(
        status=error.status_code,
        code=_CODES.get(error.status_code, "http_error"),
        message=messages.get(error.status_code, "The request cannot be served."),
        remedy="/openapi.json describes every request.",
    )
    response = problem_response(problem)
    response.headers.update(error.headers or {})
    return response
