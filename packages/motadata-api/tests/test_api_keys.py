"""API keys: their form, and their life in a real PostgreSQL, tenant by tenant."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motadata.api.key_format import generate_key, parse_key
from motadata.api.keys import ApiKeys
from motadata.core.errors import AuthenticationError, ConfigurationError, TenantRequiredError
from motadata.core.protocols import Database
from motadata.core.tenancy import TenantId, tenant_scope


if TYPE_CHECKING:
    from motadata.core.testing._database_fixtures import DatabaseDsns

TENANT_IDS = st.from_regex(r"\A[A-Za-z0-9_-]{1,64}\Z")


@pytest.fixture(scope="module")
def migration_packages() -> tuple[str, ...]:
    return ("motadata.api.migrations",)


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class NoDatabase:
    """Fails whoever touches it."""

    def transaction(self, *_: object) -> object:
        message = "the database was asked"
        raise AssertionError(message)


class TestForm:
    @given(TENANT_IDS)
    def test_of_a_key_names_its_tenant_and_digest(self, tenant: str):
        key = generate_key(TenantId(tenant))

        parsed = parse_key(key)

        assert parsed.tenant_id == tenant
        assert parsed.digest == hashlib.sha256(key.encode()).digest()

    @given(TENANT_IDS, st.data())
    def test_with_any_one_character_changed_is_refused(self, tenant: str, data: st.DataObject):
        key = generate_key(TenantId(tenant))
        position = data.draw(st.integers(0, len(key) - 1))
        other = data.draw(st.characters().filter(lambda c: c != key[position]))

        with pytest.raises(AuthenticationError):
            parse_key(key[:position] + other + key[position + 1 :])

    @given(st.text())
    def test_that_is_any_text_is_refused(self, text: str):
        with pytest.raises(AuthenticationError):
            parse_key(text)

    def test_is_never_the_same_twice(self):
        assert len({generate_key(TenantId("acme")) for _ in range(100)}) == 100


async def test_created_key_opens_for_its_tenant(database: Database):
    keys = ApiKeys(database)

    created = await keys.create("service desk", tenant_id="acme")

    assert await keys.verify(created.key) == "acme"
    assert await ApiKeys(database).verify(created.key) == "acme"
    assert created.key not in repr(created)


async def test_key_is_nowhere_in_the_database(database: Database, database_dsns: DatabaseDsns):
    import asyncpg

    created = await ApiKeys(database).create("desk", tenant_id="acme")
    secret = created.key.rpartition(".")[2]

    connection = await asyncpg.connect(database_dsns.administrator)
    try:
        rows = await connection.fetch("select row_to_json(k)::text as row from motadata.api_key k")
    finally:
        await connection.close()

    assert any(created.info.key_id in row["row"] for row in rows)
    assert not any(secret in row["row"] for row in rows)


async def test_well_formed_key_that_was_never_made_does_not_open(database: Database):
    with pytest.raises(AuthenticationError):
        await ApiKeys(database).verify(generate_key(TenantId("acme")))


async def test_malformed_key_does_not_reach_the_database():
    keys = ApiKeys(NoDatabase())  # type: ignore[arg-type]

    for key in ("", "mtd.acme.short", "Bearer x", generate_key(TenantId("acme"))[:-1] + "!"):
        with pytest.raises(AuthenticationError):
            await keys.verify(key)


async def test_revoked_key_does_not_open_at_once_here_and_in_ten_seconds_elsewhere(
    database: Database,
):
    clock = Clock()
    here, elsewhere = ApiKeys(database, clock=clock), ApiKeys(database, clock=clock)
    created = await here.create("desk", tenant_id="acme")
    for keys in (here, elsewhere):
        await keys.verify(created.key)

    assert await here.revoke(created.info.key_id, tenant_id="acme")

    with pytest.raises(AuthenticationError):
        await here.verify(created.key)
    clock.seconds = 10.1
    with pytest.raises(AuthenticationError):
        await elsewhere.verify(created.key)


async def test_verified_key_is_not_looked_up_again_for_a_while(database: Database):
    clock = Clock()
    keys = ApiKeys(database, clock=clock)
    created = await keys.create("desk", tenant_id="acme")
    await keys.verify(created.key)
    keys._database = NoDatabase()  # type: ignore[assignment]

    clock.seconds = 9.9
    assert await keys.verify(created.key) == "acme"

    clock.seconds = 10.1
    with pytest.raises(AssertionError, match="the database was asked"):
        await keys.verify(created.key)


async def test_errors_do_not_say_what_was_wrong_with_the_key(database: Database):
    keys = ApiKeys(database)
    revoked = await keys.create("desk", tenant_id="acme")
    await keys.revoke(revoked.info.key_id, tenant_id="acme")
    messages = set()

    for key in ("nonsense", generate_key(TenantId("acme")), revoked.key):
        with pytest.raises(AuthenticationError) as caught:
            await keys.verify(key)
        messages.add(str(caught.value))

    assert len(messages) == 1


async def test_two_tenants_have_nothing_to_do_with_each_others_keys(database: Database):
    keys = ApiKeys(database)
    with tenant_scope("initech"):
        mine = await keys.create("mine")
    theirs = await keys.create("theirs", tenant_id="hooli")

    with tenant_scope("initech"):
        listed = await keys.list_keys()
        revoked = await keys.revoke(theirs.info.key_id)
    rows = await database.execute_query("select label from motadata.api_key", tenant_id="initech")

    assert [info.label for info in listed] == ["mine"]
    assert revoked is False
    assert await keys.verify(theirs.key) == "hooli"
    assert [row["label"] for row in rows] == ["mine"]
    assert mine.info.tenant_id == "initech"


async def test_key_whose_row_was_copied_to_another_tenant_does_not_open_for_it(database: Database):
    keys = ApiKeys(database)
    created = await keys.create("desk", tenant_id="umbrella")
    body = created.key.replace("mtd.umbrella.", "mtd.wayne.")

    with pytest.raises(AuthenticationError):
        await keys.verify(body)


async def test_keys_are_listed_page_by_page_with_the_revoked_ones(database: Database):
    keys = ApiKeys(database)
    made = [await keys.create(f"key {n}", tenant_id="paged") for n in range(3)]
    await keys.revoke(made[0].info.key_id, tenant_id="paged")

    first = await keys.list_keys(limit=2, tenant_id="paged")
    second = await keys.list_keys(limit=2, after=first[-1].key_id, tenant_id="paged")

    revoked = {info.label: info.revoked_at is not None for info in (*first, *second)}
    assert (len(first), len(second)) == (2, 1)
    assert revoked == {"key 0": True, "key 1": False, "key 2": False}


async def test_revoking_twice_keeps_the_first_time(database: Database):
    keys = ApiKeys(database)
    created = await keys.create("desk", tenant_id="twice")

    times = []
    for _ in range(2):
        assert await keys.revoke(created.info.key_id, tenant_id="twice")
        times.append((await keys.list_keys(tenant_id="twice"))[0].revoked_at)

    assert times[0] == times[1]
    assert await keys.revoke("no id", tenant_id="twice") is False


@pytest.mark.parametrize("label", ["", "  ", "x" * 201, "a\nb", "a\0b"])
async def test_odd_label_is_refused(database: Database, label: str):
    with pytest.raises(ConfigurationError):
        await ApiKeys(database).create(label, tenant_id="acme")


async def test_no_operation_runs_without_a_tenant(database: Database):
    keys = ApiKeys(database)

    for operation in (keys.create("desk"), keys.list_keys(), keys.revoke("x")):
        with pytest.raises(TenantRequiredError):
            await operation


async def test_many_tenants_verifying_at_once_each_get_their_own(database: Database):
    keys = ApiKeys(database)
    created = {t: (await keys.create("x", tenant_id=t)).key for t in (f"t{n}" for n in range(8))}
    fresh = ApiKeys(database)

    found = await asyncio.gather(*(fresh.verify(key) for key in [*created.values()] * 20))

    assert found == [*created] * 20
