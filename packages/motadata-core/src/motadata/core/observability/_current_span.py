"""The current span, and spans that nobody records: ids that travel, and cost next to nothing."""

from __future__ import annotations

import random
from contextvars import Token
from typing import Final, cast

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context


_SPAN_BITS: Final = (1 << 64) - 1
_NEVER_ZERO: Final = 1 << 64 | 1
"""The lowest bit of each of two ids, of which none may be zero."""

# Under what name a context holds its span; the API puts it there and does not tell.
(_SPAN_KEY,) = trace.set_span_in_context(trace.INVALID_SPAN, Context())


class DeferredSpan(trace.NonRecordingSpan):
    """A span that nobody records, whose ids are made out only when somebody asks for them."""

    _made_out: trace.SpanContext | None = None

    def get_span_context(self) -> trace.SpanContext:
        """Return what is told of it to others."""
        known = self._made_out
        if known is None:
            known = self._made_out = self._make_out()
        return known

    def _make_out(self) -> trace.SpanContext:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.get_span_context()!r})"


class UnrecordedSpan(DeferredSpan):
    """A span of our own while no SDK is set.

    It is not sampled: whoever takes over the trace downstream need not look for this parent.
    """

    def __init__(self) -> None:
        self._drawn = random.getrandbits(192) | _NEVER_ZERO

    @property
    def parent(self) -> str:
        """The `traceparent` of what is sent within it."""
        text = "%048x" % self._drawn  # noqa: UP031 - half the cost
        return f"00-{text[:32]}-{text[32:]}-00"

    def _make_out(self) -> trace.SpanContext:
        drawn = self._drawn
        return trace.SpanContext(drawn >> 64, drawn & _SPAN_BITS, is_remote=False)


def current_span() -> trace.Span:
    """Return OpenTelemetry's current span, one that is not valid outside every span."""
    found = otel_context.get_current().get(_SPAN_KEY)
    # What is under the API's own key was put there by the API, as a span.
    return trace.INVALID_SPAN if found is None else cast("trace.Span", found)


def attach_span(started: trace.Span) -> Token[Context]:
    """Make a span the current one until the token is reset."""
    around = otel_context.get_current()
    inside = {**around, _SPAN_KEY: started} if around else {_SPAN_KEY: started}
    return otel_context.attach(Context(inside))
