"""The isolation property finds the known mistakes of caches, each planted in a small adapter."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest

from motadata.core.cache import create_memory_cache
from motadata.core.embedded import EmbeddedRedis
from motadata.core.models import Health
from motadata.core.protocols import Cache
from motadata.core.tenancy import resolve_tenant
from motadata.core.testing.isolation import CacheSite, Leak, World, check_isolation


# Each mistake is found within a minute; on a quiet machine it takes less than a second.
pytestmark = pytest.mark.timeout(60)


class CarelessCache:
    """A cache over one dict of text keys that makes no mistake; each subclass makes one."""

    def __init__(self) -> None:
        self.values: dict[str, object] = {}
        self.tags: dict[str, set[str]] = {}
        self.flights: dict[str, asyncio.Task[object]] = {}

    def tenant(self, tenant_id: str | None) -> str:
        return resolve_tenant(tenant_id)

    def name(self, tenant: str, namespace: str, key: str) -> str:
        return f"{tenant}:{namespace}:{key}"

    def flight(self, name: str) -> str:
        return name

    def is_meant(self, name: str, tenant: str, namespace: str, pattern: str) -> bool:
        head = self.name(tenant, namespace, "")
        glob = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
        return name.startswith(head) and re.fullmatch(glob, name[len(head) :]) is not None

    def tag_name(self, tenant: str, tag: str) -> str:
        return f"{tenant}:{tag}"

    async def get(
        self, key: str, *, namespace: str = "default", tenant_id: str | None = None
    ) -> object | None:
        await asyncio.sleep(0)
        return self.values.get(self.name(self.tenant(tenant_id), namespace, key))

    async def set(
        self,
        key: str,
        value: object,
        *,
        ttl: float | None = None,
        tags: Sequence[str] = (),
        namespace: str = "default",
        tenant_id: str | None = None,
    ) -> None:
        tenant = self.tenant(tenant_id)
        name = self.name(tenant, namespace, key)
        self.values[name] = value
        self.tags[name] = {self.tag_name(tenant, tag) for tag in tags}

    async def delete(
        self, key: str, *, namespace: str = "default", tenant_id: str | None = None
    ) -> bool:
        name = self.name(self.tenant(tenant_id), namespace, key)
        return self.values.pop(name, None) is not None

    async def get_many(
        self, keys: Sequence[str], *, namespace: str = "default", tenant_id: str | None = None
    ) -> Mapping[str, object]:
        found = {key: await self.get(key, namespace=namespace, tenant_id=tenant_id) for key in keys}
        return {key: value for key, value in found.items() if value is not None}

    async def set_many(
        self,
        values: Mapping[str, object],
        *,
        ttl: float | None = None,
        tags: Sequence[str] = (),
        namespace: str = "default",
        tenant_id: str | None = None,
    ) -> None:
        for key, value in values.items():
            await self.set(key, value, namespace=namespace, tenant_id=tenant_id)

    async def get_or_compute(
        self,
        key: str,
        compute: Callable[[], Awaitable[object]],
        *,
        ttl: float | None = None,
        tags: Sequence[str] = (),
        namespace: str = "default",
        tenant_id: str | None = None,
    ) -> object:
        tenant = self.tenant(tenant_id)
        name = self.name(tenant, namespace, key)
        if (found := self.values.get(name)) is not None:
            return found

        async def run() -> object:
            await asyncio.sleep(0)
            return await compute()

        flight = self.flight(name)
        if flight not in self.flights:
            self.flights[flight] = asyncio.create_task(run())
            self.flights[flight].add_done_callback(lambda _: self.flights.pop(flight))
        value = await asyncio.shield(self.flights[flight])
        await self.set(key, value, tags=tags, namespace=namespace, tenant_id=tenant)
        return value

    async def invalidate_pattern(
        self, pattern: str, *, namespace: str = "default", tenant_id: str | None = None
    ) -> int:
        tenant = self.tenant(tenant_id)
        gone = [name for name in self.values if self.is_meant(name, tenant, namespace, pattern)]
        for name in gone:
            del self.values[name]
        return len(gone)

    async def invalidate_tag(self, tag: str, *, tenant_id: str | None = None) -> None:
        tagged = self.tag_name(self.tenant(tenant_id), tag)
        for name in [name for name in self.values if tagged in self.tags[name]]:
            del self.values[name]

    async def invalidate_tenant(self, *, tenant_id: str | None = None) -> None:
        head = f"{self.tenant(tenant_id)}:"
        for name in [name for name in self.values if name.startswith(head)]:
            del self.values[name]

    async def health(self) -> Health:
        return Health("ok")


class KeyOfRawStrings(CarelessCache):
    """`a` and `b-k` make the key of `a-b` and `k`."""

    def __init__(self) -> None:
        super().__init__()
        self.mixed: dict[str, str] = {}

    def name(self, tenant: str, namespace: str, key: str) -> str:
        right = super().name(tenant, namespace, key)
        return self.mixed.setdefault(f"{tenant}-{key}:{namespace}", right)


class AnyTextIsATenant(CarelessCache):
    """The tenant `a:b` reads what the tenant `a` keeps in the namespace `b`."""

    def tenant(self, tenant_id: str | None) -> str:
        return resolve_tenant(None) if tenant_id is None else tenant_id


class CaseDoesNotMatter(CarelessCache):
    """`A` and `a` are one tenant to a server that folds case."""

    def name(self, tenant: str, namespace: str, key: str) -> str:
        return f"{tenant.lower()}:{namespace}:{key}"


class PatternCrossesTenants(CarelessCache):
    """The tenant's id stands in the glob without its separator: `a` takes what is `ab`'s."""

    def is_meant(self, name: str, tenant: str, namespace: str, pattern: str) -> bool:
        owner, _, rest = name.partition(":")
        own = super().is_meant(f"{tenant}:{rest}", tenant, namespace, pattern)
        return own and owner.startswith(tenant)


class TenantForgottenByPrefix(CarelessCache):
    """Forgetting `a` forgets `ab` as well."""

    async def invalidate_tenant(self, *, tenant_id: str | None = None) -> None:
        for name in [name for name in self.values if name.startswith(self.tenant(tenant_id))]:
            del self.values[name]


class OneFlightForAllTenants(CarelessCache):
    """Callers of one key share a computation, whoever they are."""

    def flight(self, name: str) -> str:
        return name.partition(":")[2]


class TagsOfEveryone(CarelessCache):
    """A tag is not the tenant's."""

    def tag_name(self, tenant: str, tag: str) -> str:
        return tag


