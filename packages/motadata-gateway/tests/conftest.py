"""Every test of this package that asks for a database gets one with the gateway's tables."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def migration_packages() -> tuple[str, ...]:
    return ("motadata.gateway.migrations",)
