"""Tables can be distributed by tenant, and what would keep one from it is found."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from motadata.core.database import audit_distribution
from motadata.core.errors import ConfigurationError
from motadata.core.testing.database import CONFORMANCE_MIGRATIONS
from motadata.core.testing.plugin import DatabaseDsns


TABLE = "create table motadata.t (tenant_id text not null, id int, primary key (tenant_id, id));"


@pytest.fixture(scope="module")
def migration_packages() -> tuple[str, ...]:
    return (CONFORMANCE_MIGRATIONS,)


@pytest.fixture
async def owner(database_dsns: DatabaseDsns) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_dsns.owner)
    yield connection
    await connection.execute("drop table if exists motadata.t, motadata.u cascade")
    await connection.close()


async def test_every_table_of_core_can_be_distributed(database_dsns: DatabaseDsns):
    assert await audit_distribution(database_dsns.runtime) == []


PLANTED = {
    "no tenant": ("create table motadata.t (id int primary key)", "has no column tenant_id"),
    "other type": (
        "create table motadata.t (tenant_id uuid, id int, primary key (tenant_id, id))",
        "of type uuid",
    ),
    "key without tenant": (
        "create table motadata.t (tenant_id text, id int primary key)",
        "key without tenant_id: motadata.t_pkey",
    ),
    "unique index": (f"{TABLE} create unique index one on motadata.t (id)", "motadata.one"),
    "exclusion": (
        f"{TABLE} alter table motadata.t add constraint ex exclude using btree (id with =)",
        "exclusion constraint",
    ),
    "foreign key across tenants": (
        (
            f"{TABLE} create table motadata.u (tenant_id text, other text, id int,"
            " primary key (tenant_id, id),"
            " constraint fk foreign key (other, id) references motadata.t (tenant_id, id))"
        ),
        "tie tenant_id to tenant_id: fk",
    ),
    "set null": (
        (
            f"{TABLE} create table motadata.u (tenant_id text, id int, part int,"
            " primary key (tenant_id, part), constraint fk foreign key (tenant_id, id)"
            " references motadata.t (tenant_id, id) on delete set null)"
        ),
        "set tenant_id to null",
    ),
    "identity": (
        (
            "create table motadata.t (tenant_id text, id int generated always as identity,"
            " primary key (tenant_id, id))"
        ),
        "sequence of the coordinator: id",
    ),
    "serial": (
        "create table motadata.t (tenant_id text, id serial, primary key (tenant_id, id))",
        "sequence of the coordinator: id",
    ),
    "trigger": (
        (
            f"{TABLE} create trigger tr before update on motadata.t for each row"
            " execute function suppress_redundant_updates_trigger()"
        ),
        "has a trigger: tr",
    ),
    "rule": (
        f"{TABLE} create rule ru as on delete to motadata.t do instead nothing",
        "has a rule: ru",
    ),
    "inheritance": (
        f"{TABLE} create table motadata.u (primary key (tenant_id, id)) inherits (motadata.t)",
        "inherits",
    ),
    "unlogged": (
        "create unlogged table motadata.t (tenant_id text, id int, primary key (tenant_id, id))",
        "unlogged",
    ),
}


@pytest.mark.parametrize(("script", "finding"), PLANTED.values(), ids=PLANTED)
async def test_what_keeps_a_table_from_being_distributed_is_found(
    owner: asyncpg.Connection, database_dsns: DatabaseDsns, script: str, finding: str
):
    await owner.execute(script)

    findings = await audit_distribution(database_dsns.runtime)

    assert any(finding in str(found) for found in findings)


async def test_keys_that_carry_the_tenant_are_accepted(
    owner: asyncpg.Connection, database_dsns: DatabaseDsns
):
    await owner.execute(
        f"{TABLE} create unique index on motadata.t (id, tenant_id); create table motadata.u"
        " (tenant_id text, id int, part int, primary key (tenant_id, part), foreign key"
        " (tenant_id, id) references motadata.t (tenant_id, id) on delete set null (id))"
    )

    assert await audit_distribution(database_dsns.owner) == []


async def test_malformed_address_does_not_show_its_password():
    with pytest.raises(ConfigurationError) as caught:
        await audit_distribution("mysql://u:s3cret@h/d")

    assert "s3cret" not in str(caught.value)
