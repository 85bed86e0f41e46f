"""The database keeps the contract of a component, also when its server is silent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

import pytest

from motadata.core.database import create_database
from motadata.core.protocols import Component
from motadata.core.testing.component import DependentComponentConformance, Silenced
from motadata.core.testing.fault_proxy import FaultProxy
from motadata.core.testing.plugin import DatabaseDsns


# These tests break connections.
pytestmark = pytest.mark.usefixtures("drivers_drop_sockets")


class TestDatabaseBehindAProxy(DependentComponentConformance):
    @pytest.fixture
    async def proxy(self, database_dsns: DatabaseDsns) -> AsyncIterator[FaultProxy]:
        folder = parse_qs(urlsplit(database_dsns.runtime).query)["host"][0]
        async with FaultProxy(f"{folder}/.s.PGSQL.5432") as proxy:
            yield proxy

    @pytest.fixture
    def component(self, database_dsns: DatabaseDsns, proxy: FaultProxy) -> Component:
        parts = urlsplit(database_dsns.runtime)
        role = f"{parts.username}:{parts.password}"
        return create_database(f"{parts.scheme}://{role}@127.0.0.1:{proxy.port}{parts.path}")

    @pytest.fixture
    def silenced(self, proxy: FaultProxy) -> Silenced:
        @asynccontextmanager
        async def silence() -> AsyncIterator[None]:
            proxy.pause()
            yield
            proxy.resume()

        return silence
