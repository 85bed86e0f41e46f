"""Caches with a server keep the contract of a component, also when that is silent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from motadata.core.cache import create_redis_cache, create_tiered_cache
from motadata.core.embedded import EmbeddedRedis
from motadata.core.protocols import Component
from motadata.core.testing.component import DependentComponentConformance, Silenced
from motadata.core.testing.fault_proxy import FaultProxy


# These tests break connections.
pytestmark = pytest.mark.usefixtures("drivers_drop_sockets")


class BehindAProxy(DependentComponentConformance):
    @pytest.fixture
    async def proxy(self, embedded_redis: EmbeddedRedis) -> AsyncIterator[FaultProxy]:
        async with FaultProxy(("127.0.0.1", embedded_redis.port)) as proxy:
            yield proxy

    @pytest.fixture
    def url(self, embedded_redis: EmbeddedRedis, proxy: FaultProxy) -> str:
        url = embedded_redis.url.get_secret_value()
        return url.replace(f":{embedded_redis.port}", f":{proxy.port}")

    @pytest.fixture
    def silenced(self, proxy: FaultProxy) -> Silenced:
        @asynccontextmanager
        async def silence() -> AsyncIterator[None]:
            proxy.pause()
            yield
            proxy.resume()

        return silence


class TestSharedCache(BehindAProxy):
    @pytest.fixture
    def component(self, url: str) -> Component:
        return create_redis_cache(url)


class TestTieredCache(BehindAProxy):
    @pytest.fixture
    def component(self, url: str) -> Component:
        return create_tiered_cache(url)
