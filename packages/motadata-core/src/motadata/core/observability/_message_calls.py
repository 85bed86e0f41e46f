"""One `with` around the sending or the handling of a message: its span, its duration, its error.

A message costs the bus less than a span and a measurement through OpenTelemetry's API do, so what
can be remembered is, and while no SDK is set there are only the ids that travel.
"""

from __future__ import annotations

import time
from contextvars import Token
from functools import lru_cache
from types import TracebackType
from typing import Final, Literal, Self

from opentelemetry import trace
from opentelemetry.context import Context

from motadata.core.observability._conventions import MESSAGE_DURATION, PROCESS_DURATION
from motadata.core.observability._current_span import UnrecordedSpan, attach_span, current_span
from motadata.core.observability._metrics import BoundHistogram, instruments
from motadata.core.observability._operations import ERROR_TYPE, Operation, type_of
from motadata.core.observability._propagation import read_caller, trace_headers
from motadata.core.observability._tracing import (
    Attribute,
    Span,
    SpanKind,
    mark_error,
    nothing_records,
    span_tenant,
)
from motadata.core.tenancy import TenantId


MessageOperation = Literal["publish", "request", "receive", "process"]

_MOST_KINDS: Final = 256


class MessageCalls:
    """All messages of one operation, destination and system; made by `message_calls`."""

    __slots__ = ("_naming", "_own", "attributes", "duration", "kind", "name")

    def __init__(self, operation: MessageOperation, destination: str, system: str) -> None:
        self.name = f"{operation} {destination}"
        self.attributes: dict[str, Attribute] = {
            "messaging.system": system,
            "messaging.operation.name": operation,
            "messaging.destination.template": destination,
        }
        self.kind: SpanKind = "consumer" if operation in {"process", "receive"} else "producer"
        self.duration = PROCESS_DURATION if operation == "process" else MESSAGE_DURATION
        # The series of tenants that are named: no more of them than are named at all.
        self._own: dict[TenantId, BoundHistogram] = {}
        self._naming = instruments.naming

    def call(
        self,
        *,
        tenant_id: str | None = None,
        traceparent: str | None = None,
        tracestate: str | None = None,
        current: bool = True,
    ) -> MessageCall:
        """Time one of them.

        Args:
            tenant_id: Whom it is for; None means the tenant of the scope.
            traceparent: The header of a message that came in; None means the span around.
            tracestate: The header beside it.
            current: As for `span`.
        """
        caller = None if traceparent is None else read_caller(traceparent, tracestate)
        return MessageCall(self, tenant_id=tenant_id, caller=caller, current=current)

    def record(self, seconds: float, tenant: TenantId | None) -> None:
        """Note how long a message without an error took."""
        series = None if tenant is None else self._own.get(tenant)
        if series is None or self._naming != instruments.naming:
            series = self._find(tenant)
        self.duration.otel.record(seconds, series.attributes)

    def _find(self, tenant: TenantId | None) -> BoundHistogram:
        if self._naming != instruments.naming:
            self._naming = instruments.naming
            self._own = {}
        series = self.duration.bind(self.attributes, tenant_id=tenant)
        if tenant is not None and series.is_only_of(tenant):
            self._own[tenant] = series
        return series


class MessageCall(Operation):
    """The sending or the handling of a message; made by `message_call`, entered once.

    Its `trace_headers` are what whoever gets the message continues the trace by.
    """

    __slots__ = (
        "_caller",
        "_calls",
        "_context_token",
        "_current",
        "_otel",
        "_recorded",
        "_tenant_token",
    )

    _otel: trace.Span

    def __init__(
        self,
        calls: MessageCalls,
        *,
        tenant_id: str | None,
        caller: trace.Span | None = None,
        current: bool = True,
    ) -> None:
        # Nothing of an `Operation` is needed unless something records.
        self._calls = calls
        if tenant_id is not None and type(tenant_id) is not TenantId:
            tenant_id = TenantId(tenant_id)
        self._tenant = tenant_id
        self._caller = caller
        self._current = current
        self._recorded: Span | None = None
        self._context_token: Token[Context] | None = None
        self._tenant_token: Token[str | None] | None = None

    def __enter__(self) -> Self:
        """Start it, as a child of the caller's span or else of the one around it."""
        if not nothing_records():
            self._start_span()
        else:
            # Without an SDK a child is its parent, the caller's span or the one around.
            started, is_around = self._caller, False
            if started is None:
                started = current_span()
                is_around = started is not trace.INVALID_SPAN and _is_valid(started)
                if not is_around:
                    started = UnrecordedSpan()
            self._otel = started
            if self._current:
                if not is_around:
                    self._context_token = attach_span(started)
                if self._tenant is not None:
                    self._tenant_token = span_tenant.set(self._tenant)
        self._started = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it; an error becomes the attribute `error.type` of span and metric."""
        seconds = time.perf_counter() - self._started
        if error is None:
            self._calls.record(seconds, self._tenant)
        else:
            attributes = {**self._calls.attributes, ERROR_TYPE: type_of(error)}
            self._calls.duration.record(seconds, attributes, tenant_id=self._tenant)
            mark_error(error, self._otel, self._tenant)
        if self._recorded is not None:
            self._recorded.__exit__(kind, error, traceback)
        try:
            if self._tenant_token is not None:
                span_tenant.reset(self._tenant_token)
            if self._context_token is not None:
                self._context_token.var.reset(self._context_token)
        except ValueError:
            # As in `Span`: the block ends in another context than it began in, which is gone.
            return

    @property
    def trace_headers(self) -> tuple[str, str]:
        """The values of `traceparent` and `tracestate`, which may be empty."""
        return trace_headers(self._otel)

    @property
    def trace_id(self) -> str:
        """The trace that it belongs to, 32 hexadecimal digits."""
        return trace.format_trace_id(self._otel.get_span_context().trace_id)

    def set_attribute(self, name: str, value: Attribute) -> None:
        """Note a fact on the span."""
        if self._recorded is not None:
            self._recorded.set_attribute(name, value)

    def _start_span(self) -> None:
        if self._caller is not None:
            self._context_token = attach_span(self._caller)
        calls = self._calls
        self._recorded = Span(
            calls.name,
            calls.attributes,
            kind=calls.kind,
            tenant_id=self._tenant,
            current=self._current,
        ).__enter__()
        self._otel = self._recorded.otel


@lru_cache(_MOST_KINDS)
def message_calls(
    operation: MessageOperation, *, destination: str, system: str = "nats"
) -> MessageCalls:
    """Return what times such messages, for code that has too many of them for `message_call`.

    Args:
        operation: As for `message_call`, which the others are as well.
        destination: The pattern of the subject.
        system: As the conventions call the server.
    """
    return MessageCalls(operation, destination, system)


def message_call(
    operation: MessageOperation,
    *,
    destination: str,
    system: str = "nats",
    tenant_id: str | None = None,
    current: bool = True,
) -> MessageCall:
    """Time the sending or the handling of a message, after the messaging conventions.

    Args:
        operation: `process` is the work of a handler; the others are the client's.
        destination: The pattern of the subject, such as `sdk.events.<type>`; never one with an id
            in it, since each makes a series.
        system: As the conventions call the server.
        tenant_id: Whom it is for; None means the tenant of the scope.
        current: As for `span`.
    """
    calls = message_calls(operation, destination=destination, system=system)
    return calls.call(tenant_id=tenant_id, current=current)


def _is_valid(span: trace.Span) -> bool:
    return span.get_span_context().is_valid
