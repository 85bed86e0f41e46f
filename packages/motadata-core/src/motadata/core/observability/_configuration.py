"""What an application decides once: how much is logged, and where telemetry goes."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Final, TextIO, get_args

from motadata.core.errors import ConfigurationError
from motadata.core.observability._export import telemetry
from motadata.core.observability._logging import LogLevel, LogSink, output
from motadata.core.observability._metrics import instruments


if TYPE_CHECKING:
    from motadata.core.observability._settings import ObservabilitySettings

_TRACES: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_METRICS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")


def configure_observability(
    *,
    level: LogLevel | None = None,
    json: bool | None = None,
    service_name: str | None = None,
    stream: TextIO | None = None,
    sink: LogSink | None = None,
    otlp_endpoint: str | None = None,
    prometheus: bool | None = None,
    settings: ObservabilitySettings | None = None,
) -> None:
    """Say how much is logged, how and where, and where traces and metrics go; once, at the start.

    What is not said here is taken from `settings`, and without those from the environment
    (`MOTADATA_LOG_LEVEL`, `MOTADATA_OTLP_ENDPOINT`, …). Calling it again replaces what was said
    about logs; providers of traces and metrics that are set already, by the host or by an earlier
    call, stay.

    Args:
        level: The lowest level that is written.
        json: One JSON object a line; False writes for people.
        service_name: Name of this process in logs, traces and metrics.
        stream: Where lines go; None means standard error.
        sink: Takes each line as a mapping instead of the stream; it must not raise.
        otlp_endpoint: Base address of an OTLP/HTTP collector, such as `http://localhost:4318`. None
            means the variable `OTEL_EXPORTER_OTLP_ENDPOINT`; without that, nothing is sent.
        prometheus: Whether `render_metrics` has something to show.
        settings: All of the above but `stream` and `sink`, and the limits of metrics.

    Raises:
        ConfigurationError: A setting does not fit.
        MissingExtraError: Something shall be sent or scraped, and the extra `otlp` or `prometheus`
            is not installed.
    """
    if level is not None and level not in get_args(LogLevel):
        message = f"The log level {level!r} is unknown."
        raise ConfigurationError(message, remedy=f"Use one of {', '.join(get_args(LogLevel))}.")
    from motadata.core.observability._settings import ObservabilitySettings

    said = {
        "log_level": level,
        "log_json": json,
        "service_name": service_name,
        "otlp_endpoint": otlp_endpoint,
        "prometheus": prometheus,
    }
    known = settings or ObservabilitySettings.from_environment()
    chosen = known.model_copy(update={k: v for k, v in said.items() if v is not None})
    _direct_telemetry(chosen)
    output.configure(
        level=logging.getLevelNamesMapping()[chosen.log_level],
        json=chosen.log_json,
        service=chosen.service_name,
        stream=stream,
        sink=sink,
    )
    output.pipeline()


def shutdown_observability(*, timeout: float = 10.0) -> None:
    """Send what traces and metrics are held, and end their exporters; for the application's end.

    It waits for the network, so that on an event loop it belongs into `asyncio.to_thread`. It only
    ends what `configure_observability` began, and it is final: OpenTelemetry takes one provider a
    process. Without it the same happens when the interpreter exits.

    Args:
        timeout: Most seconds that it takes; what is not sent by then is dropped.
    """
    telemetry.shut_down(timeout)


def _direct_telemetry(chosen: ObservabilitySettings) -> None:
    instruments.name_tenants(chosen.metric_tenants, chosen.metric_named_tenants)
    endpoint = chosen.otlp_endpoint
    if endpoint or any(os.environ.get(name) for name in _TRACES):
        telemetry.send_traces(endpoint, chosen.service_name)
    sends = endpoint or any(os.environ.get(name) for name in _METRICS)
    if sends or chosen.prometheus:
        telemetry.export_metrics(
            chosen.service_name,
            endpoint=endpoint,
            interval=chosen.metric_interval if sends else None,
            scraped=chosen.prometheus,
        )
