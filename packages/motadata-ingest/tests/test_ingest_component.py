"""How a platform finds, configures and runs ingestion."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import entry_points

import pytest

import motadata.ingest
from motadata.core.errors import ConfigurationError
from motadata.core.platform import ComponentSpec, Platform
from motadata.core.testing.fake_knowledge_base import FakeKnowledgeBase
from motadata.ingest import IngestSettings, Limits, create_ingestion_service
from motadata.ingest.component import COMPONENT


@asynccontextmanager
async def fake(platform: Platform) -> AsyncIterator[FakeKnowledgeBase]:
    del platform
    yield FakeKnowledgeBase()


def test_entry_point_names_the_component():
    found = {point.name: point for point in entry_points(group="motadata.components")}

    assert found["ingestion"].load() is COMPONENT


async def test_platform_opens_ingestion_over_its_knowledge_base():
    specs = [COMPONENT, ComponentSpec(name="knowledge_base", open=fake)]

    async with Platform(specs, {"MOTADATA_INGEST_FILE_BYTES": "20"}) as platform:
        report = await platform.ingestion.upload(b"Some text.", source="a.txt", tenant_id="acme")
        with pytest.raises(motadata.core.errors.FileTooLargeError):
            await platform.ingestion.upload(b"x" * 21, source="b.txt", tenant_id="acme")
        assert len(await platform.knowledge_base.list_documents(tenant_id="acme")) == 1
        assert (await platform.health()).components["ingestion"].status in {"ok", "degraded"}

    assert len(report.documents) == 1


def test_ingestion_requires_a_knowledge_base():
    with pytest.raises(ConfigurationError, match="knowledge_base"):
        Platform([COMPONENT], {})


def test_settings_cover_every_limit():
    assert IngestSettings().limits() == Limits()
    settings = IngestSettings.from_environment({"MOTADATA_INGEST_SECONDS": "5"})
    assert settings.limits() == Limits(seconds=5.0)


@pytest.mark.parametrize("name", ["FILE_BYTES", "SECONDS"])
def test_limits_must_be_positive(name: str):
    settings = IngestSettings.from_environment({f"MOTADATA_INGEST_{name}": "0"})

    with pytest.raises(ConfigurationError, match=name.lower()):
        settings.limits()


def test_concurrency_must_be_positive():
    with pytest.raises(ConfigurationError):
        create_ingestion_service(FakeKnowledgeBase(), concurrency=0)


def test_public_names_are_what_the_package_lists():
    for name in motadata.ingest.__all__:
        assert getattr(motadata.ingest, name) is not None
