"""Both buses keep the contract of a component, that over NATS also when its server is silent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from motadata.core.embedded import EmbeddedNats
from motadata.core.messaging import (
    InProcessBroker,
    NatsCredentials,
    create_in_process_bus,
    create_message_bus,
)
from motadata.core.protocols import Component
from motadata.core.testing.component import (
    ComponentConformance,
    DependentComponentConformance,
    Silenced,
)
from motadata.core.testing.fault_proxy import FaultProxy


# These tests break connections.
pytestmark = pytest.mark.usefixtures("drivers_drop_sockets")


class TestBusWithinOneProcess(ComponentConformance):
    @pytest.fixture
    def component(self) -> Component:
        return create_in_process_bus(InProcessBroker())


class TestBusBehindAProxy(DependentComponentConformance):
    @pytest.fixture
    async def proxy(self, embedded_nats: EmbeddedNats) -> AsyncIterator[FaultProxy]:
        port = int(embedded_nats.url.rpartition(":")[2])
        async with FaultProxy(("127.0.0.1", port)) as proxy:
            yield proxy

    @pytest.fixture
    def component(self, embedded_nats: EmbeddedNats, proxy: FaultProxy) -> Component:
        credentials = NatsCredentials(token=embedded_nats.token)
        return create_message_bus(f"nats://127.0.0.1:{proxy.port}", credentials=credentials)

    @pytest.fixture
    def silenced(self, proxy: FaultProxy) -> Silenced:
        @asynccontextmanager
        async def silence() -> AsyncIterator[None]:
            proxy.pause()
            yield
            proxy.resume()

        return silence
