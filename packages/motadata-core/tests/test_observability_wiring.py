"""What the rooms of core tell of themselves: messages here; statements in the database's tests."""

from __future__ import annotations

import gc
import weakref

import pytest

from motadata.core.cache import create_memory_cache
from motadata.core.messaging import create_in_process_bus
from motadata.core.protocols import BusMessage
from motadata.core.tenancy import tenant_scope


pytest.importorskip("opentelemetry.sdk")

from motadata.core.testing.metrics import RecordedMetrics, recorded_metrics


TENANT = "motadata.tenant_id"


async def test_messages_are_measured_per_tenant_when_sent_and_when_handled() -> None:
    async def answer(message: BusMessage) -> object:
        return message.payload

    with recorded_metrics() as metrics:
        async with create_in_process_bus() as bus:
            await bus.subscribe("desk", answer, tenant_id="acme")
            for _ in range(3):
                await bus.request("desk", {"text": "hello"}, sender="a", tenant_id="acme")
            await bus.publish_event("ticket.opened", {"text": "hello"}, tenant_id="globex")

        sent = counts(metrics, "messaging.client.operation.duration")
        handled = counts(metrics, "messaging.process.duration")
    assert sent == {("acme", "request"): 3, ("globex", "publish"): 1}
    assert handled == {("acme", "process"): 3}


async def test_cache_s_own_counts_become_a_metric_that_outlives_it() -> None:
    with recorded_metrics() as metrics, tenant_scope("acme"):
        cache = create_memory_cache()
        await cache.set("k", 1)
        for key in ("k", "k", "x"):
            await cache.get(key)
        first = lookups(metrics)
        await cache.get("k")
        assert lookups(metrics) == {"hit": 3, "miss": 1}
        gone = weakref.ref(cache)
        del cache
        gc.collect()

        assert first == {"hit": 2, "miss": 1}
        assert gone() is None
        assert lookups(metrics) == {"hit": 3, "miss": 1}


def lookups(metrics: RecordedMetrics) -> dict[object, float]:
    points = metrics.points("motadata.cache.lookups")
    mine = [point for point in points if TENANT not in point.attributes]
    assert {point.attributes["motadata.cache.tier"] for point in mine} == {"memory"}
    return {point.attributes["motadata.cache.result"]: point.value for point in mine}


def counts(metrics: RecordedMetrics, name: str) -> dict[tuple[object, object], int]:
    return {
        (point.attributes[TENANT], point.attributes["messaging.operation.name"]): point.count
        for point in metrics.points(name)
    }
