"""The cache on a Redis-protocol server or cluster, shared by every instance."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Final, Self, TypeVar

from pydantic import SecretStr

from motadata.core.cache._flights import Flights
from motadata.core.cache._key import (
    CacheKey,
    RedisNames,
    cache_key,
    check_tags,
    check_text,
    check_ttl,
    compile_glob,
    digest,
    redis_names,
    tag_key,
)
from motadata.core.cache._redis_batches import Batches, Entry
from motadata.core.cache._redis_lease import Leases
from motadata.core.cache._redis_reading import Found
from motadata.core.cache._redis_scripts import FORGET, INDEXED
from motadata.core.cache._redis_server import Call, Command, RedisServer, ServerUnavailableError
from motadata.core.cache._redis_values import decode_value, encode_value
from motadata.core.errors import CodecError, ConfigurationError
from motadata.core.models import Health, Record
from motadata.core.resilience import remaining, time_limit
from motadata.core.tenancy import resolve_tenant


_SLICE: Final = 250
_LONGEST_LIFE: Final = 10 * 365 * 24 * 3600 * 1000

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class RedisCacheStatistics(Record):
    """What this instance asked of the server since it was made.

    Attributes:
        hits: Reads that found a live value.
        misses: Reads that found none.
        unreadable: Misses because a newer version had stored what this one cannot read.
        stored: Values that were stored.
        overtaken: Computed values that were not stored, because their key had changed meanwhile.
        failures: Calls that the server did not answer.
    """

    hits: int
    misses: int
    unreadable: int
    stored: int
    overtaken: int
    failures: int


@dataclass(slots=True)
class _Counters:
    hits: int = 0
    misses: int = 0
    unreadable: int = 0
    stored: int = 0
    overtaken: int = 0


class RedisCache:
    """A `Cache` on a server; built by `create_redis_cache`, used within `async with`.

    It belongs to the event loop in which it was entered. When the server does not answer, methods
    raise a `CacheError` that is retryable; `create_tiered_cache` carries on instead.
    """

    def __init__(
        self,
        server: RedisServer,
        *,
        default_ttl: float,
        jitter: float,
        quota: int,
        lease: float,
        with_left: bool = False,
    ) -> None:
        self._server = server
        self._default_ttl = default_ttl
        self._jitter = jitter
        self._quota = quota
        self._batches = Batches(server, quota=quota, with_left=with_left)
        self._leases = Leases(server, lease=lease)
        self._flights = Flights()
        self._counters = _Counters()

    @property
    def server(self) -> RedisServer:
        """The connection."""
        return self._server

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            CacheError: The server does not answer.
        """
        try:
            await self._server.ping()
        except BaseException:
            await self._server.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for what is on its way, and disconnect; what is stored stays."""
        await self.close()

    async def close(self) -> None:
        """Wait for what is on its way, and disconnect."""
        self._flights.invalidate(lambda _: True)
        await self._leases.close()
        await self._batches.close()
        await self._server.close()

    async def get(
        self, key: str, *, namespace: str = "default", tenant_id: str | None = None
    ) -> object | None:
        """Return the live value of `key`, or None.

        Raises:
            TenantRequiredError: No tenant is given and none is in scope.
            InvalidIdentifierError: The tenant or the namespace breaks the grammar.
            CacheError: The key breaks its rule, or the server does not answer.
        """
        tenant = resolve_tenant(None) if tenant_id is None else tenant_id
        found = await self.find(cache_key(tenant, namespace, key))
        return None if found is None else found[0]

    async def find(self, place: CacheKey) -> tuple[object, Found] | None:
        """Return a live value, and as what it was found.

        Raises:
            CacheError: The server does not answer.
        """
        names = redis_names(place.tenant, place.namespace)
        return self._read(await self._wait(self._batches.read(names, digest(place.key))))

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
        """Store `value` for at most `ttl` seconds; None takes the cache's default.

        Raises:
            CacheError: The key or a tag breaks its rule, the TTL is not positive, the value has no
                encoding, or the server does not answer.
        """
        place = cache_key(resolve_tenant(tenant_id), namespace, key)
        entry = self._entry(place.key, value, ttl, check_tags(tags))
        self._flights.invalidate_key(place)
        names = redis_names(place.tenant, place.namespace)
        if entry is None:
            await self._forget(names, [place.key])
        else:
            await self._wait(self._batches.write(names, entry))
            self._counters.stored += 1

    async def delete(
        self, key: str, *, namespace: str = "default", tenant_id: str | None = None
    ) -> bool:
        """Forget `key`; return whether it was there.

        Raises:
            CacheError: The key breaks its rule, or the server does not answer.
        """
        place = cache_key(resolve_tenant(tenant_id), namespace, key)
        self._flights.invalidate_key(place)
        return await self._forget(redis_names(place.tenant, place.namespace), [place.key]) == 1

    async def get_many(
        self, keys: Sequence[str], *, namespace: str = "default", tenant_id: str | None = None
    ) -> Mapping[str, object]:
        """Return the live values of those keys that have one.

        Raises:
            CacheError: A key breaks its rule, or the server does not answer.
        """
        tenant = resolve_tenant(tenant_id)
        places = {key: cache_key(tenant, namespace, key) for key in keys}
        if not places:
            return {}
        names = redis_names(str(tenant), str(namespace))
        futures = {key: self._batches.read(names, digest(key)) for key in places}
        await self._wait_for_all(futures.values())
        found = {key: self._read(future.result()) for key, future in futures.items()}
        return {key: value[0] for key, value in found.items() if value is not None}

    async def set_many(
        self,
        values: Mapping[str, object],
        *,
        ttl: float | None = None,
        namespace: str = "default",
        tenant_id: str | None = None,
    ) -> None:
        """Store all values for `ttl` seconds each; when one has no encoding, none is stored.

        Raises:
            CacheError: As for `set`; when the server does not answer, some may be stored.
        """
        tenant = resolve_tenant(tenant_id)
        places = [cache_key(tenant, namespace, key) for key in values]
        entries = {place: self._entry(place.key, values[place.key], ttl, ()) for place in places}
        if not entries:
            return
        names = redis_names(str(tenant), str(namespace))
        for place in places:
            self._flights.invalidate_key(place)
        absent = [place.key for place, entry in entries.items() if entry is None]
        await self._wait_for_all(
            self._batches.write(names, entry) for entry in entries.values() if entry is not None
        )
        self._counters.stored += len(entries) - len(absent)
        if absent:
            await self._forget(names, absent)

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
        """Return the value of `key`; when absent, await `compute` and store what it returns.

        One computation runs for all who wait, on every instance. When the instance that computes
        dies, another takes over after the lease. When the server dies meanwhile, the value is
        returned and not stored.

        Raises:
            CacheError: As for `set`, the computation asks for its own key, or it was cancelled from
                within.
        """
        place = cache_key(resolve_tenant(tenant_id), namespace, key)
        checked = check_tags(tags)
        life = self._life(ttl)
        found = await self.find(place)
        if found is not None:
            return found[0]
        return await self._join(place, compute, life, checked)

    async def compute(
        self,
        place: CacheKey,
        compute: Callable[[], Awaitable[object]],
        *,
        ttl: float | None,
        tags: Sequence[str],
    ) -> object:
        """Do what `get_or_compute` does for a value that was just found absent.

        Raises:
            CacheError: As there.
        """
        return await self._join(place, compute, self._life(ttl), check_tags(tags))

    async def _join(
        self,
        place: CacheKey,
        compute: Callable[[], Awaitable[object]],
        life: int,
        tags: tuple[str, ...],
    ) -> object:
        work = partial(self._compute, place, compute, life, tags)
        return await self._flights.join(place, work, lambda _: None, tags=tags)

    async def invalidate_pattern(
        self, pattern: str, *, namespace: str = "default", tenant_id: str | None = None
    ) -> int:
        """Forget the keys of one namespace that match a glob (`*`, `?`); return how many went.

        Every matching key that was there before the call is forgotten. The server works on 250 keys
        at a time and serves others in between.

        Raises:
            CacheError: The pattern breaks the rule of keys, or the server does not answer.
        """
        tenant, space, _ = cache_key(resolve_tenant(tenant_id), namespace, "*")
        matches = compile_glob(pattern).match
        self._flights.invalidate(
            lambda place: place[:2] == (tenant, space) and matches(place.key) is not None
        )
        names = redis_names(tenant, space)
        gone = 0
        while generation := await self._indexed(names):
            gone += await self._forget_matching(names, matches)
            if await self._indexed(names) in (generation, b""):
                break
        return gone

    async def invalidate_tag(self, tag: str, *, tenant_id: str | None = None) -> None:
        """Forget every value of the tenant that carries the tag, in one step.

        Raises:
            CacheError: The tag breaks the rule of keys, or the server does not answer.
        """
        tenant = str(resolve_tenant(tenant_id))
        check_text(tag, "tag")
        self._flights.invalidate_tag(tenant, tag)
        await self._server.call(Command(["UNLINK", tag_key(tenant, digest(tag))]))

    async def invalidate_tenant(self, *, tenant_id: str | None = None) -> None:
        """Forget everything of the tenant, in one step however much it is.

        Raises:
            CacheError: The server does not answer.
        """
        tenant = str(resolve_tenant(tenant_id))
        self._flights.invalidate(lambda place: place.tenant == tenant)
        await self._server.call(Command(["UNLINK", redis_names(tenant, "default").generation_key]))

    async def health(self) -> Health:
        """Say whether the server answers."""
        try:
            await self._server.ping()
        except ServerUnavailableError as error:
            return Health("down", detail=str(error))
        return Health("ok")

    def statistics(self) -> RedisCacheStatistics:
        """Return what this instance asked of the server since it was made."""
        counters = self._counters
        return RedisCacheStatistics(
            hits=counters.hits,
            misses=counters.misses,
            unreadable=counters.unreadable,
            stored=counters.stored,
            overtaken=counters.overtaken,
            failures=self._batches.failures + self._leases.failures,
        )

    def _life(self, ttl: float | None) -> int:
        """Return milliseconds, up to the jitter shorter so that values do not all end at once."""
        if ttl is not None:
            check_ttl(ttl)
        seconds = self._default_ttl if ttl is None else ttl
        shortened = seconds * (1.0 - random.random() * self._jitter)  # noqa: S311 - no secret
        return max(1, min(math.floor(shortened * 1000), _LONGEST_LIFE))

    def _entry(
        self, key: str, value: object, ttl: float | None, tags: tuple[str, ...]
    ) -> Entry | None:
        life = self._life(ttl)
        if value is None:
            return None
        marks = tuple((digest(tag), "") for tag in tags)
        return Entry(digest(key), key, life, encode_value(value), marks)

    def _read(self, found: Found | None) -> tuple[object, Found] | None:
        if found is None:
            self._counters.misses += 1
            return None
        try:
            value = decode_value(found.data)
        except CodecError:
            # Written by a newer version, with a record that this one does not know.
            self._counters.misses += 1
            self._counters.unreadable += 1
            return None
        self._counters.hits += 1
        return value, found

    async def _compute(
        self,
        place: CacheKey,
        compute: Callable[[], Awaitable[object]],
        life: int,
        tags: tuple[str, ...],
    ) -> object:
        names = redis_names(place.tenant, place.namespace)
        lease = await self._leases.acquire(names, place.key, life, tags)
        if isinstance(lease, bytes):
            try:
                return decode_value(lease)
            except CodecError:
                return await compute()
        value = await self._leases.hold(lease, compute)
        if value is None:
            return None
        try:
            stored = await self._wait(self._batches.write(names, lease.entry(encode_value(value))))
        except ServerUnavailableError:
            # The caller asked for the value and gets it; the next one computes it again.
            return value
        self._counters.stored += stored
        self._counters.overtaken += not stored
        return value

    def _wait(self, future: asyncio.Future[Answer]) -> Awaitable[Answer]:
        # A batch ends within the server's timeout; only a caller's own deadline can be sooner.
        return future if remaining() is None else _within_deadline(future)

    async def _wait_for_all(self, futures: Iterable[asyncio.Future[Answer]]) -> None:
        """Wait for futures of one batch, and raise the first error when all are done."""
        async with time_limit(None, what="the cache"):
            done, _ = await asyncio.wait(list(futures))
        errors = [error for future in done if (error := future.exception()) is not None]
        if errors:
            raise errors[0]

    async def _forget(self, names: RedisNames, keys: Sequence[str]) -> int:
        gone = 0
        for start in range(0, len(keys), _SLICE):
            places = [part for key in keys[start : start + _SLICE] for part in (digest(key), key)]
            all_keys = [names.generation_key, names.namespace_key, names.index_key]
            all_keys += [names.ledger_key, names.total_key]
            first = (names.head, names.lock_head, names.tail, self._quota)
            answer = await self._server.call(Call(FORGET, all_keys, [*first, *places]))
            assert isinstance(answer, list)
            gone += sum(flag == 1 for flag in answer)
        return gone

    async def _indexed(self, names: RedisNames) -> object:
        keys = [names.generation_key, names.namespace_key, names.index_key]
        return await self._server.call(Call(INDEXED, keys, []))

    async def _forget_matching(
        self, names: RedisNames, matches: Callable[[str], object | None]
    ) -> int:
        """Go through the index once; what was in it all the time is seen at least once."""
        gone, cursor = 0, 0
        while True:
            answer = await self._server.call(
                Command(["ZSCAN", names.index_key, cursor, "COUNT", _SLICE])
            )
            assert isinstance(answer, tuple | list)
            cursor, members = int(answer[0]), answer[1]
            keys = [_key_of(member) for member in members]
            gone += await self._forget(
                names, [key for key in keys if key[:1] != "\0" and matches(key) is not None]
            )
            if cursor == 0:
                return gone


async def _within_deadline(future: asyncio.Future[Answer]) -> Answer:
    async with time_limit(None, what="the cache"):
        return await future


def _key_of(member: object) -> str:
    name = member[0] if isinstance(member, tuple | list) else member
    return name.decode() if isinstance(name, bytes) else str(name)


def create_redis_cache(
    redis_url: str | SecretStr,
    *,
    default_ttl: float = 3600.0,
    jitter: float = 0.1,
    tenant_max_bytes: int | None = None,
    timeout: float = 1.0,
    lease: float = 5.0,
    max_connections: int = 16,
) -> RedisCache:
    """Build a cache on a Redis-protocol server, single or Cluster, shared by every instance.

    Args:
        redis_url: `redis://:password@host:6379/0`, or `rediss://` for TLS. Several hosts, separated
            by commas, name several servers of one cluster.
        default_ttl: Seconds that an entry lives unless `set` says otherwise.
        jitter: By which share of it a life is shortened at random, so that not all end at once.
        tenant_max_bytes: About how many bytes one tenant may hold on the server; what would end
            first goes first. Every instance must be given the same. None sets no limit.
        timeout: Seconds that the server may take for one call.
        lease: Seconds after which another instance computes what one that died was computing.
        max_connections: Most connections to each server.

    Raises:
        MissingExtraError: `redis` is not installed.
        ConfigurationError: The address is malformed, or a number is out of its range.
    """
    server, quota = connect(
        redis_url,
        tenant_max_bytes=tenant_max_bytes,
        jitter=jitter,
        timeout=timeout,
        lease=lease,
        max_connections=max_connections,
    )
    check_ttl(default_ttl)
    return RedisCache(server, default_ttl=default_ttl, jitter=jitter, quota=quota, lease=lease)


def connect(
    redis_url: str | SecretStr,
    *,
    tenant_max_bytes: int | None,
    jitter: float,
    timeout: float,
    lease: float,
    max_connections: int,
) -> tuple[RedisServer, int]:
    """Check what a cache on a server is made of; return the server and the quota.

    Raises:
        MissingExtraError: `redis` is not installed.
        ConfigurationError: The address is malformed, or a number is out of its range.
    """
    positive = {"timeout": timeout, "lease": lease, "max_connections": max_connections}
    if tenant_max_bytes is not None:
        positive["tenant_max_bytes"] = tenant_max_bytes
    for name, number in positive.items():
        if not (number > 0 and math.isfinite(number)):
            message = f"{name}={number!r} does not fit the cache."
            raise ConfigurationError(message, remedy="Give a positive number.")
    if not 0.0 <= jitter < 1.0:
        message = f"jitter={jitter!r} is no share of a life."
        raise ConfigurationError(message, remedy="Give a number from 0 to less than 1.")
    url = redis_url.get_secret_value() if isinstance(redis_url, SecretStr) else redis_url
    return RedisServer(url, timeout=timeout, max_connections=max_connections), tenant_max_bytes or 0
