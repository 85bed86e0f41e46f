"""What the database tells of its statements: verb, time, tenant and error, never their text."""

from __future__ import annotations

import json

import pytest

from motadata.core.database import create_database
from motadata.core.errors import QueryError
from motadata.core.observability import span
from motadata.core.testing.database import CONFORMANCE_MIGRATIONS
from motadata.core.testing.plugin import DatabaseDsns


pytest.importorskip("opentelemetry.sdk")

from motadata.core.testing.metrics import recorded_metrics


@pytest.fixture(scope="module")
def migration_packages() -> tuple[str, ...]:
    return (CONFORMANCE_MIGRATIONS,)


async def test_statements_are_measured_by_verb_and_tenant(database_dsns: DatabaseDsns) -> None:
    async with create_database(database_dsns.runtime) as database:
        with recorded_metrics() as metrics:
            await database.execute_query("select 'xylophone'", tenant_id="acme")
            async with database.transaction("globex") as transaction:
                await transaction.fetch_value("values (1)")
            with pytest.raises(QueryError) as caught, span("caller") as caller:
                await database.execute_query("select 1 / $1::int", 0, tenant_id="globex")
            points = metrics.points("db.client.operation.duration")

    seen = {
        (
            point.attributes["motadata.tenant_id"],
            point.attributes["db.operation.name"],
            point.attributes.get("error.type"),
        )
        for point in points
    }
    assert {
        ("acme", "SELECT", None),
        ("globex", "VALUES", None),
        ("globex", "SELECT", "database_query_error"),
    } <= seen
    assert caught.value.trace_id == caller.trace_id
    assert "xylophone" not in json.dumps([dict(point.attributes) for point in points])
