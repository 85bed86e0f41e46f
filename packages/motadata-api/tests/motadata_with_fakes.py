"""The command `motadata` on a platform of fakes: a real process, a knowledge base in its memory.

`DOCUMENTS` in the environment is a JSON object of sources and texts that the tenant `acme` has.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from motadata.api.cli import _run, main
from motadata.api.component import COMPONENT
from motadata.core.models import Document
from motadata.core.platform import create_platform
from motadata.core.testing.fake_knowledge_base import FakeKnowledgeBase


sys.path.insert(0, str(Path(__file__).parent))

from conftest import FakeIngestion, Idle, role


async def fill(knowledge_base: FakeKnowledgeBase) -> None:
    for source, text in json.loads(os.environ.get("DOCUMENTS", "{}")).items():
        await knowledge_base.ingest_document(
            Document(text=text, source=source, title=source), tenant_id="acme"
        )


knowledge_base = FakeKnowledgeBase()
asyncio.run(fill(knowledge_base))
components = [
    role("knowledge_base", knowledge_base),
    role("ingestion", FakeIngestion(knowledge_base)),
    COMPONENT if "MOTADATA_DATABASE_URL" in os.environ else role("database", Idle()),
]
_run.create_platform = lambda: create_platform(components=components)
main()
