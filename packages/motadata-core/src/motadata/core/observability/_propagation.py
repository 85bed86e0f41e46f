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

from motadata.core.observability._trace_state import MemberList


Carrier = Mapping[str, str] | Iterable[tuple[str, str]]
"""Headers of a message, their names in any case; pairs where a name may stand more than once."""

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_PARENT: Final = re.compile(
    r"[ \t]*([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?[ \t]*"
)
_LONGEST_PARENT: Final = 512
_KNOWN_FLAGS: Final = 0x03  # sampled, and a random trace id
_FLAGS: Final = tuple(trace.TraceFlags(flags) for flags in range(_KNOWN_FLAGS + 1))
_NO_STATE: Final = MemberList()


def inject_trace(carrier: MutableMapping[str, str]) -> None:
    """Write the current trace, if there is one, into the headers of an outgoing message."""
    current = trace.get_current_span().get_span_context()
    if not current.is_valid:
        return
    flags = current.trace_flags & _KNOWN_FLAGS
    carrier["traceparent"] = "00-%032x-%016x-%02x" % (  # noqa: UP031 - half the cost
        current.trace_id,
        current.span_id,
        flags,
    )
    if current.trace_state:
        carrier["tracestate"] = current.trace_state.to_header()


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
            around = trace.set_span_in_context(trace.NonRecordingSpan(caller))
            self._token = otel_context.attach(around)

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


def _read(carrier: Carrier) -> trace.SpanContext | None:
    """Return the caller's span, or None when the headers name none that may be continued."""
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


def _caller(parent: str, states: list[str]) -> trace.SpanContext | None:
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
    return caller if caller.is_valid else None
