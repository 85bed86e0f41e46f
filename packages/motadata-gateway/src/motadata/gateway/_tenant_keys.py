"""Keys that tenants bring along: encrypted at rest, remembered briefly, rotated without a restart.

Encryption, storage and the isolation of tenants are `motadata.core.security`'s. What is added here
is the memory that keeps a call from asking the database and the key management: bounded, by time
and by number, and never older than a rotation on the same instance.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from pydantic import SecretStr

from motadata.core.clock import SYSTEM_CLOCK, Clock
from motadata.core.errors import (
    ConfigurationError,
    DatabaseError,
    InvalidIdentifierError,
    KeyManagementError,
    SecretNotFoundError,
)
from motadata.core.models import Record
from motadata.core.observability import get_logger
from motadata.core.tenancy import Identifier, TenantId, resolve_tenant
from motadata.gateway._keys import checked_key


if TYPE_CHECKING:
    from motadata.core.security import SecretStore

_PREFIX: Final = "provider-key-"
_PAGE: Final = 1000
_RETRY_STALE: Final = 5.0

_log = get_logger("gateway")


@dataclass(frozen=True, slots=True)
class TenantKeyInfo(Record):
    """What may be shown of a tenant's key.

    Attributes:
        provider: Whose key it is.
        created_at: When the tenant first gave one.
        updated_at: When it gave the present one, or when its master key was rotated.
    """

    provider: str
    created_at: datetime
    updated_at: datetime


@dataclass(slots=True)
class _Remembered:
    key: SecretStr | None
    read_at: float
    fresh_until: float


class _Reading:
    """One tenant's key of one provider being read or written; whoever comes meanwhile waits."""

    __slots__ = ("error", "lock", "users")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0
        self.error: Exception | None = None


