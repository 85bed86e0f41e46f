"""Traces across processes: W3C `traceparent` and `tracestate` in the headers of a message."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Final

from opentelemetry import context as otel_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator


_PROPAGATOR: Final = TraceContextTextMapPropagator()
_HEADERS: Final = ("traceparent", "tracestate")


def inject_trace(carrier: MutableMapping[str, str]) -> None:
    """Write the current trace, if there is one, into the headers of an outgoing message."""
    _PROPAGATOR.inject(carrier)


@contextmanager
def extract_trace(carrier: Mapping[str, str]) -> Iterator[None]:
    """Continue, within the block, the trace that the headers of an incoming message carry.

    Names are matched in any case. Headers that are absent or malformed leave the context as it is.
    """
    headers = {name.lower(): value for name, value in carrier.items()}
    known = {name: headers[name] for name in _HEADERS if name in headers}
    token = otel_context.attach(_PROPAGATOR.extract(known, otel_context.get_current()))
    try:
        yield
    finally:
        otel_context.detach(token)
