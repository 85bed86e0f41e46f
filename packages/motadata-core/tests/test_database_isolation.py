"""Tenants stay apart, and every known way to let them meet is found before it does harm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import asyncpg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from motadata.core.database import PostgresDatabase, apply_migrations, create_database
from motadata.core.errors import ConfigurationError, MigrationError, QueryError
from motadata.core.testing.database import CONFORMANCE_MIGRATIONS
from motadata.core.testing.plugin import DatabaseDsns


Result = TypeVar("Result")

TENANTS = ["acme", "beta", "ACME", "acme-1"]
TABLE = "create table motadata.t (tenant_id text, id int, primary key (tenant_id, id));"
ISOLATED = f"{TABLE} select motadata.isolate('motadata.t');"


@pytest.fixture(scope="module")
def migration_packages() -> tuple[str, ...]:
    return (CONFORMANCE_MIGRATIONS,)


@pytest.fixture
async def owner(database_dsns: DatabaseDsns) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_dsns.owner)
    yield connection
    await connection.execute("drop table if exists motadata.t, motadata.u cascade")
    await connection.execute("drop view if exists motadata.v")
    await connection.execute("drop materialized view if exists motadata.m")
    await connection.close()


PLANTED = {
    "no row-level security": (TABLE, "does not enable row-level security"),
    "not forced on the owner": (
        f"{ISOLATED} alter table motadata.t no force row level security",
        "does not force",
    ),
    "disabled later": (
        f"{ISOLATED} alter table motadata.t disable row level security",
        "does not enable",
    ),
    "no policy": (
        f"{TABLE} alter table motadata.t enable row level security, force row level security",
        "no tenant policy",
    ),
    "policy without WITH CHECK": (
        (
            f"{ISOLATED} drop policy tenant_isolation on motadata.t; create policy p on motadata.t"
            " using (tenant_id = (select current_setting('motadata.tenant_id', true)))"
        ),
        "no tenant policy",
    ),
    "WITH CHECK of everything": (
        f"{ISOLATED} alter policy tenant_isolation on motadata.t with check (true)",
        "no tenant policy",
    ),
    "second policy opens up": (
        f"{ISOLATED} create policy open on motadata.t for select using (true)",
        "not the tenant's: open",
    ),
    "no tenant means all": (
        (
            f"{ISOLATED} alter policy tenant_isolation on motadata.t using (tenant_id ="
            " current_setting('motadata.tenant_id', true) or"
            " coalesce(current_setting('motadata.tenant_id', true), '') = '')"
        ),
        "no tenant policy",
    ),
    "no tenant column": (
        "create table motadata.t (id int primary key)",
        "no column tenant_id",
    ),
    "tenant not first in the key": (
        (
            "create table motadata.t (tenant_id text, id int, primary key (id, tenant_id));"
            " select motadata.isolate('motadata.t')"
        ),
        "no primary key that starts with tenant_id",
    ),
    "unique across tenants": (
        f"{ISOLATED} create unique index across on motadata.t (id)",
        "unique index without tenant_id",
    ),
    "foreign key across tenants": (
        (
            f"{ISOLATED} create table motadata.u (tenant_id text, id int, other text,"
            " primary key (tenant_id, id),"
            " foreign key (other, id) references motadata.t (tenant_id, id));"
            " select motadata.isolate('motadata.u')"
        ),
        "does not carry tenant_id along",
    ),
    "view with its owner's rights": (
        "create view motadata.v as select * from motadata.conformance_items",
        "owner's rights",
    ),
    "materialized view": (
        "create materialized view motadata.m as select * from motadata.conformance_items",
        "materialized view",
    ),
    "open partition": (
        (
            "create table motadata.t (tenant_id text, id int, primary key (tenant_id, id))"
            " partition by hash (tenant_id); select motadata.isolate('motadata.t');"
            " create table motadata.u partition of motadata.t"
            " for values with (modulus 1, remainder 0)"
        ),
        "'motadata.u' does not enable",
    ),
    "right to truncate": (
        f"{ISOLATED} grant truncate on motadata.t to motadata_app",
        "may truncate",
    ),
}


@pytest.mark.parametrize(("script", "finding"), PLANTED.values(), ids=PLANTED)
async def test_table_that_is_not_isolated_is_found_at_start_up(
    owner: asyncpg.Connection, database_dsns: DatabaseDsns, script: str, finding: str
):
    await owner.execute(script)

    with pytest.raises(ConfigurationError, match=finding):
        async with create_database(database_dsns.runtime):
            pass


@pytest.mark.parametrize(("script", "finding"), PLANTED.values(), ids=PLANTED)
async def test_table_that_is_not_isolated_is_found_by_migrating(
    owner: asyncpg.Connection, database_dsns: DatabaseDsns, script: str, finding: str
):
    await owner.execute(script)

    with pytest.raises(MigrationError, match=finding):
        await apply_migrations(database_dsns.owner, [], runtime_role=database_dsns.runtime_role)


@pytest.mark.parametrize(
    "script",
    [
        ISOLATED,
        f"{ISOLATED} create policy stricter on motadata.t as restrictive using (id > 0)",
        f"{ISOLATED} create unique index on motadata.t (id, tenant_id)",
        (
            "create view motadata.v with (security_invoker) as"
            " select * from motadata.conformance_items"
        ),
    ],
    ids=["isolated", "restricted further", "unique within a tenant", "view of the caller"],
)
async def test_isolated_table_is_accepted(
    owner: asyncpg.Connection, database_dsns: DatabaseDsns, script: str
):
    await owner.execute(script)

    async with create_database(database_dsns.runtime) as database:
        assert (await database.health()).status == "ok"


@pytest.mark.parametrize("which", ["owner", "administrator"])
async def test_role_that_isolation_does_not_bind_is_refused(
    database_dsns: DatabaseDsns, which: str
):
    expected = {"owner": "owns the table", "administrator": "superuser"}

    with pytest.raises(ConfigurationError, match=expected[which]):
        async with create_database(getattr(database_dsns, which)):
            pass


@pytest.mark.parametrize(
    ("grant", "finding"),
    [
        ("alter role {role} bypassrls", "bypasses row-level security"),
        ("grant motadata_owner to {role}", "belongs to its owner"),
        ("grant postgres to {role}", "superuser, or can become one"),
    ],
    ids=["bypassrls", "member of the owner", "member of a superuser"],
)
async def test_role_that_could_become_another_is_refused(
    database_dsns: DatabaseDsns, grant: str, finding: str
):
    administrator = await asyncpg.connect(database_dsns.administrator)
    await administrator.execute("create role careless login nosuperuser password 'x'")
    try:
        await administrator.execute(grant.format(role="careless"))
        password = database_dsns.runtime.split("@", 1)[0].split("://", 1)[1]

        with pytest.raises(ConfigurationError, match=finding):
            async with create_database(database_dsns.runtime.replace(password, "careless:x")):
                pass
    finally:
        await administrator.execute("drop role careless")
        await administrator.close()


async def test_without_a_tenant_there_are_no_rows(
    database: PostgresDatabase, database_dsns: DatabaseDsns
):
    await database.execute_query(
        "insert into conformance_items (tenant_id, id) values ('acme', '1')", tenant_id="acme"
    )

    connection = await asyncpg.connect(database_dsns.runtime)
    for tenant in (None, "", "globex"):
        if tenant is not None:
            await connection.execute("select set_config('motadata.tenant_id', $1, false)", tenant)
        assert await connection.fetch("select * from motadata.conformance_items") == []
    await connection.close()


async def test_database_refuses_a_tenant_that_breaks_the_grammar(owner: asyncpg.Connection):
    for tenant in ("a b", "", "x" * 65, "a\nb"):
        await owner.execute("select set_config('motadata.tenant_id', $1, false)", tenant)
        with pytest.raises(asyncpg.CheckViolationError):
            await owner.execute(
                "insert into motadata.conformance_items (tenant_id, id) values ($1, '1')", tenant
            )


@pytest.fixture
def loop_thread() -> Iterator[asyncio.Runner]:
    with ThreadPoolExecutor(1) as executor, asyncio.Runner() as runner:
        yield _Apart(runner, executor)


class _Apart:
    """A loop in a thread of its own: Hypothesis is synchronous and calls it step by step."""

    def __init__(self, runner: asyncio.Runner, executor: ThreadPoolExecutor) -> None:
        self._runner = runner
        self._executor = executor

    def run(self, work: Coroutine[object, object, Result]) -> Result:
        return self._executor.submit(self._runner.run, work).result(30)


def test_no_sequence_of_operations_lets_tenants_meet(
    database_dsns: DatabaseDsns, loop_thread: _Apart
):
    run = loop_thread.run
    database = create_database(database_dsns.runtime, max_connections=2)
    run(database.__aenter__())

    class Tenants(RuleBasedStateMachine):
        """Rows by tenant and key, as they should be, beside the real ones."""

        def __init__(self) -> None:
            super().__init__()
            self.model: dict[tuple[str, str], str] = {}
            for tenant in TENANTS:
                self.run(tenant, "delete from conformance_items")

        def run(self, tenant: str, sql: str, *args: object) -> list[dict[str, object]]:
            rows = run(database.execute_query(sql, *args, tenant_id=tenant))
            return [dict(row) for row in rows]

        @rule(tenant=st.sampled_from(TENANTS), key=st.sampled_from("abc"), body=st.text("xy\u00e9"))
        def put(self, tenant: str, key: str, body: str) -> None:
            self.run(
                tenant,
                "insert into conformance_items (tenant_id, id, body, embedding)"
                " values ($1, $2, $3, '[1,0,0]')"
                " on conflict (tenant_id, id) do update set body = excluded.body",
                tenant,
                key,
                body,
            )
            self.model[tenant, key] = body

        @rule(tenant=st.sampled_from(TENANTS), victim=st.sampled_from(TENANTS))
        def forge(self, tenant: str, victim: str) -> None:
            if tenant != victim:
                with pytest.raises(QueryError, match="42501"):
                    self.run(
                        tenant,
                        "insert into conformance_items (tenant_id, id) values ($1, 'forged')",
                        victim,
                    )

        @rule(tenant=st.sampled_from(TENANTS), victim=st.sampled_from(TENANTS))
        def give_away(self, tenant: str, victim: str) -> None:
            if tenant != victim and any(owner == tenant for owner, _ in self.model):
                with pytest.raises(QueryError, match="42501"):
                    self.run(tenant, "update conformance_items set tenant_id = $1", victim)

        @rule(tenant=st.sampled_from(TENANTS))
        def abandon(self, tenant: str) -> None:
            async def work() -> None:
                async with database.transaction(tenant) as transaction:
                    await transaction.execute("delete from conformance_items")
                    raise LookupError

            with pytest.raises(LookupError):
                run(work())

        @rule(tenant=st.sampled_from(TENANTS))
        def wipe(self, tenant: str) -> None:
            self.run(tenant, "delete from conformance_items")
            self.model = {key: body for key, body in self.model.items() if key[0] != tenant}

        @rule(tenant=st.sampled_from(TENANTS))
        def search(self, tenant: str) -> None:
            rows = run(
                database.vector_search(
                    "conformance_items", [1, 0, 0], columns=("tenant_id",), tenant_id=tenant
                )
            )
            expected = sum(1 for owner, _ in self.model if owner == tenant)
            assert [row["tenant_id"] for row in rows] == [tenant] * expected

        @invariant()
        def everyone_sees_their_own(self) -> None:
            for tenant in TENANTS:
                rows = self.run(tenant, "select tenant_id, id, body from conformance_items")
                seen = {(row["tenant_id"], row["id"]): row["body"] for row in rows}
                assert seen == {k: body for k, body in self.model.items() if k[0] == tenant}

    try:
        run_state_machine_as_test(
            Tenants,
            settings=settings(
                max_examples=25,
                stateful_step_count=15,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        run(database.__aexit__(None, None, None))
