"""PostgreSQL for one tenant at a time: pooled transactions, vector search, migrations.

    await apply_migrations(owner_dsn, ["motadata.rag.migrations"], runtime_role="motadata_app")
    async with create_database(dsn) as database:
        rows = await database.execute_query("select title from documents", tenant_id="acme")

It owns connections, the tenant's binding to a transaction, and the check that tables are isolated.
The tables themselves belong to the components. It needs the extra `postgres`.
"""

from __future__ import annotations

from motadata.core.database._audit import Finding
from motadata.core.database._database import PostgresDatabase, create_database
from motadata.core.database._distribution import audit_distribution
from motadata.core.database._migrations import AppliedMigration, apply_migrations
from motadata.core.database._transaction import PostgresTransaction
from motadata.core.database._vector_indexes import (
    VectorIndexChange,
    VectorIndexPlan,
    maintain_vector_indexes,
)


__all__ = [
    "AppliedMigration",
    "Finding",
    "PostgresDatabase",
    "PostgresTransaction",
    "VectorIndexChange",
    "VectorIndexPlan",
    "apply_migrations",
    "audit_distribution",
    "create_database",
    "maintain_vector_indexes",
]
