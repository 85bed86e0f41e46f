"""What the rooms of core tell of themselves: messages here; statements in the database's tests."""

from __future__ import annotations

import pytest

from motadata.core.messaging import create_in_process_bus
from motadata.core.protocols import BusMessage


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


def counts(metrics: RecordedMetrics, name: str) -> dict[tuple[object, object], int]:
    return {
        (point.attributes[TENANT], point.attributes["messaging.operation.name"]): point.count
        for point in metrics.points(name)
    }
