from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress

import asyncpg
import pytest
from pydantic import SecretBytes, SecretStr


pytest.importorskip("cryptography")

from motadata.core.database import PostgresDatabase
from motadata.core.errors import (
    ConfigurationError,
    InvalidIdentifierError,
    KeyManagementError,
    QueryError,
    SecretError,
    SecretNotFoundError,
    SecretUnreadableError,
    TenantRequiredError,
)
from motadata.core.observability import configure_observability
from motadata.core.observability._logging import output
from motadata.core.security import (
    LocalKeyManagement,
    SecretStore,
    WrappedKey,
    create_secret_store,
)
from motadata.core.tenancy import tenant_scope
from motadata.core.testing.plugin import DatabaseDsns


MASTER_KEYS = {version: SecretBytes(os.urandom(32)) for version in ("1", "2")}
VALUE = SecretStr("sk-live-hunter2-ünïcode")


def management(*versions: str) -> LocalKeyManagement:
    return LocalKeyManagement({version: MASTER_KEYS[version] for version in versions})


@pytest.fixture(autouse=True)
async def _empty(database: PostgresDatabase) -> None:
    for tenant in ("acme", "globex"):
        await database.execute_query("delete from motadata.secret", tenant_id=tenant)


@pytest.fixture(autouse=True)
def _default_output() -> Iterator[None]:
    yield
    output.configure()


@pytest.fixture
def store(database: PostgresDatabase) -> SecretStore:
    return SecretStore(database, management("1"))


@pytest.fixture
def rotated(database: PostgresDatabase) -> SecretStore:
    """The same store after the second master key was added."""
    return SecretStore(database, management("1", "2"))


@pytest.fixture
async def administrator(database_dsns: DatabaseDsns) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_dsns.administrator)
    yield connection
    await connection.close()


async def test_secret_comes_back_and_is_not_shown(store: SecretStore) -> None:
    await store.put("openai", VALUE, tenant_id="acme")

    got = await store.get("openai", tenant_id="acme")
    assert got == VALUE
    assert "hunter2" not in repr(got)


async def test_tenant_of_the_scope_is_used_and_none_is_an_error(store: SecretStore) -> None:
    with tenant_scope("acme"):
        await store.put("openai", VALUE)
        assert await store.get("openai") == VALUE
    for operation in (store.put("openai", VALUE), store.get("openai"), store.list()):
        with pytest.raises(TenantRequiredError):
            await operation
    for later in (store.delete("openai"), store.rotate(), store.key_versions()):
        with pytest.raises(TenantRequiredError):
            await later


async def test_tenants_do_not_see_each_other_s_secrets(store: SecretStore) -> None:
    await store.put("openai", VALUE, tenant_id="acme")

    with pytest.raises(SecretNotFoundError, match="'openai'"):
        await store.get("openai", tenant_id="globex")
    assert await store.list(tenant_id="globex") == ()
    assert await store.delete("openai", tenant_id="globex") is False
    assert await store.key_versions(tenant_id="globex") == {}
    assert await store.get("openai", tenant_id="acme") == VALUE


async def test_own_sql_does_not_reach_another_tenant_s_row(
    store: SecretStore, database: PostgresDatabase
) -> None:
    await store.put("openai", VALUE, tenant_id="acme")

    assert await database.execute_query("select * from motadata.secret", tenant_id="globex") == []
    with pytest.raises(QueryError):
        await database.execute_query(
            "insert into motadata.secret select 'acme', 'x', gen_random_uuid(), '1', 'k',"
            " repeat('x', 40)::bytea",
            tenant_id="globex",
        )


async def test_nothing_readable_is_at_rest(
    store: SecretStore, administrator: asyncpg.Connection
) -> None:
    await store.put("openai", VALUE, tenant_id="acme")

    row = await administrator.fetchrow("select * from motadata.secret")
    stored = b"".join(value if isinstance(value, bytes) else str(value).encode() for value in row)
    assert b"hunter2" not in stored


@pytest.mark.parametrize(
    "move",
    [
        "update motadata.secret set tenant_id = 'globex'",
        "update motadata.secret set name = 'other'",
        "update motadata.secret set revision = gen_random_uuid()",
        "update motadata.secret set ciphertext = ciphertext || '\\x00'",
        "update motadata.secret set key_version = '2'",
    ],
)
async def test_row_that_was_moved_or_changed_does_not_decrypt(
    rotated: SecretStore, store: SecretStore, administrator: asyncpg.Connection, move: str
) -> None:
    await store.put("openai", VALUE, tenant_id="acme")
    await administrator.execute(move)
    row = await administrator.fetchrow("select tenant_id, name from motadata.secret")

    with pytest.raises(SecretUnreadableError) as caught:
        await rotated.get(row["name"], tenant_id=row["tenant_id"])
    assert caught.value.tenant_id == row["tenant_id"]
    assert "hunter2" not in str(caught.value)


