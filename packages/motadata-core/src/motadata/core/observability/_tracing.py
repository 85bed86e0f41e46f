"""Spans around LLM calls, tool calls, queries and messages; cheap when nobody records them."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Mapping
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Final, Literal, Self

from opentelemetry import trace
from opentelemetry.context import Context

from motadata.core._version import __version__
from motadata.core.errors import SDKError
from motadata.core.observability._current_span import UnrecordedSpan, attach_span, current_span
from motadata.core.observability._redaction import clean_text, redact
from motadata.core.tenancy import current_tenant


SpanKind = Literal["internal", "client", "server", "producer", "consumer"]
Attribute = str | bool | int | float

TENANT_ATTRIBUTE: Final = "motadata.tenant_id"

_KINDS: Final = {
    "internal": trace.SpanKind.INTERNAL,
    "client": trace.SpanKind.CLIENT,
    "server": trace.SpanKind.SERVER,
    "producer": trace.SpanKind.PRODUCER,
    "consumer": trace.SpanKind.CONSUMER,
}

# A proxy until the application sets a tracer provider, that provider's tracer from then on.
_tracer: Final = trace.get_tracer("motadata", __version__)

# The tenant that the innermost span names, for log lines of operations outside every tenant scope.
span_tenant: Final[ContextVar[str | None]] = ContextVar("motadata_span_tenant", default=None)


class Span:
    """A timed operation; made by `span`, entered once."""

    __slots__ = (
        "_attributes",
        "_context_token",
        "_current",
        "_kind",
        "_name",
        "_otel",
        "_tenant",
        "_tenant_token",
    )

    def __init__(
        self,
        name: str,
        attributes: Mapping[str, Attribute],
        *,
        kind: SpanKind,
        tenant_id: str | None,
        current: bool,
    ) -> None:
        self._name = name
        self._kind = kind
        self._tenant = tenant_id
        self._current = current
        self._attributes = attributes
        self._otel: trace.Span = trace.INVALID_SPAN
        self._context_token: Token[Context] | None = None
        self._tenant_token: Token[str | None] | None = None

    def __enter__(self) -> Self:
        """Start it, as a child of the span around it."""
        around = current_span()
        started = around if nothing_records() else self._start()
        if started is trace.INVALID_SPAN or not started.get_span_context().is_valid:
            started = UnrecordedSpan()
        self._otel = started
        # Without an SDK a child is its parent, which is the current span already.
        if self._current and started is not around:
            self._context_token = attach_span(started)
        if self._current and self._tenant is not None:
            self._tenant_token = span_tenant.set(self._tenant)
        return self

    def _start(self) -> trace.Span:
        shown = {name: safe_attribute(name, value) for name, value in self._attributes.items()}
        tenant = self._tenant or current_tenant()
        if tenant is not None:
            shown[TENANT_ATTRIBUTE] = tenant
        return _tracer.start_span(clean_text(self._name), kind=_KINDS[self._kind], attributes=shown)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it; note an error on the span, and the trace id on an `SDKError` that has none."""
        if error is not None:
            self.record_error(error)
        self._otel.end()
        try:
            if self._tenant_token is not None:
                span_tenant.reset(self._tenant_token)
            if self._context_token is not None:
                self._context_token.var.reset(self._context_token)
        except ValueError:
            # The block ends in another context than it began in, as when the garbage collector
            # closes an async generator; that context is gone then.
            return

    @property
    def otel(self) -> trace.Span:
        """What OpenTelemetry knows of it."""
        return self._otel

    @property
    def trace_id(self) -> str:
        """The trace that it belongs to, 32 hexadecimal digits."""
        return trace.format_trace_id(self._otel.get_span_context().trace_id)

    def set_attribute(self, name: str, value: Attribute) -> None:
        """Note a fact about the operation; what is named like a secret or a text is not shown."""
        if self._otel.is_recording():
            self._otel.set_attribute(name, safe_attribute(name, value))

    def record_error(self, error: BaseException) -> None:
        """Mark the span as failed by `error`, which is done for one that leaves the block.

        A cancellation is noted, not counted as a failure. Of third-party errors only the type is
        noted, as their messages may quote what they were given.
        """
        mark_error(error, self._otel, self._tenant)
        if not self._otel.is_recording() or isinstance(error, GeneratorExit):
            return
        if isinstance(error, CancelledError):
            self._otel.set_attribute("motadata.cancelled", True)
            return
        code = error.code if isinstance(error, SDKError) else type(error).__qualname__
        self._otel.set_attribute("error.type", code)
        event: dict[str, Attribute] = {"exception.type": type(error).__qualname__}
        if isinstance(error, SDKError):
            event["exception.message"] = clean_text(str(error))
        self._otel.add_event("exception", event)
        self._otel.set_status(trace.Status(trace.StatusCode.ERROR, code))


def span(
    name: str,
    attributes: Mapping[str, Attribute] | None = None,
    *,
    kind: SpanKind = "internal",
    tenant_id: str | None = None,
    current: bool = True,
    **facts: Attribute,
) -> Span:
    """Time the operation in a block.

    `with span("rag.query", tenant_id=tenant) as current:` is a plain `with`, also around code that
    awaits.

    Args:
        name: `component.operation`; one of few, never with an id in it.
        attributes: Facts under the dotted names of the semantic conventions.
        kind: `client` for calls that leave the process, `server` for requests that come in,
            `producer` and `consumer` for messages.
        tenant_id: Whom it is for; None means the tenant of the scope.
        current: Whether spans and log lines inside belong to it. An async generator passes False,
            since its body runs in its consumer's context, which would inherit the span.
        facts: Facts about the operation; never the text of a prompt or a document.
    """
    noted = {**attributes, **facts} if attributes else facts
    return Span(name, noted, kind=kind, tenant_id=tenant_id, current=current)


def safe_attribute(name: str, value: Attribute) -> Attribute:
    """Return `value` as it may leave the process under `name`."""
    if isinstance(value, bool):
        return value
    shown = redact(name, value)
    return shown if isinstance(shown, str | int | float) else str(shown)


def mark_error(error: BaseException, otel: trace.Span, tenant: str | None) -> None:
    """Note the trace and the tenant on an `SDKError` that has none."""
    if isinstance(error, SDKError):
        if not error.trace_id:
            error.trace_id = trace.format_trace_id(otel.get_span_context().trace_id)
        error.tenant_id = error.tenant_id or tenant or current_tenant()


def current_trace_id() -> str | None:
    """Return the id of the current trace, 32 hexadecimal digits, or None outside every span."""
    context = current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else None


def present_tenant() -> str | None:
    """Return the tenant of the innermost span that names one, else the scope's."""
    return span_tenant.get() or current_tenant()


def log_context() -> tuple[str | None, str | None, str | None]:
    """Return tenant, trace id and span id of whatever runs now."""
    tenant = present_tenant()
    context = current_span().get_span_context()
    if not context.is_valid:
        return tenant, None, None
    return tenant, trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id)


def nothing_records() -> bool:
    """Tell, for a twentieth of what starting a span to find out costs, whether no SDK is set.

    The proxy looks at the same variable; were it renamed, spans would be started again.
    """
    return (
        getattr(trace, "_TRACER_PROVIDER", _tracer) is None and type(_tracer) is trace.ProxyTracer
    )
