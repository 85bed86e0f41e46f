"""What the SDK counts: each sum must be that of the tenant whose label it bears."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from motadata.core.observability import counter, span
from motadata.core.tenancy import tenant_scope
from motadata.core.testing.isolation._operations import TENANTS, Operation, choose
from motadata.core.testing.isolation._site import UNKNOWN, Leak, attempt


if TYPE_CHECKING:
    from motadata.core.testing.metrics import RecordedMetrics

_TENANT = "motadata.tenant_id"
_OWNER = "owner"

_acts = counter("isolation.acts", unit="{act}", description="What tenants did in a test.")


class MetricSite:
    """Counts from nested scopes, spans and tasks, all tenants at once.

    It takes over the process's metrics while it is entered, and needs OpenTelemetry's SDK.
    """

    name = "metrics"

    def __init__(self, *, weight: int = 1) -> None:
        self.weight = weight
        self.unknown = 0
        self._counted: Counter[str] = Counter()
        self._seen: Counter[str] = Counter()
        self._stack = ExitStack()
        self._metrics: RecordedMetrics | None = None
        self._verbs = (self._in_scope, self._nested, self._in_span, self._by_keyword)

    async def __aenter__(self) -> Self:
        """Collect the process's metrics from now on."""
        from motadata.core.testing.metrics import recorded_metrics

        self._metrics = self._stack.enter_context(recorded_metrics())
        return self

    async def __aexit__(self, *details: object) -> None:
        """Collect no more."""
        self._stack.close()

    async def act(self, tenant: str, operation: Operation) -> None:
        """Count something of a tenant."""
        verb = choose(self._verbs, operation.verb)
        self.unknown += await attempt(lambda: verb(tenant, operation), operation) is UNKNOWN

    async def settle(self) -> None:
        """Compare every sum with what its tenant did.

        Raises:
            Leak: One bears another tenant's label, or is not the sum of its own.
        """
        assert self._metrics is not None
        sums: Counter[str] = Counter()
        for point in self._metrics.points("isolation.acts"):
            owner, label = point.attributes[_OWNER], point.attributes.get(_TENANT)
            if owner != label:
                message = f"{self.name}: a sum of {owner!r} bears the label {label!r}."
                raise Leak(message)
            sums[str(owner)] += int(point.value)
        if any(sums[tenant] - self._seen[tenant] != self._counted[tenant] for tenant in TENANTS):
            message = f"{self.name}: {dict(sums - self._seen)} instead of {dict(self._counted)}."
            raise Leak(message)

    async def reset(self) -> None:
        """Begin to count from here."""
        assert self._metrics is not None
        self._counted.clear()
        self._seen.clear()
        for point in self._metrics.points("isolation.acts"):
            self._seen[str(point.attributes[_OWNER])] += int(point.value)

    def count(self, owner: str, *, tenant_id: str | None = None) -> None:
        """Count one for whoever is in scope, or named; it must be the owner."""
        _acts.add(1, {_OWNER: owner}, tenant_id=tenant_id)
        self._counted[owner] += 1

    async def _in_scope(self, tenant: str, operation: Operation) -> None:
        with tenant_scope(tenant):
            for _ in range(operation.key % 4):
                await asyncio.sleep(0)
            self.count(tenant)

    async def _nested(self, tenant: str, operation: Operation) -> None:
        other = choose(TENANTS, operation.other)
        with tenant_scope(tenant):
            with tenant_scope(other):
                await asyncio.sleep(0)
                self.count(other)
            self.count(tenant)

    async def _in_span(self, tenant: str, operation: Operation) -> None:
        with (
            tenant_scope(choose(TENANTS, operation.other)),
            span("isolation.act", tenant_id=tenant),
        ):
            await asyncio.sleep(0)
            self.count(tenant)

    async def _by_keyword(self, tenant: str, operation: Operation) -> None:
        with tenant_scope(choose(TENANTS, operation.other)):
            await asyncio.sleep(0)
            self.count(tenant, tenant_id=tenant)
