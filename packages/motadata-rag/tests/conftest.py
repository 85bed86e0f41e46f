"""Every test of this package that asks for a database gets one with the knowledge base's tables."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def migration_packages() -> tuple[str, ...]:
    return ("motadata.rag.migrations",)
