"""Reads what code under test counts and measures; needs the extra `otlp`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    HistogramDataPoint,
    InMemoryMetricReader,
    NumberDataPoint,
)

from motadata.core.observability import report_metrics_to


@dataclass(frozen=True, slots=True)
class MetricPoint:
    """One series.

    Attributes:
        attributes: What tells it from the metric's other series.
        value: The sum of what was counted or recorded.
        count: How often; of a counter, 0.
        boundaries: Upper bounds of the buckets of a histogram.
    """

    attributes: Mapping[str, object]
    value: float
    count: int = 0
    boundaries: tuple[float, ...] = ()


class RecordedMetrics:
    """What was counted and measured since it was made."""

    def __init__(self, reader: InMemoryMetricReader) -> None:
        self._reader = reader
        # Counters keep what other tests counted.
        self._before = {
            (name, _key(point)): point.value
            for name, points in self._read().items()
            for point in points
        }

    @property
    def names(self) -> set[str]:
        """The metrics that have a series."""
        return {name for name in self._read() if self.points(name)}

    def points(self, name: str) -> list[MetricPoint]:
        """Return the series of a metric on which something was recorded."""
        changed = []
        for point in self._read().get(name, []):
            value = point.value - self._before.get((name, _key(point)), 0)
            if value or point.count:
                changed.append(MetricPoint(point.attributes, value, point.count, point.boundaries))
        return changed

    def _read(self) -> dict[str, list[MetricPoint]]:
        data = self._reader.get_metrics_data()
        scopes = (
            [scope for part in data.resource_metrics for scope in part.scope_metrics]
            if data
            else []
        )
        return {
            metric.name: [_point(point) for point in metric.data.data_points]
            for scope in scopes
            for metric in scope.metrics
        }


@contextmanager
def recorded_metrics() -> Iterator[RecordedMetrics]:
    """Record every metric of the SDK within the block, apart from the process's own provider."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    report_metrics_to(provider.get_meter("tests"))
    try:
        yield RecordedMetrics(reader)
    finally:
        report_metrics_to(None)
        provider.shutdown()


def _key(point: MetricPoint) -> frozenset[tuple[str, object]]:
    return frozenset(point.attributes.items())


def _point(point: object) -> MetricPoint:
    if isinstance(point, NumberDataPoint):
        return MetricPoint(dict(point.attributes or {}), point.value)
    assert isinstance(point, HistogramDataPoint), "the SDK makes counters and histograms only"
    return MetricPoint(
        dict(point.attributes or {}), point.sum, point.count, tuple(point.explicit_bounds)
    )
