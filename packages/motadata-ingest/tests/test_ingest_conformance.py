"""The service keeps the contracts of its protocol and of a component: with the loader's real
processes, and with a loader of the user's own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from motadata.core.errors import EmptyFileError, IngestionError, UnsupportedFormatError
from motadata.core.models import Document
from motadata.core.protocols import Component, IngestionService, KnowledgeBase
from motadata.core.testing.component import ComponentConformance
from motadata.core.testing.fake_knowledge_base import FakeKnowledgeBase
from motadata.core.testing.ingestion_service import IngestionServiceConformance
from motadata.ingest import IsolatedLoader, create_ingestion_service


def read_all(content: bytes | os.PathLike[str]) -> bytes:
    return content if isinstance(content, bytes) else Path(content).read_bytes()


class PlainLoader:
    """A loader of the user's own, which reads text and nothing else."""

    async def load(self, content: bytes | os.PathLike[str], *, source: str) -> Document:
        try:
            read = await asyncio.to_thread(read_all, content)
        except FileNotFoundError as error:
            message = f"There is no file {os.fspath(content)!r}."
            raise IngestionError(message) from error
        if b"\0" in read:
            message = "The file is no text."
            raise UnsupportedFormatError(message)
        if not read.strip():
            message = "The file is empty."
            raise EmptyFileError(message)
        return Document(text=read.decode(), source=source)


class TestServiceWithItsProcesses(IngestionServiceConformance):
    @pytest.fixture
    async def ingestion_service(
        self, knowledge_base: KnowledgeBase
    ) -> AsyncIterator[IngestionService]:
        async with create_ingestion_service(knowledge_base) as service:
            yield service


class TestServiceWithALoaderOfOnesOwn(IngestionServiceConformance):
    @pytest.fixture
    async def ingestion_service(
        self, knowledge_base: KnowledgeBase
    ) -> AsyncIterator[IngestionService]:
        async with create_ingestion_service(knowledge_base, loader=PlainLoader()) as service:
            yield service


class TestServiceAsAComponent(ComponentConformance):
    @pytest.fixture
    def component(self) -> Component:
        return create_ingestion_service(FakeKnowledgeBase())


class TestLoaderAsAComponent(ComponentConformance):
    @pytest.fixture
    def component(self) -> Component:
        return IsolatedLoader()
