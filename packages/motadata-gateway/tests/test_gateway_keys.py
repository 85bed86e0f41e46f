"""Keys that tenants bring: on a real PostgreSQL, and in the headers that reach a real server."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing

import pytest
from pydantic import SecretBytes, SecretStr


pytest.importorskip("cryptography")

from motadata.core.database import PostgresDatabase
from motadata.core.errors import (
    ConfigurationError,
    DatabaseError,
    InvalidIdentifierError,
    SecretError,
    SecretUnreadableError,
    TenantRequiredError,
)
from motadata.core.errors import ConnectionError as DatabaseConnectionError
from motadata.core.observability import configure_observability
from motadata.core.observability._logging import output
from motadata.core.platform import create_platform
from motadata.core.security import LocalKeyManagement, SecretStore
from motadata.core.tenancy import TenantId, tenant_scope
from motadata.core.testing.manual_clock import ManualClock
from motadata.core.testing.openai_server import OpenAIServer
from motadata.core.testing.plugin import DatabaseDsns
from motadata.gateway import LLMGateway, TenantKeys, create_gateway
from motadata.gateway.component import COMPONENT


ACME, GLOBEX = TenantId("acme"), TenantId("globex")
MASTER_KEY = {"1": SecretBytes(os.urandom(32))}


class Watched(SecretStore):
    """The real store; it counts its reads, and is away or slow when told."""

    def __init__(self, database: PostgresDatabase) -> None:
        super().__init__(database, LocalKeyManagement(MASTER_KEY))
        self.reads = 0
        self.away = False
        self.reading = asyncio.Event()
        self.hold: asyncio.Event | None = None

    async def get(self, name: str, *, tenant_id: str | None = None) -> SecretStr:
        self.reads += 1
        self.reading.set()
        if self.away:
            await asyncio.sleep(0)  # as one that waits for its connection does
            raise DatabaseConnectionError("The database is away.")
        found = await super().get(name, tenant_id=tenant_id)
        if self.hold is not None:
            await self.hold.wait()
        return found


@pytest.fixture(autouse=True)
async def _empty(database: PostgresDatabase) -> None:
    for tenant in (ACME, GLOBEX):
        await database.execute_query("delete from motadata.secret", tenant_id=tenant)


@pytest.fixture
def store(database: PostgresDatabase) -> Watched:
    return Watched(database)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def keys(store: Watched, clock: ManualClock) -> TenantKeys:
    return TenantKeys(store, clock=clock)


@pytest.fixture
async def gateway(keys: TenantKeys, openai_server: OpenAIServer) -> AsyncIterator[LLMGateway]:
    async with create_gateway(
        ["openai"],
        "openai/gpt-4o-mini",
        {"openai": "sk-platform"},
        default_embedding_model="openai/text-embedding-3-small",
        base_urls={"openai": openai_server.url},
        tenant_keys=keys,
    ) as opened:
        yield opened


@pytest.fixture
def lines() -> Iterator[list[Mapping[str, object]]]:
    taken: list[Mapping[str, object]] = []
    configure_observability(sink=taken.append)
    yield taken
    output.configure()


def sent_keys(server: OpenAIServer) -> list[str]:
    return [request.headers["authorization"].removeprefix("Bearer ") for request in server.requests]


async def test_call_carries_own_key_of_its_tenant(
    gateway: LLMGateway, keys: TenantKeys, openai_server: OpenAIServer
) -> None:
    await keys.put("openai", SecretStr("sk-acme-1"), tenant_id=ACME)

    await gateway.generate_async("Hello", tenant_id=ACME)
    await gateway.generate_async("Hello", tenant_id=GLOBEX)

    assert sent_keys(openai_server) == ["sk-acme-1", "sk-platform"]


async def test_next_call_after_rotation_carries_new_key(
    gateway: LLMGateway, keys: TenantKeys, openai_server: OpenAIServer
) -> None:
    for key in ("sk-acme-1", "sk-acme-2"):
        await keys.put("openai", SecretStr(key), tenant_id=ACME)
        await gateway.generate_async("Hello", tenant_id=ACME)
    await keys.delete("openai", tenant_id=ACME)
    await gateway.generate_async("Hello", tenant_id=ACME)

    assert sent_keys(openai_server) == ["sk-acme-1", "sk-acme-2", "sk-platform"]


async def test_stream_and_embedding_carry_own_key(
    gateway: LLMGateway, keys: TenantKeys, openai_server: OpenAIServer
) -> None:
    await keys.put("openai", SecretStr("sk-acme-1"), tenant_id=ACME)

    async with aclosing(gateway.stream("Hello", tenant_id=ACME)) as chunks:  # type: ignore[type-var]  # an async generator
        async for _ in chunks:
            pass
    await gateway.embed(["Hello"], tenant_id=ACME)

    assert sent_keys(openai_server) == ["sk-acme-1", "sk-acme-1"]


async def test_key_of_one_tenant_is_never_sent_for_another(
    gateway: LLMGateway, keys: TenantKeys, openai_server: OpenAIServer
) -> None:
    tenants = ("acme", "Acme", "acme-1", "globex")
    for tenant in tenants[:3]:
        await keys.put("openai", SecretStr(f"sk-{tenant}"), tenant_id=tenant)

    async def call(number: int) -> None:
        tenant = tenants[number % 4]
        text = f"{tenant} says {number // 8}"  # each question is asked twice at a time
        if number % 7 == 0:
            await keys.put("openai", SecretStr(f"sk-{tenants[0]}"), tenant_id=tenants[0])
        if number % 3 == 0:
            await gateway.embed([text], tenant_id=tenant)
        else:
            await gateway.generate_async(text, tenant_id=tenant)

    async with asyncio.TaskGroup() as group:
        for number in range(400):
            group.create_task(call(number))

    requests = openai_server.requests
    assert len(requests) >= 50
    for request in requests:
        texts = (
            [str(text) for text in request.body["input"]]  # type: ignore[attr-defined]  # JSON
            if "input" in request.body
            else [str(request.body["messages"][0]["content"])]  # type: ignore[index]  # JSON
        )
        owners = {text.partition(" ")[0] for text in texts}
        key = request.headers["authorization"].removeprefix("Bearer sk-")
        assert owners == {"globex" if key == "platform" else key}


@pytest.mark.parametrize("name", ["OpenAI", "open-ai", "anthropic"])
async def test_key_for_a_provider_that_the_gateway_does_not_have_is_refused(
    gateway: LLMGateway, keys: TenantKeys, name: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"{name!r}.*gateway does: openai"):
        await keys.put(name, SecretStr("sk-acme-1"), tenant_id=ACME)

    assert await keys.list(tenant_id=ACME) == ()


async def test_key_may_be_for_a_provider_of_any_gateway_that_has_the_keys(
    gateway: LLMGateway, keys: TenantKeys
) -> None:
    async with create_gateway(["anthropic"], tenant_keys=keys):
        for name in ("openai", "anthropic"):
            await keys.put(name, SecretStr("sk-acme-1"), tenant_id=ACME)

    assert [key.provider for key in await keys.list(tenant_id=ACME)] == ["anthropic", "openai"]


async def test_process_without_a_gateway_says_which_providers_there_are(store: Watched) -> None:
    anything, known = TenantKeys(store), TenantKeys(store, providers=["openai"])

    await anything.put("OpenAI", SecretStr("sk-acme-1"), tenant_id=ACME)
    with pytest.raises(ConfigurationError, match="openai"):
        await known.put("OpenAI", SecretStr("sk-acme-1"), tenant_id=ACME)
    # What was stored before anybody knew better can be taken away.
    assert await known.delete("OpenAI", tenant_id=ACME)


@pytest.mark.parametrize("option", ["providers", "required"])
def test_names_that_are_one_string_are_refused(store: Watched, option: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"{option}='openai'.*\['openai'\]"):
        TenantKeys(store, **{option: "openai"})  # type: ignore[arg-type]  # the mistake


def test_required_key_for_a_provider_that_is_not_there_is_told_when_the_gateway_is_made(
    store: Watched, lines: list[Mapping[str, object]]
) -> None:
    create_gateway(["openai"], tenant_keys=TenantKeys(store, required=["OpenAI"]))

    (line,) = lines
    assert (line["event"], line["providers"]) == ("tenant_keys_required_for_nothing", ["OpenAI"])


async def test_first_calls_together_read_the_store_once(keys: TenantKeys, store: Watched) -> None:
    await keys.put("openai", SecretStr("sk-acme-1"), tenant_id=ACME)

    found = await asyncio.gather(*(keys.api_key("openai", ACME) for _ in range(200)))

    assert set(found) == {SecretStr("sk-acme-1")}
    assert store.reads == 1


async def test_cancelled_reader_leaves_the_others_their_key(
    keys: TenantKeys, store: Watched
) -> None:
    await keys.put("openai", SecretStr("sk-acme-1"), tenant_id=ACME)
    store.hold = asyncio.Event()
    first, second = (asyncio.create_task(keys.api_key("openai", ACME)) for _ in range(2))
    await store.reading.wait()

    first.cancel()
    store.hold.set()

    assert await second == SecretStr("sk-acme-1")
    assert first.cancelled()


async def test_absence_of_a_key_is_remembered(keys: TenantKeys, store: Watched) -> None:
    for _ in range(3):
        assert await keys.api_key("openai", ACME) is None
    assert store.reads == 1


async def test_reading_that_a_rotation_overtakes_is_not_remembered(
    keys: TenantKeys, store: Watched
) -> None:
    await keys.put("openai", SecretStr("sk-acme-1"), tenant_id=ACME)
    store.hold = asyncio.Event()
    reading = asyncio.create_task(keys.api_key("openai", ACME))
    await store.reading.wait()
    rotation = asyncio.create_task(keys.put("openai", SecretStr("sk-acme-2"), tenant_id=ACME))
    await asyncio.sleep(0)
    store.hold.set()
    await asyncio.gather(reading, rotation)

    assert await keys.api_key("openai", ACME) == SecretStr("sk-acme-2")


async def test_other_instance_uses_new_key_within_ttl(
    keys: TenantKeys, database: PostgresDatabase, clock: ManualClock
) -> None:
    other = TenantKeys(Watched(database))
    await keys.put("openai", SecretStr("sk-acme-1"), tenant_id=ACME)
    assert await keys.api_key("openai", ACME) == SecretStr("sk-acme-1")
    await other.put("openai", SecretStr("sk-acme-2"), tenant_id=ACME)

    await clock.advance(29.9)
    assert await keys.api_key("openai", ACME) == SecretStr("sk-acme-1")
    await clock.advance(0.2)
    assert await keys.api_key("openai", ACME) == SecretStr("sk-acme-2")


async def test_forgetting_reads_keys_again_of_that_tenant_only(
    keys: TenantKeys, store: Watched
) -> None:
    for tenant in (ACME, GLOBEX):
        await keys.put("openai", SecretStr(f"sk-{tenant}"), tenant_id=tenant)
        await keys.api_key("openai", tenant)

    keys.forget(tenant_id=ACME)
    for tenant in (ACME, GLOBEX):
        await keys.api_key("openai", tenant)

    assert store.reads == 3


async def test_key_outlives_a_short_outage_and_no_longer_one(
    keys: TenantKeys, store: Watched, clock: ManualClock
) -> None:
    await keys.put("openai", SecretStr("sk-acme-1"), tenant_id=ACME)
    await keys.api_key("openai", ACME)
    store.away = True

    await clock.advance(60)
    assert await keys.api_key("openai", ACME) == SecretStr("sk-acme-1")
    reads = store.reads
    assert await keys.api_key("openai", ACME) == SecretStr("sk-acme-1")
    assert store.reads == reads

    await clock.advance(300)
    with pytest.raises(DatabaseError):
        await keys.api_key("openai", ACME)
    store.away = False
    assert await keys.api_key("openai", ACME) == SecretStr("sk-acme-1")


async def test_failure_is_shared_by_those_who_wait(keys: TenantKeys, store: Watched) -> None:
    store.away = True

    found = await asyncio.gather(
        *(keys.api_key("openai", ACME) for _ in range(50)), return_exceptions=True
    )

    assert {type(error) for error in found} == {DatabaseConnectionError}
    assert store.reads == 1


async def test_outage_never_falls_back_on_the_platforms_key(
    gateway: LLMGateway, store: Watched, openai_server: OpenAIServer
) -> None:
    store.away = True

    with pytest.raises(DatabaseError):
        await gateway.generate_async("Hello", tenant_id=ACME)

    assert openai_server.requests == ()


async def test_key_whose_master_key_is_gone_is_an_error(
    keys: TenantKeys, database: PostgresDatabase
) -> None:
    await keys.put("openai", SecretStr("sk-acme-1"), tenant_id=ACME)
    lost = LocalKeyManagement({"2": SecretBytes(os.urandom(32))})

    with pytest.raises(SecretUnreadableError):
        await TenantKeys(SecretStore(database, lost)).api_key("openai", ACME)


async def test_provider_that_requires_own_keys_refuses_a_tenant_without(store: Watched) -> None:
    keys = TenantKeys(store, required=["openai"])

    with pytest.raises(ConfigurationError, match="no key of its own for the provider 'openai'"):
        await keys.api_key("openai", ACME)
    assert await keys.api_key("anthropic", ACME) is None


async def test_listing_shows_providers_and_never_keys(keys: TenantKeys, store: Watched) -> None:
    await store.put("smtp", SecretStr("hunter2"), tenant_id=ACME)
    for provider in ("openai", "anthropic"):
        await keys.put(provider, SecretStr("sk-acme-1"), tenant_id=ACME)

    with tenant_scope(ACME):
        listed = await keys.list()

    assert [info.provider for info in listed] == ["anthropic", "openai"]
    assert "sk-acme" not in repr(listed)
    assert await keys.list(tenant_id=GLOBEX) == ()


async def test_keys_stay_within_their_bound(store: Watched) -> None:
    keys = TenantKeys(store, most_remembered=2)
    for tenant in ("a", "b", "c", "a"):
        await keys.api_key("openai", TenantId(tenant))
    assert store.reads == 4
    assert len(keys._remembered) == 2
    assert len(keys._readings) == 0


async def test_repeated_use_keeps_a_key_remembered(store: Watched) -> None:
    keys = TenantKeys(store, most_remembered=2)
    for tenant in ("a", "b", "a", "c", "a"):
        await keys.api_key("openai", TenantId(tenant))
    assert store.reads == 3


async def test_deleting_says_whether_there_was_a_key(keys: TenantKeys) -> None:
    await keys.put("openai", SecretStr("sk-acme-1"), tenant_id=ACME)

    assert not await keys.delete("openai", tenant_id=GLOBEX)
    assert await keys.delete("openai", tenant_id=ACME)
    assert not await keys.delete("openai", tenant_id=ACME)


@pytest.mark.parametrize("key", ["", " ", "sk-1\r\nX-Evil: 1", "sk-ü", "x" * 8193])
async def test_key_that_no_header_carries_is_refused(keys: TenantKeys, key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        await keys.put("openai", SecretStr(key), tenant_id=ACME)
    assert "Evil" not in str(caught.value)
    assert await keys.list(tenant_id=ACME) == ()


async def test_bad_arguments_are_typed_errors(keys: TenantKeys, store: Watched) -> None:
    with pytest.raises(TenantRequiredError):
        await keys.put("openai", SecretStr("sk-1"))
    with pytest.raises(InvalidIdentifierError):
        await keys.put("open:ai", SecretStr("sk-1"), tenant_id=ACME)
    with pytest.raises(SecretError):
        await keys.put("openai", "sk-1", tenant_id=ACME)  # type: ignore[arg-type]  # as callers do
    assert await keys.api_key("open:ai", ACME) is None
    for ttl, stale_for, most in ((0, 1, 1), (2, 1, 1), (1, float("inf"), 1), (1, 1, 0)):
        with pytest.raises(ConfigurationError):
            TenantKeys(store, ttl=ttl, stale_for=stale_for, most_remembered=most)


async def test_platform_with_a_master_key_sends_tenants_own_keys(
    database_dsns: DatabaseDsns, database: PostgresDatabase, openai_server: OpenAIServer
) -> None:
    master = base64.b64encode(MASTER_KEY["1"].get_secret_value()).decode()
    environment = {
        "MOTADATA_DATABASE_URL": database_dsns.runtime,
        "MOTADATA_SECURITY_MASTER_KEYS": json.dumps({"1": master}),
        "MOTADATA_GATEWAY_DEFAULT_MODEL": "openai/gpt-4o-mini",
        "MOTADATA_GATEWAY_API_KEYS": json.dumps({"openai": "sk-platform"}),
        "MOTADATA_GATEWAY_BASE_URLS": json.dumps({"openai": openai_server.url}),
    }
    await TenantKeys(Watched(database)).put("openai", SecretStr("sk-acme-1"), tenant_id=ACME)

    async with create_platform(environment, components=[COMPONENT]) as platform:
        for tenant in (ACME, GLOBEX):
            await platform.gateway.generate_async("Hello", tenant_id=tenant)

    assert sent_keys(openai_server) == ["sk-acme-1", "sk-platform"]