class NearCopiesOfEveryone(CarelessCache):
    """The copy in memory of what was read last is found by namespace and key alone."""

    copy: tuple[tuple[str, str], object] | None = None

    async def get(
        self, key: str, *, namespace: str = "default", tenant_id: str | None = None
    ) -> object | None:
        copy, self.copy = self.copy, None
        if copy is not None and copy[0] == (namespace, key):
            return copy[1]
        found = await super().get(key, namespace=namespace, tenant_id=tenant_id)
        self.copy = ((namespace, key), found)
        return found


PLANTED = [
    KeyOfRawStrings,
    AnyTextIsATenant,
    CaseDoesNotMatter,
    PatternCrossesTenants,
    TenantForgottenByPrefix,
    OneFlightForAllTenants,
    TagsOfEveryone,
    NearCopiesOfEveryone,
]


def world_of(cache: Cache) -> Callable[[], AsyncIterator[World]]:
    @asynccontextmanager
    async def open_world() -> AsyncIterator[World]:
        async with World([CacheSite(cache)]) as world:
            yield world

    return open_world


@pytest.mark.parametrize("make", [CarelessCache, create_memory_cache])
def test_a_cache_without_mistakes_passes(make: Callable[[], Cache]):
    check_isolation(world_of(make()), examples=20)


@pytest.mark.parametrize("careless", PLANTED)
def test_a_planted_mistake_of_a_cache_is_found(careless: type[CarelessCache]):
    with pytest.raises(Leak):
        check_isolation(world_of(careless()), shrink=False)


class SharedConnection:
    """Reads from a server over one connection; a caller that gives up leaves its answer there."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.turn = asyncio.Lock()

    async def call(self, *words: str) -> bytes | None:
        async with self.turn:
            parts = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
            self.writer.write(f"*{len(words)}\r\n{parts}".encode())
            line = await self.reader.readline()
            if not line.startswith(b"$"):
                return line
            size = int(line[1:])
            return None if size < 0 else (await self.reader.readexactly(size + 2))[:-2]


class AnswersOfTheCancelled(CarelessCache):
    """Everything is right but the connection: one answer left on it moves all that follow."""

    def __init__(self, connection: SharedConnection) -> None:
        super().__init__()
        self.connection = connection

    async def get(
        self, key: str, *, namespace: str = "default", tenant_id: str | None = None
    ) -> object | None:
        name = self.name(self.tenant(tenant_id), namespace, key)
        serial = await self.connection.call("ECHO", name)
        return self.values.get((serial or b"").decode())


def test_the_answer_of_a_cancelled_call_on_a_shared_connection_is_found(
    embedded_redis: EmbeddedRedis,
):
    @asynccontextmanager
    async def open_world() -> AsyncIterator[World]:
        reader, writer = await asyncio.open_connection("127.0.0.1", embedded_redis.port)
        connection = SharedConnection(reader, writer)
        password = embedded_redis.url.get_secret_value().split("@")[0].rpartition(":")[2]
        await connection.call("AUTH", password)
        try:
            async with World([CacheSite(AnswersOfTheCancelled(connection))]) as world:
                yield world
        finally:
            writer.close()

    with pytest.raises(Leak):
        check_isolation(open_world, shrink=False)
