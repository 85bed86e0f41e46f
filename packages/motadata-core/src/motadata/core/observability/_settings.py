"""What an environment may say about logs, traces and metrics."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from motadata.core.errors import InvalidIdentifierError
from motadata.core.observability._logging import LogLevel
from motadata.core.observability._tenant_labels import MOST_TENANTS
from motadata.core.settings import Settings
from motadata.core.tenancy import TenantId


def _tenant(value: str) -> str:
    try:
        return TenantId(value)
    except InvalidIdentifierError as error:
        raise ValueError(str(error)) from error  # pydantic names the field


class ObservabilitySettings(Settings, prefix="MOTADATA_"):
    """How much is logged, how, and where traces and metrics go.

    Attributes:
        log_level: The lowest level that is written.
        log_json: One JSON object a line; false writes for people.
        service_name: Name of this process in logs, traces and metrics.
        otlp_endpoint: Base address of an OTLP/HTTP collector, such as `http://localhost:4318`. None
            means the variable `OTEL_EXPORTER_OTLP_ENDPOINT`; without that, nothing is sent.
        prometheus: Whether metrics can be scraped.
        metric_interval: Seconds between two exports of metrics to the collector.
        metric_tenants: Most tenants whose metrics carry their name; the rest share a label.
        metric_named_tenants: Tenants that are among those in any case.
    """

    log_level: LogLevel = "INFO"
    log_json: bool = True
    service_name: Annotated[str, Field(min_length=1)] = "motadata"
    otlp_endpoint: str | None = None
    prometheus: bool = False
    metric_interval: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 60.0
    metric_tenants: Annotated[int, Field(ge=0, le=1000)] = MOST_TENANTS
    metric_named_tenants: tuple[Annotated[str, AfterValidator(_tenant)], ...] = ()
