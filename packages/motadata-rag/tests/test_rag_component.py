from __future__ import annotations

from contextlib import nullcontext
from importlib.metadata import entry_points

import pytest

from motadata.core.cache import create_memory_cache
from motadata.core.errors import ConfigurationError
from motadata.core.models import Document, Health
from motadata.core.platform import ComponentSpec, Platform, create_platform
from motadata.core.protocols import Database
from motadata.core.testing.fake_gateway import FakeGateway
from motadata.rag.component import COMPONENT


def _platform(database: Database, **environment: str) -> Platform:
    parts: dict[str, object] = {
        "database": database,
        "gateway": FakeGateway(),
        "cache": create_memory_cache(),
    }
    specs = [
        ComponentSpec(name=name, open=lambda _, part=part: nullcontext(part))  # type: ignore[misc]  # a default argument binds
        for name, part in parts.items()
    ]
    return create_platform(environment, components=[*specs, COMPONENT])


def test_the_entry_point_names_the_component() -> None:
    found = entry_points(group="motadata.components", name="knowledge_base")

    assert [point.load() for point in found] == [COMPONENT]


async def test_a_platform_opens_a_knowledge_base_that_answers(database: Database) -> None:
    async with _platform(database) as platform:
        document = Document(text="The badge is at the reception.", source="badge")
        await platform.knowledge_base.ingest_document(document, tenant_id="component")
        question = "Where is the badge?"
        first = await platform.knowledge_base.query(question, tenant_id="component")
        second = await platform.knowledge_base.query(question, tenant_id="component")

    assert "reception" in first.answer
    assert second.cached


async def test_settings_come_from_the_environment(database: Database) -> None:
    async with _platform(database, MOTADATA_RAG_KEPT_VERSIONS="1") as platform:
        for text in ("One.", "Two."):
            document = Document(text=text, source="versions", document_id="versions")
            await platform.knowledge_base.ingest_document(document, tenant_id="component")
        health = await platform.knowledge_base.health()

        with pytest.raises(Exception, match="last 1 versions"):
            await platform.knowledge_base.get_document("versions", version=1, tenant_id="component")
    assert health == Health("ok", components=health.components)
    assert set(health.components) == {"database", "gateway"}


async def test_a_setting_out_of_range_is_refused(database: Database) -> None:
    with pytest.raises(ConfigurationError, match="vector_weight"):
        async with _platform(database, MOTADATA_RAG_VECTOR_WEIGHT="7"):
            pass
