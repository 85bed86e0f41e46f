"""Every table of every installed component can be distributed by tenant."""

from __future__ import annotations

import pytest

from motadata.core.database import audit_distribution
from motadata.core.platform import create_platform
from motadata.core.testing.plugin import DatabaseDsns


@pytest.fixture(scope="module")
def migration_packages() -> tuple[str, ...]:
    return tuple(create_platform().migrations)


async def test_every_table_can_be_distributed_by_tenant(database_dsns: DatabaseDsns):
    assert [str(finding) for finding in await audit_distribution(database_dsns.runtime)] == []
