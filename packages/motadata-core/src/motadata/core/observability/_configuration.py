"""What an application decides once: how much is logged, in which form, and where traces go."""

from __future__ import annotations

import logging
import os
from typing import Final, Literal, TextIO, get_args

from opentelemetry import trace

from motadata.core.errors import ConfigurationError, MissingExtraError
from motadata.core.observability._logging import LogSink, output


LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

_ENDPOINT_VARIABLES: Final = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
)


def configure_observability(
    *,
    level: LogLevel = "INFO",
    json: bool = True,
    service_name: str = "motadata",
    stream: TextIO | None = None,
    sink: LogSink | None = None,
    otlp_endpoint: str | None = None,
) -> None:
    """Say how much is logged, how and where, and where traces go; for the application's start.

    Calling it again replaces what was said about logs. A tracer provider that is set already, by
    the host or by an earlier call, stays.

    Args:
        level: The lowest level that is written.
        json: One JSON object a line; False writes for people.
        service_name: Name of this process in logs and traces.
        stream: Where lines go; None means standard error.
        sink: Takes each line as a mapping instead of the stream; it must not raise.
        otlp_endpoint: Base address of an OTLP/HTTP collector, such as `http://localhost:4318`. None
            means the variable `OTEL_EXPORTER_OTLP_ENDPOINT`; without that, traces go nowhere.

    Raises:
        ConfigurationError: The level is unknown.
        MissingExtraError: Traces shall go somewhere and the extra `otlp` is not installed.
    """
    if level not in get_args(LogLevel):
        message = f"The log level {level!r} is unknown."
        raise ConfigurationError(message, remedy=f"Use one of {', '.join(get_args(LogLevel))}.")
    wanted = otlp_endpoint or any(os.environ.get(name) for name in _ENDPOINT_VARIABLES)
    if wanted and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        _export_traces(otlp_endpoint, service_name)
    output.configure(
        level=logging.getLevelNamesMapping()[level],
        json=json,
        service=service_name,
        stream=stream,
        sink=sink,
    )
    output.pipeline()


def _export_traces(endpoint: str | None, service_name: str) -> None:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        package = "opentelemetry-exporter-otlp-proto-http"
        raise MissingExtraError(package, extra="otlp", distribution="motadata-core") from error
    address = None if endpoint is None else f"{endpoint.rstrip('/')}/v1/traces"
    provider = TracerProvider(resource=Resource.create({"service.name": service_name}))
    # The exporter's thread ends, and sends what it holds, when the interpreter exits.
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=address)))
    trace.set_tracer_provider(provider)
