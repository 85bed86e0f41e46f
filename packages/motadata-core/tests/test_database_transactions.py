"""Transactions of one tenant over a real PostgreSQL."""

from __future__ import annotations

from motadata.core.database import PostgresDatabase


async def test_a_transaction_is_bound_to_its_tenant(database: PostgresDatabase):
    rows = await database.execute_query(
        "select current_setting('motadata.tenant_id') as tenant", tenant_id="acme"
    )

    assert rows == [{"tenant": "acme"}]