async def test_ciphertext_of_one_tenant_is_useless_in_another_s_row(
    store: SecretStore, administrator: asyncpg.Connection
) -> None:
    await store.put("openai", VALUE, tenant_id="acme")
    await store.put("openai", SecretStr("of globex"), tenant_id="globex")
    await administrator.execute(
        "update motadata.secret t set ciphertext = s.ciphertext, wrapped_key = s.wrapped_key,"
        " revision = s.revision from motadata.secret s"
        " where t.tenant_id = 'globex' and s.tenant_id = 'acme'"
    )

    with pytest.raises(SecretUnreadableError):
        await store.get("openai", tenant_id="globex")


async def test_put_replaces_and_list_shows_names_in_order(store: SecretStore) -> None:
    for name in ("b", "a", "c"):
        await store.put(name, VALUE, tenant_id="acme")
    await store.put("a", SecretStr("newer"), tenant_id="acme")

    first = await store.list(limit=2, tenant_id="acme")
    rest = await store.list(limit=2, after=first[-1].name, tenant_id="acme")
    assert [info.name for info in (*first, *rest)] == ["a", "b", "c"]
    assert first[0].updated_at > first[0].created_at
    assert await store.get("a", tenant_id="acme") == SecretStr("newer")


async def test_deleted_secret_is_gone(store: SecretStore) -> None:
    await store.put("openai", VALUE, tenant_id="acme")

    assert await store.delete("openai", tenant_id="acme") is True
    assert await store.delete("openai", tenant_id="acme") is False
    with pytest.raises(SecretNotFoundError):
        await store.get("openai", tenant_id="acme")


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("sk-plain-hunter2", "is a str"),
        (None, "is a NoneType"),
        (SecretStr(""), "has 0 bytes"),
        (SecretStr("x" * 65_537), "has 65537 bytes"),
        (SecretStr("hunter2\ud800"), "surrogate"),
    ],
)
async def test_value_that_is_no_secret_is_refused_unquoted(
    store: SecretStore, value: SecretStr, complaint: str
) -> None:
    with pytest.raises(SecretError, match=complaint) as caught:
        await store.put("openai", value, tenant_id="acme")

    assert "hunter2" not in str(caught.value)
    assert await store.list(tenant_id="acme") == ()


async def test_largest_value_fits(store: SecretStore) -> None:
    await store.put("big", SecretStr("x" * 65_536), tenant_id="acme")

    assert len(await store.get("big", tenant_id="acme")) == 65_536


async def test_bad_name_and_bad_numbers_are_typed_errors(store: SecretStore) -> None:
    with pytest.raises(InvalidIdentifierError):
        await store.put("a/b", VALUE, tenant_id="acme")
    with pytest.raises(SecretError, match="limit 0"):
        await store.list(limit=0, tenant_id="acme")
    with pytest.raises(SecretError, match="batch size 1001"):
        await store.rotate(batch_size=1001, tenant_id="acme")


async def test_rotation_wraps_anew_and_lets_the_old_key_go(
    store: SecretStore, rotated: SecretStore, database: PostgresDatabase
) -> None:
    for number in range(7):
        await store.put(f"s{number}", SecretStr(f"value {number}"), tenant_id="acme")
    await store.put("other", VALUE, tenant_id="globex")

    result = await rotated.rotate(batch_size=3, tenant_id="acme")
    again = await rotated.rotate(batch_size=3, tenant_id="acme")

    assert (result.key_version, result.rewrapped, result.unreadable) == ("2", 7, ())
    assert again.rewrapped == 0
    assert await rotated.key_versions(tenant_id="acme") == {"2": 7}
    assert await rotated.key_versions(tenant_id="globex") == {"1": 1}
    without_old = SecretStore(database, management("2"))
    assert (await without_old.get("s6", tenant_id="acme")).get_secret_value() == "value 6"


async def test_values_stay_readable_before_during_and_after_a_broken_rotation(
    store: SecretStore, database: PostgresDatabase
) -> None:
    for number in range(6):
        await store.put(f"s{number}", SecretStr(f"value {number}"), tenant_id="acme")
    failing = Failing(management("1", "2"), after=3)
    rotating = SecretStore(database, failing)

    with pytest.raises(KeyManagementError, match="ZeroDivisionError"):
        await rotating.rotate(tenant_id="acme")

    both = SecretStore(database, management("1", "2"))
    assert await both.key_versions(tenant_id="acme") == {"1": 3, "2": 3}
    values = [await both.get(f"s{number}", tenant_id="acme") for number in range(6)]
    assert [value.get_secret_value() for value in values] == [f"value {n}" for n in range(6)]
    assert (await both.rotate(tenant_id="acme")).rewrapped == 3


