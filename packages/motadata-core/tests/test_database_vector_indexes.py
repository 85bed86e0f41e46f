"""Large tenants get a vector index of their own, small ones are searched exactly."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest

from motadata.core.database import (
    PostgresDatabase,
    VectorIndexPlan,
    create_database,
    maintain_vector_indexes,
)
from motadata.core.errors import ConfigurationError, InvalidIdentifierError, QueryError
from motadata.core.testing.plugin import DatabaseDsns


DIMENSIONS = 8
PLAN = VectorIndexPlan("motadata.item", large=400)
SMALL, LARGE = 40, 900


@pytest.fixture
async def filled(database_dsns: DatabaseDsns) -> AsyncIterator[PostgresDatabase]:
    """A table with a large tenant and a small one."""
    owner = await asyncpg.connect(database_dsns.owner)
    await owner.execute(
        "drop table if exists motadata.item; create table motadata.item (tenant_id text, id int,"
        f" half halfvec({DIMENSIONS}), loose vector, embedding vector({DIMENSIONS}),"
        " primary key (tenant_id, id)); select motadata.isolate('motadata.item');"
        f" grant select, insert, update, delete on motadata.item to {database_dsns.runtime_role}"
    )
    chance = random.Random(3)
    async with create_database(database_dsns.runtime) as database:
        for tenant, size in (("small", SMALL), ("large", LARGE)):
            rows = [
                (tenant, number, [chance.gauss(0, 1) for _ in range(DIMENSIONS)])
                for number in range(size)
            ]
            async with database.transaction(tenant) as transaction:
                await transaction.insert_many("item", ("tenant_id", "id", "embedding"), rows)
        await owner.execute("analyze motadata.item")
        yield database
    await owner.execute("drop table motadata.item")
    await owner.close()


async def _plan_of(database: PostgresDatabase, tenant: str) -> str:
    async with database.transaction(tenant) as transaction:
        await transaction.execute("set local enable_sort = off")
        rows = await transaction.fetch(
            "explain (costs off) select id from item where tenant_id = '"
            + tenant
            + f"' order by embedding <=> '{[1] * DIMENSIONS}' limit 5"
        )
    return "\n".join(str(row["QUERY PLAN"]) for row in rows)


async def test_only_the_large_tenant_gets_an_index(
    filled: PostgresDatabase, database_dsns: DatabaseDsns
):
    changes = await maintain_vector_indexes(
        database_dsns.owner, PLAN, tenants=["small", "large", "unknown"]
    )
    again = await maintain_vector_indexes(database_dsns.owner, PLAN, tenants=["small", "large"])

    assert [(change.tenant_id, change.action) for change in changes] == [("large", "built")]
    assert again == []
    assert changes[0].index in await _plan_of(filled, "large")
    assert changes[0].index not in await _plan_of(filled, "small")


@pytest.mark.parametrize("precision", ["full", "half"])
async def test_both_tiers_find_the_nearest_of_their_tenant(
    filled: PostgresDatabase, database_dsns: DatabaseDsns, precision: str
):
    plan = replace(PLAN, precision=precision)
    vector = [1.0] * DIMENSIONS
    exact = {
        tenant: await filled.vector_search("item", vector, columns=("id",), tenant_id=tenant)
        for tenant in ("small", "large")
    }

    await maintain_vector_indexes(database_dsns.owner, plan, tenants=["large"])

    for tenant, rows in exact.items():
        found = await filled.vector_search(
            "item",
            vector,
            columns=("id", "tenant_id"),
            precision=precision,  # type: ignore[arg-type]
            tenant_id=tenant,
        )
        same = {row["id"] for row in rows} & {row["id"] for row in found}
        assert {row["tenant_id"] for row in found} == {tenant}
        assert len(same) >= 9


async def test_index_goes_when_its_tenant_has_shrunk(
    filled: PostgresDatabase, database_dsns: DatabaseDsns
):
    built = await maintain_vector_indexes(database_dsns.owner, PLAN, tenants=["large"])
    async with filled.transaction("large") as transaction:
        await transaction.execute("delete from item where id >= 300")
    kept = await maintain_vector_indexes(database_dsns.owner, PLAN, tenants=[])
    async with filled.transaction("large") as transaction:
        await transaction.execute("delete from item where id >= 150")

    dropped = await maintain_vector_indexes(database_dsns.owner, PLAN, tenants=[])

    assert kept == []
    assert [(one.tenant_id, one.index, one.action) for one in dropped] == [
        ("large", built[0].index, "dropped")
    ]


async def test_index_that_a_run_left_invalid_is_built_anew(
    filled: PostgresDatabase, database_dsns: DatabaseDsns
):
    (built,) = await maintain_vector_indexes(database_dsns.owner, PLAN, tenants=["large"])
    administrator = await asyncpg.connect(database_dsns.administrator)
    await administrator.execute(
        "update pg_index set indisvalid = false where indexrelid = $1::text::regclass",
        f"motadata.{built.index}",
    )

    (again,) = await maintain_vector_indexes(database_dsns.owner, PLAN, tenants=["large"])

    assert again == built
    assert await administrator.fetchval(
        "select indisvalid from pg_index where indexrelid = $1::text::regclass",
        f"motadata.{built.index}",
    )
    await administrator.close()


async def test_plans_of_one_table_do_not_touch_each_others_indexes(
    filled: PostgresDatabase, database_dsns: DatabaseDsns
):
    plans = [PLAN, replace(PLAN, metric="l2"), replace(PLAN, precision="half")]
    for plan in plans:
        await maintain_vector_indexes(database_dsns.owner, plan, tenants=["large"])

    changes = [
        await maintain_vector_indexes(database_dsns.owner, plan, tenants=[]) for plan in plans
    ]

    assert changes == [[], [], []]


async def test_halfvec_column_is_written_indexed_and_searched(
    filled: PostgresDatabase, database_dsns: DatabaseDsns
):
    rows = [("large", LARGE + n, [n / 7, 1.0] + [0.0] * 6) for n in range(500)]
    async with filled.transaction("large") as transaction:
        await transaction.insert_many("item", ("tenant_id", "id", "half"), rows)
        value = await transaction.fetch_value("select half from item where id = $1", LARGE + 7)
    plan = replace(PLAN, column="half", precision="half")

    (built,) = await maintain_vector_indexes(database_dsns.owner, plan, tenants=["large"])
    found = await filled.vector_search(
        "item", [0.0, 1.0] + [0.0] * 6, vector_column="half", columns=("id",), tenant_id="large"
    )

    assert (built.action, value, found[0]["id"]) == ("built", [1.0, 1.0, 0, 0, 0, 0, 0, 0], LARGE)


async def test_search_settings_stay_within_the_search(filled: PostgresDatabase):
    for _ in range(3):
        await filled.vector_search("item", [1.0] * DIMENSIONS, limit=500, tenant_id="small")

    rows = await filled.execute_query(
        "select current_setting('hnsw.ef_search', true) as ef,"
        " current_setting('plan_cache_mode') as mode",
        tenant_id="large",
    )

    assert rows == [{"ef": "40", "mode": "auto"}]


@pytest.mark.parametrize(
    ("plan", "tenants", "error"),
    [
        (replace(PLAN, table="x; drop"), ["large"], QueryError),
        (replace(PLAN, table="motadata.absent"), ["large"], QueryError),
        (replace(PLAN, column="id"), ["large"], QueryError),
        (replace(PLAN, column="loose"), ["large"], QueryError),
        (PLAN, ["a'b"], InvalidIdentifierError),
    ],
)
async def test_plan_that_cannot_work_is_refused(
    filled: PostgresDatabase,
    database_dsns: DatabaseDsns,
    plan: VectorIndexPlan,
    tenants: list[str],
    error: type[Exception],
):
    with pytest.raises(error):
        await maintain_vector_indexes(database_dsns.owner, plan, tenants=tenants)


async def test_malformed_owner_address_does_not_show_its_password():
    with pytest.raises(ConfigurationError) as caught:
        await maintain_vector_indexes("mysql://u:s3cret@h/d", PLAN, tenants=[])

    assert "s3cret" not in str(caught.value)
