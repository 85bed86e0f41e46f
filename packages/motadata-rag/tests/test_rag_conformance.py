from __future__ import annotations

import pytest

from motadata.core.cache import create_memory_cache
from motadata.core.protocols import Component, Database
from motadata.core.testing.component import ComponentConformance
from motadata.core.testing.fake_gateway import FakeGateway
from motadata.core.testing.knowledge_base import KnowledgeBaseConformance
from motadata.rag import RAGSystem, create_rag_system


@pytest.fixture(autouse=True)
async def empty_tenants(database: Database) -> None:
    for tenant in ("acme", "globex"):
        await database.execute_query("delete from motadata.document", tenant_id=tenant)
        await database.execute_query("delete from motadata.knowledge_state", tenant_id=tenant)


class TestRAGSystemByMeaningAndWords(KnowledgeBaseConformance):
    @pytest.fixture
    def knowledge_base(self, database: Database) -> RAGSystem:
        return create_rag_system(database, FakeGateway(), cache=create_memory_cache())


class TestRAGSystemByWordsOnly(KnowledgeBaseConformance):
    @pytest.fixture
    def knowledge_base(self, database: Database) -> RAGSystem:
        return create_rag_system(database, FakeGateway(embeddings=False))


class TestRAGSystemAsAComponent(ComponentConformance):
    @pytest.fixture
    def component(self, database: Database) -> Component:
        return create_rag_system(database, FakeGateway(), cache=create_memory_cache())
