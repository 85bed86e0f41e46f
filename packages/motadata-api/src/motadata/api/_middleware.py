"""What happens to every request before and after its endpoint, from the outside in.

`RequestContext` (trace, log line, errors, safe headers), `RequestLimits` (size, time, disconnect),
`Authentication` (whose request it is). Plain ASGI: nothing is buffered on the way.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from motadata.api._asgi import ResponseWatch, header, route_of, send_problem
from motadata.api._problems import Problem, ProblemError, problem_of
from motadata.api.key_format import authentication_failed
from motadata.api.settings import ApiSettings
from motadata.core.errors import SDKError
from motadata.core.observability import Span, extract_trace, get_logger, record_request, span
from motadata.core.tenancy import tenant_scope


Authenticator = Callable[[str], Awaitable[str]]
"""Takes the bearer token of a request and returns its tenant, or raises `AuthenticationError`."""

_SAFE_HEADERS: Final = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]
_MAX_AUTHORIZATION: Final = 4096
_TRACE_HEADERS: Final = frozenset((b"traceparent", b"tracestate"))
_TENANT: Final = "motadata_tenant_id"

_log = get_logger("api")


class RequestContext:
    """Gives each request a trace, a log line, and a problem body for whatever goes wrong."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # As pairs: a name that stands twice has a meaning of its own.
        headers = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in scope["headers"]
            if name in _TRACE_HEADERS
        ]
        started = time.perf_counter()
        with extract_trace(headers), span("api.request", kind="server") as current:
            watch = ResponseWatch(
                send, [(b"x-trace-id", current.trace_id.encode()), *_SAFE_HEADERS]
            )
            try:
                await self._app(scope, receive, watch.send)
            except Exception as error:  # noqa: BLE001 - the last door: answered and logged
                current.record_error(error)
                await self._answer(error, watch, scope)
            finally:
                _note(scope, watch, current, seconds=time.perf_counter() - started)

    async def _answer(self, error: Exception, watch: ResponseWatch, scope: Scope) -> None:
        problem = problem_of(error)
        if problem.status >= 500:  # noqa: PLR2004 - statuses are their own names
            # A foreign error's message may quote what it was given: of it, the type is logged.
            known = isinstance(error, SDKError)
            with _tenant_of(scope):
                _log.error(
                    "request_failed",
                    route=route_of(scope),
                    code=problem.code,
                    kind=type(error).__qualname__,
                    reason=str(error) if known else None,
                    exc_info=None if known else error,
                )
        if watch.status is not None:
            raise error  # half an answer is sent: the server closes the connection
        await send_problem(problem, watch.send)


def _note(scope: Scope, watch: ResponseWatch, current: Span, *, seconds: float) -> None:
    """Say in span and log who asked for what, and how it went."""
    current.set_attribute("http.request.method", scope["method"])
    current.set_attribute("http.route", route_of(scope))
    current.set_attribute("http.response.status_code", watch.status or 0)
    with _tenant_of(scope) as tenant_id:
        if tenant_id is not None:
            current.set_attribute("motadata.tenant_id", tenant_id)
        record_request(
            method=scope["method"],
            route=route_of(scope),
            status=watch.status or 0,
            seconds=seconds,
            tenant_id=tenant_id,
        )
        _log.info(
            "request_served",
            method=scope["method"],
            route=route_of(scope),
            status=watch.status,
            milliseconds=round(seconds * 1000, 1),
        )


def _tenant_of(scope: Scope) -> AbstractContextManager[str | None]:
    """Return the scope of the request's tenant, for use outside `Authentication`."""
    tenant_id: str | None = scope.get("state", {}).get(_TENANT)
    return contextlib.nullcontext() if tenant_id is None else tenant_scope(tenant_id)


class RequestLimits:
    """Bounds each request in size and time, and stops its work when the caller has gone."""

    def __init__(self, app: ASGIApp, settings: ApiSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request within its limits."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most, seconds = self._limits(scope)
        announced = header(scope, b"content-length") or "0"
        if not announced.isdigit() or int(announced) > most:
            raise too_large(most)
        watch = ResponseWatch(send)
        body = _Body(receive, watch, most)
        deadline = asyncio.timeout(seconds)
        try:
            async with deadline:
                await self._app(scope, body.receive, watch.send)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise _too_slow(seconds) from error
        except asyncio.CancelledError:
            if not body.caller_gone or body.task.uncancel() > 0:
                raise
            _log.info("caller_gone", route=route_of(scope))
        finally:
            await body.close()

    def _limits(self, scope: Scope) -> tuple[int, float]:
        """Return the most bytes and seconds that a request may take."""
        settings = self._settings
        if scope["method"] == "POST" and scope["path"] == "/v1/documents":
            kind = header(scope, b"content-type") or ""
            is_upload = kind.lower().startswith("multipart/")
            most = settings.max_upload_bytes if is_upload else settings.max_document_bytes
            return most, settings.upload_timeout
        return settings.max_query_bytes, settings.request_timeout


class _Body:
    """The body of a request: counted as it comes; once it is whole, the caller is watched."""

    def __init__(self, receive: Receive, watch: ResponseWatch, most: int) -> None:
        task = asyncio.current_task()
        assert task is not None, "a request is served by a task"
        self.task = task
        self.caller_gone = False
        self._receive = receive
        self._watch = watch
        self._most = most
        self._taken = 0
        self._watcher: asyncio.Task[None] | None = None

    async def receive(self) -> Message:
        """Return the next message of the body; behind its end, wait for the caller to leave.

        Raises:
            ProblemError: The body is longer than allowed.
        """
        if self._watcher is not None:
            await asyncio.shield(self._watcher)
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] == "http.request":
            self._taken += len(message.get("body", b""))
            if self._taken > self._most:
                raise too_large(self._most)
            if not message.get("more_body", False):
                self._watcher = asyncio.create_task(self._watch_caller())
        return message

    async def close(self) -> None:
        """Stop watching."""
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher

    async def _watch_caller(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._watch.complete:
            self.caller_gone = True
            self.task.cancel()


class Authentication:
    """Refuses requests to `/v1/` without a valid key, before their body is read; scopes the others.

    Whatever runs below belongs to the key's tenant: operations, spans and log lines.
    """

    def __init__(self, app: ASGIApp, authenticate: Authenticator) -> None:
        self._app = app
        self._authenticate = authenticate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request as its tenant."""
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        token = bearer_token(scope)
        with tenant_scope(await self._authenticate(token)) as tenant_id:
            scope.setdefault("state", {})[_TENANT] = tenant_id
            await self._app(scope, receive, send)


def too_large(most: int) -> ProblemError:
    """Return the error for a body above its limit of `most` bytes."""
    return ProblemError(
        Problem(
            status=413,
            code="request_too_large",
            message=f"The body is larger than {most} bytes.",
            remedy="Send less at once: one file a request, or a shorter text.",
        )
    )


def _too_slow(seconds: float) -> ProblemError:
    return ProblemError(
        Problem(
            status=504,
            code="request_timeout",
            message=f"The request took longer than {seconds:g} s and was stopped.",
            remedy="Try again, or send less at once.",
            retryable=True,
        )
    )


def bearer_token(scope: Scope) -> str:
    """Return the bearer token of a request.

    Raises:
        AuthenticationError: There is none, or more than one.
    """
    values = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(values) != 1 or len(values[0]) > _MAX_AUTHORIZATION:
        raise authentication_failed()
    scheme, _, token = values[0].decode("latin-1").strip().partition(" ")
    if scheme.lower() != "bearer":
        raise authentication_failed()
    token_text: str = token.strip()
    return token_text
