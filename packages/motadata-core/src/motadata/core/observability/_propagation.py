"""Traces across processes and threads: W3C `traceparent` and `tracestate`, and the context itself.

The reading is our own, after https://www.w3.org/TR/trace-context-2/: OpenTelemetry's takes the
first of two `traceparent` headers and drops a `tracestate` that has one key twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from contextvars import Token, copy_context
from functools import wraps
from types import TracebackType
from typing import Final, ParamSpec, TypeVar

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context

from motadata.core.observability._current_span import (
    DeferredSpan,
    UnrecordedSpan,
    attach_span,
    current_span,
)
from motadata.core.observability._trace_state import MemberList


Carrier = Mapping[str, str] | Iterable[tuple[str, str]]
"""Headers of a message, their names in any case; pairs where a name may stand more than once."""

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_PARENT: Final = re.compile(
    r"[ \t]*([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?[ \t]*"
)
# What every sender of today writes. Nothing in it is left to doubt.
_PLAIN_PARENT: Final = re.compile(
    r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
).fullmatch
_LONGEST_PARENT: Final = 512
_KNOWN_FLAGS: Final = 0x03  # sampled, and a random trace id
_FLAGS: Final = tuple(trace.TraceFlags(flags) for flags in range(_KNOWN_FLAGS + 1))
_NO_STATE: Final = MemberList()


class CallerSpan(DeferredSpan):
    """The span that a plain `traceparent` names."""

    def __init__(self, parent: str) -> None:
        self._parent = parent

    def _make_out(self) -> trace.SpanContext:
        parent = self._parent
        return trace.SpanContext(
            int(parent[3:35], 16),
            int(parent[36:52], 16),
            is_remote=True,
            trace_flags=_FLAGS[int(parent[53:], 16) & _KNOWN_FLAGS],
            trace_state=_NO_STATE,
        )


def inject_trace(carrier: MutableMapping[str, str]) -> None:
    """Write the current trace, if there is one, into the headers of an outgoing message."""
    parent, state = trace_headers(current_span())
    if parent:
        carrier["traceparent"] = parent
    if state:
        carrier["tracestate"] = state


def trace_headers(current: trace.Span) -> tuple[str, str]:
    """Return `traceparent` and `tracestate` for what is sent within a span; empty without one."""
    if type(current) is UnrecordedSpan:
        return current.parent, ""
    context = current.get_span_context()
    if not context.is_valid:
        return "", ""
    flags = context.trace_flags & _KNOWN_FLAGS
    parent = "00-%032x-%016x-%02x" % (  # noqa: UP031 - half the cost
        context.trace_id,
        context.span_id,
        flags,
    )
    return parent, context.trace_state.to_header() if context.trace_state else ""


class extract_trace:  # noqa: N801 - used like a function, as contextlib's own are
    """Continue, within the block, the trace that the headers of an incoming message carry.

    Headers that are absent, malformed or contradict each other leave the context as it is.
    """

    __slots__ = ("_carrier", "_token")

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self._token: Token[Context] | None = None

    def __enter__(self) -> None:
        """Make the caller's span, if the headers name one, the current span."""
        caller = _read(self._carrier)
        if caller is not None:
            self._token = attach_span(caller)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Go back to the span around the block."""
        if self._token is not None:
            otel_context.detach(self._token)


def with_context(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Return `function` bound to the present context: its trace, its span and its tenant.

    For what the interpreter does not carry over itself: `loop.run_in_executor`, an executor's
    `submit`, a `threading.Thread`, a callback. Tasks and `asyncio.to_thread` need no help. Each
    call gets a copy of its own, so it may be called more than once, and by several threads.
    """
    context = copy_context()

    @wraps(function)
    def bound(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        return context.copy().run(function, *args, **kwargs)

    return bound


def read_caller(parent: str | None, state: str | None) -> trace.Span | None:
    """Return the caller's span, or None when the headers name none that may be continued."""
    if parent is None or len(parent) > _LONGEST_PARENT:
        return None
    if state is None and _PLAIN_PARENT(parent):
        return CallerSpan(parent)
    return _caller(parent, [] if state is None else [state])


def _read(carrier: Carrier) -> trace.Span | None:
    parents: list[str] = []
    states: list[str] = []
    for name, value in carrier.items() if isinstance(carrier, Mapping) else carrier:
        lowered = name.lower()
        if lowered == "traceparent":
            parents.append(value)
        elif lowered == "tracestate":
            states.append(value)
    if len(parents) != 1 or len(parents[0]) > _LONGEST_PARENT:
        return None
    return _caller(parents[0], states)


def _caller(parent: str, states: list[str]) -> trace.Span | None:
    match = _PARENT.fullmatch(parent)
    if match is None:
        return None
    version, trace_id, span_id, flags, future = match.groups()
    # What later versions append may be ignored; version 00 has nothing to append, ff is no version.
    if version == "ff" or (version == "00" and future):
        return None
    caller = trace.SpanContext(
        int(trace_id, 16),
        int(span_id, 16),
        is_remote=True,
        trace_flags=_FLAGS[int(flags, 16) & _KNOWN_FLAGS],
        trace_state=MemberList.from_header(states) if states else _NO_STATE,
    )
    return trace.NonRecordingSpan(caller) if caller.is_valid else None
