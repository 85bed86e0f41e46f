from __future__ import annotations

import pytest

from motadata.core.testing.fake_knowledge_base import FakeKnowledgeBase
from motadata.core.testing.knowledge_base import KnowledgeBaseConformance


class TestFakeKnowledgeBase(KnowledgeBaseConformance):
    @pytest.fixture
    def knowledge_base(self) -> FakeKnowledgeBase:
        return FakeKnowledgeBase()
