"""The gateway, and the log of what it is used for, keep the contract of a component."""

from __future__ import annotations

from pathlib import Path

import pytest

from motadata.core.cache import create_memory_cache
from motadata.core.database import PostgresDatabase
from motadata.core.protocols import Component
from motadata.core.testing.component import ComponentConformance
from motadata.core.testing.openai_server import OpenAIServer
from motadata.gateway import create_gateway
from motadata.gateway.usage import UsageLog


class TestGateway(ComponentConformance):
    @pytest.fixture
    def component(self, openai_server: OpenAIServer) -> Component:
        return create_gateway(
            ["openai"],
            "openai/gpt-4o-mini",
            {"openai": "sk-test"},
            base_urls={"openai": openai_server.url},
            cache=create_memory_cache(),
        )


class TestUsageLog(ComponentConformance):
    @pytest.fixture
    def component(self, database: PostgresDatabase, tmp_path: Path) -> Component:
        return UsageLog(database, tmp_path / "usage")
