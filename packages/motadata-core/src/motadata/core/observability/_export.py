"""OpenTelemetry's SDK, set up: where traces and metrics go, and how they get there at the end."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from opentelemetry import metrics, trace

from motadata.core.errors import ConfigurationError, MissingExtraError


if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.trace import TracerProvider

_EXIT_SECONDS: Final = 10.0
_OTLP_PACKAGE: Final = "opentelemetry-exporter-otlp-proto-http"
_PROMETHEUS_PACKAGE: Final = "opentelemetry-exporter-prometheus"


class Telemetry:
    """The providers that we have set; there is one a process, as OpenTelemetry has it."""

    def __init__(self) -> None:
        self._traces: TracerProvider | None = None
        self._metrics: MeterProvider | None = None
        self._scraped = False
        self._lock = threading.Lock()

    def send_traces(self, endpoint: str | None, service_name: str) -> None:
        """Send spans to a collector, unless somebody has set a provider already.

        Raises:
            MissingExtraError: The extra `otlp` is not installed.
        """
        with self._lock:
            if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
                return
            try:
                from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
                from opentelemetry.sdk.resources import Resource
                from opentelemetry.sdk.trace import TracerProvider
                from opentelemetry.sdk.trace.export import BatchSpanProcessor
            except ImportError as error:
                raise _missing(_OTLP_PACKAGE, "otlp") from error
            self._traces = TracerProvider(
                resource=Resource.create({"service.name": service_name}), shutdown_on_exit=False
            )
            self._end_with_the_process()
            exporter = OTLPSpanExporter(endpoint=_signal(endpoint, "traces"))
            self._traces.add_span_processor(BatchSpanProcessor(exporter))
            trace.set_tracer_provider(self._traces)

    def export_metrics(
        self, service_name: str, *, endpoint: str | None, interval: float | None, scraped: bool
    ) -> None:
        """Send metrics to a collector every `interval` seconds, and let them be scraped.

        A provider that somebody has set already stays; it is only made scrapable.

        Raises:
            MissingExtraError: The extra `otlp` or `prometheus` is not installed.
            ConfigurationError: The provider that is set cannot be made scrapable.
        """
        with self._lock:
            present = metrics.get_meter_provider()
            # The stand-in until a provider is set; it has no public name.
            if type(present).__module__.startswith("opentelemetry.metrics."):
                readers: list[MetricReader] = []
                if interval is not None:
                    readers.append(_sender(endpoint, interval))
                if scraped:
                    readers.append(_scraper())
                self._set_meter_provider(service_name, readers)
                self._scraped = scraped
            elif scraped and not self._scraped:
                add = getattr(present, "add_metric_reader", None)
                if add is None:
                    message = "The process has a meter provider, which takes no further reader."
                    raise ConfigurationError(
                        message, remedy="Give it a PrometheusMetricReader where it is made."
                    )
                add(_scraper())
                self._scraped = True

    def shut_down(self, timeout: float) -> None:
        """Send what is held, and end; within `timeout` seconds."""
        with self._lock:
            traces, self._traces = self._traces, None
            meters, self._metrics = self._metrics, None
        # The SDK's own limits do not hold while a collector is silent, so each end gets a thread.
        ends = [provider.shutdown for provider in (traces, meters) if provider is not None]
        threads = [threading.Thread(target=_quietly, args=(end,), daemon=True) for end in ends]
        until = time.monotonic() + timeout
        try:
            for thread in threads:
                thread.start()
        except RuntimeError:  # Python 3.12.0 and 3.12.1 start none while they exit
            for end in ends:
                _quietly(end)
            return
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))

    @property
    def is_scraped(self) -> bool:
        """Whether metrics can be rendered."""
        return self._scraped

    def _set_meter_provider(self, service_name: str, readers: list[MetricReader]) -> None:
        try:
            from opentelemetry.sdk.metrics import MeterProvider
            from opentelemetry.sdk.resources import Resource
        except ImportError as error:
            raise _missing("opentelemetry-sdk", "otlp") from error
        resource = Resource.create({"service.name": service_name})
        self._metrics = MeterProvider(readers, resource=resource, shutdown_on_exit=False)
        self._end_with_the_process()
        metrics.set_meter_provider(self._metrics)

    def _end_with_the_process(self) -> None:
        atexit.unregister(self.shut_down)
        atexit.register(self.shut_down, _EXIT_SECONDS)


telemetry: Final = Telemetry()


@dataclass(frozen=True, slots=True)
class MetricsPage:
    """What a scrape gets.

    Attributes:
        content_type: Of the body, with the version of the format.
        body: All metrics, in the text format of Prometheus.
    """

    content_type: str
    body: bytes


async def render_metrics() -> MetricsPage:
    """Return all metrics of the process as Prometheus reads them, written in a thread.

    Raises:
        ConfigurationError: `configure_observability` was not told that metrics are scraped.
        MissingExtraError: The extra `prometheus` is not installed.
    """
    if not telemetry.is_scraped:
        message = "Metrics are not kept for scraping."
        raise ConfigurationError(
            message, remedy="Call configure_observability(prometheus=True) at the start."
        )
    return await asyncio.to_thread(_render)


def _render() -> MetricsPage:
    try:
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
    except ImportError as error:
        raise _missing(_PROMETHEUS_PACKAGE, "prometheus") from error
    return MetricsPage(CONTENT_TYPE_LATEST, generate_latest())


def _quietly(end: Callable[[], None]) -> None:
    # A collector that is gone at the very end: nobody is left to be told.
    with contextlib.suppress(Exception):
        end()


def _sender(endpoint: str | None, interval: float) -> MetricReader:
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    except ImportError as error:
        raise _missing(_OTLP_PACKAGE, "otlp") from error
    exporter = OTLPMetricExporter(endpoint=_signal(endpoint, "metrics"))
    return PeriodicExportingMetricReader(exporter, export_interval_millis=1000 * interval)


def _scraper() -> MetricReader:
    try:
        from opentelemetry.exporter.prometheus import PrometheusMetricReader
    except ImportError as error:
        raise _missing(_PROMETHEUS_PACKAGE, "prometheus") from error
    return PrometheusMetricReader()


def _signal(endpoint: str | None, name: str) -> str | None:
    return None if endpoint is None else f"{endpoint.rstrip('/')}/v1/{name}"


def _missing(package: str, extra: str) -> MissingExtraError:
    return MissingExtraError(package, extra=extra, distribution="motadata-core")
