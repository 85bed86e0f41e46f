"""Counters and histograms, per tenant, through OpenTelemetry's API; next to free without its SDK.

Counters are kept here and handed over when somebody collects: OpenTelemetry's own cost ten
microseconds a count, which is more than what is counted. Histograms are OpenTelemetry's. Neither
grows without end: tenants above a limit share a label, and so do series above another.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context
from threading import Lock
from typing import Final, TypeVar

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Meter, Observation

from motadata.core._version import __version__
from motadata.core.errors import ConfigurationError
from motadata.core.observability._series import Attributes, SeriesTable
from motadata.core.observability._tenant_labels import MOST_TENANTS, TenantLabels
from motadata.core.observability._tracing import TENANT_ATTRIBUTE, Attribute


Owner = TypeVar("Owner")
Kind = TypeVar("Kind", bound="Counter | Histogram")

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_./-]{0,254}")


class BoundCounter:
    """One series of a counter, for code that counts often."""

    __slots__ = ("_lock", "attributes", "value")

    def __init__(self, attributes: dict[str, Attribute]) -> None:
        self.attributes = attributes
        self.value: float = 0
        self._lock = Lock()

    def add(self, amount: float = 1) -> None:
        """Count; negative amounts are ignored, as a count cannot fall."""
        if amount >= 0:
            with self._lock:
                self.value += amount


class Counter:
    """A sum that only grows; made by `counter`."""

    __slots__ = ("_lock", "_table", "_watched", "description", "name", "unit")

    def __init__(
        self, name: str, unit: str, description: str, labels: Callable[[str], str]
    ) -> None:
        self.name = name
        self.unit = unit
        self.description = description
        self._table = SeriesTable(labels, BoundCounter)
        self._watched: weakref.WeakKeyDictionary[object, list[Callable[[], None]]] = (
            weakref.WeakKeyDictionary()
        )
        self._lock = Lock()

    def add(
        self,
        amount: float = 1,
        attributes: Attributes | None = None,
        *,
        tenant_id: str | None = None,
    ) -> None:
        """Count `amount` for a tenant; None means the one of the span or scope.

        Raises:
            InvalidIdentifierError: `tenant_id` is no tenant's id.
        """
        self._table.find(attributes, tenant_id).add(amount)

    def bind(
        self, attributes: Attributes | None = None, *, tenant_id: str | None = None
    ) -> BoundCounter:
        """Return the one series of these attributes; the tenant is the one of now."""
        return self._table.find(attributes, tenant_id)

    def attach(self, meter: Meter) -> None:
        """Let `meter` collect it."""
        meter.create_observable_counter(
            self.name, [self._observe], unit=self.unit, description=self.description
        )

    def watch(
        self, owner: Owner, read: Callable[[Owner], float], attributes: Attributes | None = None
    ) -> None:
        """Count what `owner` counts itself, for code that has no time to count twice.

        It is asked when somebody collects, in the collector's thread, for as long as it lives; its
        sum may only grow. It belongs to no tenant.
        """
        # In a context of its own: the tenant of who makes a cache is not the tenant of its reads.
        series = Context().run(self.bind, attributes)
        last = 0.0

        def take_over() -> None:
            nonlocal last
            # Weakly, or it would keep its owner alive: the table of those watched holds it.
            alive = known()
            if alive is not None:
                total = read(alive)
                series.add(total - last)
                last = total

        known = weakref.ref(owner)
        with self._lock:
            self._watched.setdefault(owner, []).append(take_over)

    def _observe(self, _options: CallbackOptions) -> Iterable[Observation]:
        with self._lock:
            for take_over in [one for each in list(self._watched.values()) for one in each]:
                take_over()
        return [Observation(series.value, series.attributes) for series in self._table.all()]


class BoundHistogram:
    """One series of a histogram."""

    __slots__ = ("_histogram", "attributes")

    def __init__(self, histogram: Histogram, attributes: dict[str, Attribute]) -> None:
        self._histogram = histogram
        self.attributes = attributes

    def record(self, value: float) -> None:
        """Note a value."""
        self._histogram.otel.record(value, self.attributes)

    def is_only_of(self, tenant: str) -> bool:
        """Tell whether it is the tenant's own for as long as `instruments.naming` stays.

        It is not where tenants share one: who shares is counted, and may get one of its own.
        """
        return self.attributes.get(TENANT_ATTRIBUTE) == tenant


class Histogram:
    """A distribution; made by `histogram`."""

    __slots__ = ("_boundaries", "_table", "description", "name", "otel", "unit")

    def __init__(
        self,
        name: str,
        unit: str,
        description: str,
        boundaries: Sequence[float],
        labels: Callable[[str], str],
    ) -> None:
        self.name = name
        self.unit = unit
        self.description = description
        self._boundaries = list(boundaries)
        self._table = SeriesTable(labels, lambda attributes: BoundHistogram(self, attributes))

    def record(
        self,
        value: float,
        attributes: Attributes | None = None,
        *,
        tenant_id: str | None = None,
    ) -> None:
        """Note a value for a tenant; None means the one of the span or scope.

        Raises:
            InvalidIdentifierError: `tenant_id` is no tenant's id.
        """
        series = self._table.find(attributes, tenant_id)
        self.otel.record(value, series.attributes)

    def bind(
        self, attributes: Attributes | None = None, *, tenant_id: str | None = None
    ) -> BoundHistogram:
        """Return the one series of these attributes; the tenant is the one of now."""
        return self._table.find(attributes, tenant_id)

    def attach(self, meter: Meter) -> None:
        """Record with `meter` from now on."""
        self.otel = meter.create_histogram(
            self.name,
            unit=self.unit,
            description=self.description,
            explicit_bucket_boundaries_advisory=self._boundaries,
        )


class Instruments:
    """All counters and histograms of a process, and how their tenants are called.

    There is one a process: instruments are made while modules are imported, before an application
    can say where metrics go.

    Attributes:
        naming: Changes with which tenants are named; who remembers a series forgets it then.
    """

    def __init__(self) -> None:
        # A proxy until the application sets a meter provider, that provider's from then on.
        self._meter = metrics.get_meter("motadata", __version__)
        self._named: tuple[int, tuple[str, ...]] = (MOST_TENANTS, ())
        self._tenants = TenantLabels(MOST_TENANTS)
        self.naming = 0
        self._made: dict[str, Counter | Histogram] = {}
        self._lock = Lock()

    def name_tenants(self, limit: int, named: Iterable[str]) -> None:
        """Say how many tenants get series of their own, and which in any case."""
        wanted = (limit, tuple(named))
        if wanted != self._named:
            self._tenants = TenantLabels(*wanted)
            self._named = wanted
            self.naming += 1

    def use(self, meter: Meter) -> None:
        """Report to another meter than the global one."""
        with self._lock:
            self._meter = meter
            for instrument in self._made.values():
                instrument.attach(meter)

    def counter(self, name: str, *, unit: str = "1", description: str = "") -> Counter:
        """Return the counter of that name."""
        return self._add(Counter(name, unit, description, self._label))

    def histogram(
        self, name: str, *, unit: str, boundaries: Sequence[float], description: str = ""
    ) -> Histogram:
        """Return the histogram of that name."""
        return self._add(Histogram(name, unit, description, boundaries, self._label))

    def _label(self, tenant: str) -> str:
        return self._tenants.label(tenant)

    def _add(self, made: Kind) -> Kind:
        if _NAME.fullmatch(made.name) is None:
            message = f"The metric name {made.name!r} is malformed."
            raise ConfigurationError(
                message, remedy="Begin with a letter; use letters, digits and '_', '.', '-', '/'."
            )
        with self._lock:
            known = self._made.get(made.name)
            if known is None:
                made.attach(self._meter)
                self._made[made.name] = made
                return made
        if type(known) is not type(made) or known.unit != made.unit:
            message = f"There is another metric {made.name!r}, in {known.unit!r}."
            raise ConfigurationError(message, remedy="Choose another name, or the same unit.")
        return known


instruments: Final = Instruments()


def counter(name: str, *, unit: str = "1", description: str = "") -> Counter:
    """Return the counter of that name; made once, at the top of the module that counts.

    Args:
        name: Dotted, after the semantic conventions where they have one.
        unit: UCUM, such as `s`, `By` or `{request}`.
        description: One sentence for whoever reads a dashboard.

    Raises:
        ConfigurationError: The name is malformed, or belongs to another kind of metric.
    """
    return instruments.counter(name, unit=unit, description=description)


def histogram(
    name: str, *, unit: str, boundaries: Sequence[float], description: str = ""
) -> Histogram:
    """Return the histogram of that name; made once, at the top of the module that measures.

    Args:
        name: Dotted, after the semantic conventions where they have one.
        unit: UCUM, such as `s`, `By` or `{request}`.
        boundaries: Upper bounds of its buckets, rising.
        description: One sentence for whoever reads a dashboard.

    Raises:
        ConfigurationError: The name is malformed, or belongs to another kind of metric.
    """
    return instruments.histogram(name, unit=unit, boundaries=boundaries, description=description)


def report_metrics_to(meter: Meter | None) -> None:
    """Let another meter than the process's collect every metric; None is the process's again.

    For a host that keeps a meter provider of its own for the SDK, and for tests.
    """
    instruments.use(meter or metrics.get_meter("motadata", __version__))