class TenantKeys:
    """Each tenant's own keys to the providers; pass it to `create_gateway` as `tenant_keys`.

        keys = TenantKeys(create_secret_store(database))
        await keys.put("openai", SecretStr("sk-…"), tenant_id="acme")

    The next call of the tenant through this instance carries the key; through another instance it
    does after `ttl` at the latest. While the database or the key management is away, a key that was
    read before goes on being used for `stale_for`; never the platform's in its place.

    A key for a provider that nobody serves is refused once it is known who is served: a gateway
    that it is passed to says so. In a process that has keys and no gateway, say it by `providers`.

    Safe for concurrent use on one event loop.

    Args:
        secrets: Where the keys are kept.
        ttl: Seconds that a key, or its absence, is remembered; so long may another instance go on
            using a key that was replaced or taken away.
        stale_for: Seconds after its reading that a key is used when it cannot be read again.
        most_remembered: Pairs of tenant and provider kept in memory; the longest unused go first.
        providers: Names of providers, beside those of the gateways that it is passed to.
        required: Providers that serve nobody with the platform's key: a tenant without one of its
            own is refused.
        clock: What time it is.

    Raises:
        ConfigurationError: A number is out of range, or names are given as one string.
    """

    def __init__(
        self,
        secrets: SecretStore,
        *,
        ttl: float = 30.0,
        stale_for: float = 300.0,
        most_remembered: int = 10_000,
        providers: Collection[str] | None = None,
        required: Collection[str] = (),
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if not 0 < ttl <= stale_for < float("inf") or most_remembered < 1:
            message = f"{ttl=!r}, {stale_for=!r} and {most_remembered=!r} do not fit together."
            raise ConfigurationError(
                message, remedy="Pass 0 < ttl <= stale_for, and remember at least one key."
            )
        self._secrets = secrets
        self._ttl = ttl
        self._stale_for = stale_for
        self._most = most_remembered
        for name, given in (("providers", providers), ("required", required)):
            if isinstance(given, str):
                message = f"{name}={given!r} is a string."
                raise ConfigurationError(message, remedy=f"Pass [{given!r}].")
        self._required = frozenset(required)
        self._providers = None if providers is None else frozenset(providers)
        self._now = clock.now
        self._remembered: OrderedDict[tuple[TenantId, str], _Remembered] = OrderedDict()
        self._readings: dict[tuple[TenantId, str], _Reading] = {}

    def add_providers(self, providers: Iterable[str]) -> None:
        """Say which providers a gateway asks for; `create_gateway` does."""
        served = frozenset(providers)
        self._providers = served | (self._providers or frozenset())
        unserved = sorted(self._required - self._providers)
        if unserved:
            # Perhaps those of another gateway that has not been made yet.
            _log.warning("tenant_keys_required_for_nothing", providers=unserved)

    async def api_key(self, provider: str, tenant: TenantId) -> SecretStr | None:
        """Return the tenant's key; None means that it has none and the platform's may be used.

        Raises:
            ConfigurationError: The tenant has none and the provider requires it.
            SecretUnreadableError: The stored key's master key is gone, or its row was damaged.
            KeyManagementError: The key management failed, and no key is remembered.
            DatabaseError: The database failed, and no key is remembered.
        """
        place = (tenant, provider)
        found = self._remembered.get(place)
        if found is not None and self._now() < found.fresh_until:
            self._remembered.move_to_end(place)
            key = found.key
        else:
            key = await self._read_once(place)
        if key is None and provider in self._required:
            message = f"The tenant has no key of its own for the provider {provider!r}."
            raise ConfigurationError(
                message, remedy="Store one with TenantKeys.put().", tenant_id=tenant
            )
        return key

    async def put(self, provider: str, key: SecretStr, *, tenant_id: str | None = None) -> None:
        """Store the tenant's key for a provider, or replace it; calls use it from now on.

        Calls under way keep the key that they were sent with: let the old one live for as long as a
        call may take.

        Raises:
            ConfigurationError: No gateway serves the provider; or the key is empty, or holds what
                no header can.
            InvalidIdentifierError: The provider's name breaks the grammar, or is too long.
            SecretError: The key is no `SecretStr`.
            KeyManagementError: The key management failed; nothing changed.
            DatabaseError: It could not be stored; after a retryable error, repeat.
        """
        tenant, name = resolve_tenant(tenant_id), _secret_name(provider)
        if self._providers is not None and provider not in self._providers:
            known = ", ".join(sorted(self._providers)) or "none"
            message = f"There is no provider {provider!r} to send the tenant's key to."
            raise ConfigurationError(
                message, remedy=f"Name one as the gateway does: {known}.", tenant_id=tenant
            )
        if isinstance(key, SecretStr):
            checked_key(provider, key)
        async with self._alone((tenant, provider)):
            try:
                await self._secrets.put(name, key, tenant_id=tenant)
            finally:
                # Also when the outcome is unknown: the next call looks.
                self._remembered.pop((tenant, provider), None)

    async def delete(self, provider: str, *, tenant_id: str | None = None) -> bool:
        """Forget the tenant's key for a provider; return whether there was one.

        Raises:
            InvalidIdentifierError: The provider's name breaks the grammar, or is too long.
            DatabaseError: It could not be deleted; after a retryable error, repeat.
        """
        tenant, name = resolve_tenant(tenant_id), _secret_name(provider)
        async with self._alone((tenant, provider)):
            try:
                return await self._secrets.delete(name, tenant_id=tenant)
            finally:
                self._remembered.pop((tenant, provider), None)

    async def list(self, *, tenant_id: str | None = None) -> tuple[TenantKeyInfo, ...]:
        """Return for which providers the tenant has keys, by name; never a key.

        Raises:
            DatabaseError: They could not be read.
        """
        tenant = resolve_tenant(tenant_id)
        known: list[TenantKeyInfo] = []
        after = _PREFIX
        while True:
            # Other secrets may sort between those of keys: the database's collation decides.
            page = await self._secrets.list(after=after, limit=_PAGE, tenant_id=tenant)
            known += [
                TenantKeyInfo(info.name.removeprefix(_PREFIX), info.created_at, info.updated_at)
                for info in page
                if info.name.startswith(_PREFIX)
            ]
            if len(page) < _PAGE:
                return tuple(known)
            after = page[-1].name

    def forget(self, *, tenant_id: str | None = None) -> None:
        """Drop what is remembered of the tenant, so that its next calls read its keys again."""
        tenant = resolve_tenant(tenant_id)
        for place in [place for place in self._remembered if place[0] == tenant]:
            del self._remembered[place]

    @asynccontextmanager
    async def _alone(self, place: tuple[TenantId, str]) -> AsyncIterator[_Reading]:
        """Hold a key's lock, and forget the lock with the last who waits for it."""
        reading = self._readings.setdefault(place, _Reading())
        reading.users += 1
        try:
            async with reading.lock:
                yield reading
        finally:
            reading.users -= 1
            if not reading.users:
                reading.error = None  # its traceback leads back here
                del self._readings[place]

    async def _read_once(self, place: tuple[TenantId, str]) -> SecretStr | None:
        """Read a key, however many calls wait for it; they share its failure as well."""
        async with self._alone(place) as reading:
            found = self._remembered.get(place)
            if found is not None and self._now() < found.fresh_until:
                return found.key
            if reading.error is not None:
                raise reading.error
            try:
                key = await self._read(place)
            except (DatabaseError, KeyManagementError) as error:
                if found is not None and self._now() < found.read_at + self._stale_for:
                    _log.warning("tenant_key_stale", provider=place[1], code=error.code)
                    found.fresh_until = self._now() + min(self._ttl, _RETRY_STALE)
                    return found.key
                reading.error = error
                raise
            self._remember(place, key)
            return key

    async def _read(self, place: tuple[TenantId, str]) -> SecretStr | None:
        tenant, provider = place
        try:
            return await self._secrets.get(_secret_name(provider), tenant_id=tenant)
        except (SecretNotFoundError, InvalidIdentifierError):
            # No key can have been stored under a name that is none.
            return None

    def _remember(self, place: tuple[TenantId, str], key: SecretStr | None) -> None:
        now = self._now()
        self._remembered[place] = _Remembered(key, now, now + self._ttl)
        self._remembered.move_to_end(place)
        if len(self._remembered) > self._most:
            self._remembered.popitem(last=False)


def _secret_name(provider: str) -> Identifier:
    """Return under which name a provider's key is kept; the one place where that is decided."""
    given: object = provider
    if not isinstance(given, str) or not given:
        message = f"{given!r} is no name of a provider."
        raise InvalidIdentifierError(message, remedy="Name it as the gateway does, like 'openai'.")
    return Identifier(_PREFIX + given)
