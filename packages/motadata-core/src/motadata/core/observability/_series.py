"""The series of one metric: found by tenant and attributes, cleaned once, and never too many."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock
from typing import Final, Generic, TypeVar

from motadata.core.observability._tracing import (
    TENANT_ATTRIBUTE,
    Attribute,
    present_tenant,
    safe_attribute,
)


Attributes = Mapping[str, Attribute]
Series = TypeVar("Series")

_LONGEST_VALUE: Final = 120
_MOST_SERIES: Final = 2000
# https://opentelemetry.io/docs/specs/otel/metrics/sdk/#overflow-attribute
_OVERFLOW: Final = ("otel.metric.overflow", True)
_NO_ATTRIBUTES: Final[Attributes] = {}


class SeriesTable(Generic[Series]):
    """Finds the series of a tenant and its attributes; safe for threads.

    Above 2,000 series there is one more, for everything else.

    Args:
        labels: Gives a tenant its label.
        make: Makes the series of these attributes, as they may be shown.
    """

    __slots__ = ("_known", "_labels", "_lock", "_make", "_series")

    def __init__(
        self, labels: Callable[[str], str], make: Callable[[dict[str, Attribute]], Series]
    ) -> None:
        self._labels = labels
        self._make = make
        self._lock = Lock()
        self._series: dict[tuple[object, ...], Series] = {}
        # The same by what callers write, in their order and unredacted; forgotten when it is full.
        self._known: dict[tuple[object, ...], Series] = {}

    def find(self, attributes: Attributes | None, tenant_id: str | None) -> Series:
        """Return the series of a tenant, None being the one of the span or scope."""
        tenant = tenant_id or present_tenant()
        label = None if tenant is None else self._labels(tenant)
        key = (label, *attributes.items()) if attributes else (label,)
        return self._known.get(key) or self._learn(key, label, attributes or _NO_ATTRIBUTES)

    def all(self) -> list[Series]:
        """Return every series that was found so far."""
        with self._lock:
            return list(self._series.values())

    def _learn(self, key: tuple[object, ...], label: str | None, attributes: Attributes) -> Series:
        shown = {name: _short(name, value) for name, value in sorted(attributes.items())}
        if label is not None:
            shown[TENANT_ATTRIBUTE] = label
        with self._lock:
            full = len(self._series) >= _MOST_SERIES
            wanted = tuple(shown.items())
            if full and wanted not in self._series:
                shown, wanted = dict([_OVERFLOW]), (_OVERFLOW,)
            series = self._series.get(wanted)
            if series is None:
                series = self._series[wanted] = self._make(shown)
            if len(self._known) >= 2 * _MOST_SERIES:
                self._known.clear()
            self._known[key] = series
        return series


def _short(name: str, value: Attribute) -> Attribute:
    shown = safe_attribute(name, value)
    return shown[:_LONGEST_VALUE] if isinstance(shown, str) else shown