async def test_rotation_reports_what_it_cannot_read_and_does_the_rest(
    store: SecretStore,
    rotated: SecretStore,
    administrator: asyncpg.Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    lines: list[Mapping[str, object]] = []
    configure_observability(sink=lines.append)
    for name in ("a", "b", "c"):
        await store.put(name, VALUE, tenant_id="acme")
    await administrator.execute(
        "update motadata.secret set wrapped_key = wrapped_key || '\\x00' where name = 'b'"
    )

    with caplog.at_level(logging.DEBUG):
        result = await rotated.rotate(tenant_id="acme")

    assert (result.rewrapped, result.unreadable) == (2, ("b",))
    assert [line["secret_name"] for line in lines] == ["b"]
    assert "hunter2" not in f"{lines}{caplog.text}"


async def test_value_that_is_put_during_a_rotation_wins(
    store: SecretStore, database: PostgresDatabase
) -> None:
    await store.put("a", SecretStr("old"), tenant_id="acme")
    gate = Gate(management("1", "2"))
    rotation = asyncio.create_task(SecretStore(database, gate).rotate(tenant_id="acme"))
    await asyncio.wait_for(gate.reached.wait(), 10)

    await store.put("a", SecretStr("new"), tenant_id="acme")
    gate.opened.set()
    result = await asyncio.wait_for(rotation, 10)

    assert result.rewrapped == 0
    assert await store.get("a", tenant_id="acme") == SecretStr("new")


async def test_two_rotations_at_once_do_each_secret_once(
    store: SecretStore, rotated: SecretStore
) -> None:
    for number in range(10):
        await store.put(f"s{number}", VALUE, tenant_id="acme")

    results = await asyncio.gather(*(rotated.rotate(tenant_id="acme") for _ in range(2)))

    assert sum(result.rewrapped for result in results) == 10
    assert await rotated.get("s9", tenant_id="acme") == VALUE


async def test_readers_never_miss_during_a_rotation(
    store: SecretStore, rotated: SecretStore
) -> None:
    for number in range(40):
        await store.put(f"s{number}", SecretStr(f"value {number}"), tenant_id="acme")
    rotation = asyncio.create_task(rotated.rotate(batch_size=7, tenant_id="acme"))
    reads = 0

    while not rotation.done():
        number = reads * 7 % 40
        value = await rotated.get(f"s{number}", tenant_id="acme")
        assert value.get_secret_value() == f"value {number}"
        reads += 1

    assert (await rotation).rewrapped == 40
    assert reads > 5


async def test_cancelled_writers_leave_the_old_or_the_new_value_whole(store: SecretStore) -> None:
    await store.put("a", SecretStr("0"), tenant_id="acme")

    for number in range(1, 60):
        writer = asyncio.create_task(store.put("a", SecretStr(str(number)), tenant_id="acme"))
        before = (await store.get("a", tenant_id="acme")).get_secret_value()
        for _ in range(number % 12):
            await asyncio.sleep(0)
        writer.cancel()
        with suppress(asyncio.CancelledError):
            await writer
        after = (await store.get("a", tenant_id="acme")).get_secret_value()

        assert after in {before, str(number)}


async def test_key_management_that_does_not_answer_is_left_after_the_timeout(
    database: PostgresDatabase,
) -> None:
    store = SecretStore(database, Gate(management("1")), timeout=0.05)

    with pytest.raises(KeyManagementError, match=r"within 0\.05 s") as caught:
        await store.put("a", VALUE, tenant_id="acme")
    assert (caught.value.retryable, caught.value.tenant_id) == (True, "acme")
    assert await store.list(tenant_id="acme") == ()


async def test_factory_reads_keys_from_the_environment(database: PostgresDatabase) -> None:
    with pytest.raises(ConfigurationError, match="no master key"):
        create_secret_store(database, environment={})
    with pytest.raises(ConfigurationError, match="timeout 0"):
        create_secret_store(database, timeout=0)


class Failing:
    """A key management whose driver breaks after some answers."""

    def __init__(self, inner: LocalKeyManagement, *, after: int) -> None:
        self._inner = inner
        self._left = after

    async def current_version(self) -> str:
        return await self._inner.current_version()

    async def wrap(self, data_key: bytes, *, context: Mapping[str, str]) -> WrappedKey:
        self._left -= 1
        if self._left < 0:
            raise ZeroDivisionError
        return await self._inner.wrap(data_key, context=context)

    async def unwrap(self, wrapped: WrappedKey, *, context: Mapping[str, str]) -> bytes:
        return await self._inner.unwrap(wrapped, context=context)


class Gate(Failing):
    """A key management that wraps only once it is let through."""

    def __init__(self, inner: LocalKeyManagement) -> None:
        super().__init__(inner, after=1_000)
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def wrap(self, data_key: bytes, *, context: Mapping[str, str]) -> WrappedKey:
        self.reached.set()
        await self.opened.wait()
        return await super().wrap(data_key, context=context)
