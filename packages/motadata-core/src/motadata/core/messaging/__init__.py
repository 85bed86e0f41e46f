"""The message bus: agents, events and work between the parts of a platform, tenant by tenant.

    async with create_message_bus("nats://localhost:4222") as bus:
        await bus.consume("indexer", index, event_types=["document.updated"], tenant_id="acme")
        await bus.publish_event("document.updated", {"document_id": "7"}, tenant_id="acme")

The contract is `motadata.core.protocols.MessageBus`. `create_in_process_bus` makes one that keeps
everything in memory and behaves alike. NATS needs the extra `nats`.
"""

from __future__ import annotations

from motadata.core.messaging._in_process import (
    InProcessBroker,
    InProcessBus,
    create_in_process_bus,
)
from motadata.core.messaging._nats import NatsMessageBus, create_message_bus
from motadata.core.messaging._nats_credentials import NatsCredentials
from motadata.core.messaging._nats_streams import StreamLimits
from motadata.core.messaging._statistics import BusStatistics


__all__ = [
    "BusStatistics",
    "InProcessBroker",
    "InProcessBus",
    "NatsCredentials",
    "NatsMessageBus",
    "StreamLimits",
    "create_in_process_bus",
    "create_message_bus",
]
