"""Secrets of tenants in PostgreSQL: put, get, list, delete, and rotation of the master key."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeVar, cast
from uuid import UUID

from pydantic import SecretStr

from motadata.core.errors import (
    ConfigurationError,
    KeyManagementError,
    SecretError,
    SecretNotFoundError,
    SecretUnreadableError,
)
from motadata.core.identifiers import new_id
from motadata.core.models import Record
from motadata.core.observability import get_logger
from motadata.core.protocols import Database
from motadata.core.protocols.database import Row
from motadata.core.security._encryption import new_key, require_cryptography, seal, unseal
from motadata.core.security._key_management import (
    KeyManagement,
    LocalKeyManagement,
    WrappedKey,
)
from motadata.core.tenancy import Identifier, TenantId, resolve_tenant


Result = TypeVar("Result")

MAX_SECRET_BYTES: Final = 65_536
_MAX_LISTED: Final = 1000

_PUT: Final = (
    "insert into motadata.secret as old"
    " (tenant_id, name, revision, key_version, wrapped_key, ciphertext)"
    " values ($1, $2, $3, $4, $5, $6)"
    " on conflict (tenant_id, name) do update set revision = excluded.revision,"
    " key_version = excluded.key_version, wrapped_key = excluded.wrapped_key,"
    " ciphertext = excluded.ciphertext, updated_at = now()"
)
_GET: Final = (
    "select name, revision, key_version, wrapped_key, ciphertext from motadata.secret"
    " where tenant_id = $1 and name = $2"
)
_LIST: Final = (
    "select name, key_version, created_at, updated_at from motadata.secret"
    " where tenant_id = $1 and name > $2 order by name limit $3"
)
_DELETE: Final = "delete from motadata.secret where tenant_id = $1 and name = $2"
_OUTDATED: Final = (
    "select name, revision, key_version, wrapped_key from motadata.secret"
    " where tenant_id = $1 and key_version <> $2 and name > $3 order by name limit $4"
)
# A value that was put, or a key that was wrapped, in the meantime is newer and stays.
_REWRAP: Final = (
    "update motadata.secret set key_version = $5, wrapped_key = $6"
    " where tenant_id = $1 and name = $2 and revision = $3 and key_version = $4"
)
_VERSIONS: Final = (
    "select key_version, count(*) as secrets from motadata.secret"
    " where tenant_id = $1 group by key_version order by key_version"
)

_log = get_logger("security")


@dataclass(frozen=True, slots=True)
class SecretInfo(Record):
    """What may be shown of a secret.

    Attributes:
        key_version: Which master key its data key is wrapped with.
    """

    name: str
    key_version: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class RotationResult(Record):
    """What a rotation came to.

    Attributes:
        key_version: The version that was current when it ran.
        rewrapped: How many secrets changed over.
        unreadable: Names of those whose old key is gone, or whose row was damaged.
    """

    key_version: str
    rewrapped: int = 0
    unreadable: tuple[str, ...] = field(default=())


class SecretStore:
    """Secrets of tenants, encrypted at rest; built by `create_secret_store`.

    A value is written and read as `SecretStr`, which shows itself nowhere. Nothing is cached: each
    `get` asks the key management once, so hold the client you made with a secret, not the secret.

    Args:
        database: Where the rows are.
        key_management: Who wraps the data keys.
        timeout: Seconds for one answer of the key management.

    Raises:
        MissingExtraError: The extra `security` is not installed.
    """

    def __init__(
        self, database: Database, key_management: KeyManagement, *, timeout: float = 10.0
    ) -> None:
        require_cryptography()
        self._database = database
        self._key_management = key_management
        self._timeout = timeout

    async def put(self, name: str, value: SecretStr, *, tenant_id: str | None = None) -> None:
        """Store a secret; one of the same name is replaced in one step.

        Raises:
            InvalidIdentifierError: The name breaks the grammar `[A-Za-z0-9_-]{1,64}`.
            SecretError: The value is no `SecretStr`, is empty, or has more than 64 KiB.
            KeyManagementError: The key management failed; nothing changed.
            DatabaseError: It could not be stored; after a retryable error, repeat.
        """
        tenant = resolve_tenant(tenant_id)
        secret_name = Identifier(name)
        plaintext = _plaintext(value, secret_name, tenant)
        place = _place(tenant, secret_name, new_id())
        data_key = new_key()
        wrapped = await self._ask(self._key_management.wrap(data_key, context=place), tenant)
        ciphertext = seal(data_key, plaintext, place=place)
        row = (UUID(place["revision"]), wrapped.version, wrapped.data, ciphertext)
        async with self._database.transaction(tenant) as transaction:
            await transaction.execute(_PUT, tenant, secret_name, *row)

    async def get(self, name: str, *, tenant_id: str | None = None) -> SecretStr:
        """Return a secret.

        Raises:
            SecretNotFoundError: The tenant has none of that name.
            SecretUnreadableError: Its master key is gone, or the row was damaged or moved.
            KeyManagementError: The key management failed.
            DatabaseError: It could not be read.
        """
        tenant = resolve_tenant(tenant_id)
        secret_name = Identifier(name)
        async with self._database.transaction(tenant) as transaction:
            row = await transaction.fetch_one(_GET, tenant, secret_name)
        if row is None:
            message = f"There is no secret {name!r}."
            raise SecretNotFoundError(
                message, remedy="Store it with put(), or correct its name.", tenant_id=tenant
            )
        # The place is where the row was looked for, not what it says of itself.
        place = _place(tenant, secret_name, cast("UUID", row["revision"]))
        try:
            data_key = await self._ask(
                self._key_management.unwrap(_wrapped(row), context=place), tenant
            )
            plaintext = unseal(data_key, cast("bytes", row["ciphertext"]), place=place)
        except SecretUnreadableError as error:
            message = f"The secret {name!r} cannot be read: {error}"
            raise SecretUnreadableError(message, tenant_id=tenant) from error
        return SecretStr(plaintext.decode())

    async def list(
        self, *, after: str = "", limit: int = 100, tenant_id: str | None = None
    ) -> tuple[SecretInfo, ...]:
        """Return up to `limit` (1 to 1000) secrets by name, without their values.

        Args:
            after: The last name of the page before.
            limit: How many at most.
            tenant_id: None means the tenant of the scope.

        Raises:
            SecretError: The limit is out of its range.
        """
        tenant = resolve_tenant(tenant_id)
        if not 1 <= limit <= _MAX_LISTED:
            message = f"The limit {limit!r} is out of range."
            raise SecretError(message, remedy="Pass 1 to 1000.", tenant_id=tenant)
        rows = await self._database.execute_query(_LIST, tenant, after, limit, tenant_id=tenant)
        return tuple(
            SecretInfo(
                name=str(row["name"]),
                key_version=str(row["key_version"]),
                created_at=cast("datetime", row["created_at"]),
                updated_at=cast("datetime", row["updated_at"]),
            )
            for row in rows
        )

    async def delete(self, name: str, *, tenant_id: str | None = None) -> bool:
        """Forget a secret; return whether it was there."""
        tenant = resolve_tenant(tenant_id)
        async with self._database.transaction(tenant) as transaction:
            return await transaction.execute(_DELETE, tenant, Identifier(name)) > 0

    async def key_versions(self, *, tenant_id: str | None = None) -> Mapping[str, int]:
        """Return how many secrets are wrapped with which version of the master key.

        A master key may be removed when no tenant's secrets name its version any more.
        """
        tenant = resolve_tenant(tenant_id)
        rows = await self._database.execute_query(_VERSIONS, tenant, tenant_id=tenant)
        return {str(row["key_version"]): cast("int", row["secrets"]) for row in rows}

    async def rotate(
        self, *, batch_size: int = 100, tenant_id: str | None = None
    ) -> RotationResult:
        """Wrap the tenant's data keys with the current master key, those that are not yet.

        The values themselves are not touched, and readers go on. Each secret changes over in one
        step: broken off anywhere, all stay readable, and the next call does the rest. A secret that
        cannot be read is reported and left as it is.

        Raises:
            SecretError: The batch size is out of its range, 1 to 1000.
            KeyManagementError: The key management failed.
            DatabaseError: A batch could not be read or written.
        """
        tenant = resolve_tenant(tenant_id)
        if not 1 <= batch_size <= _MAX_LISTED:
            message = f"The batch size {batch_size!r} is out of range."
            raise SecretError(message, remedy="Pass 1 to 1000.", tenant_id=tenant)
        current = await self._ask(self._key_management.current_version(), tenant)
        rewrapped, unreadable, after = 0, [], ""
        while True:
            rows = await self._database.execute_query(
                _OUTDATED, tenant, current, after, batch_size, tenant_id=tenant
            )
            for row in rows:
                try:
                    rewrapped += await self._rewrap(row, tenant)
                except SecretUnreadableError as error:
                    unreadable.append(str(row["name"]))
                    _log.error("secret_unreadable", secret_name=row["name"], error=error)
            if len(rows) < batch_size:
                return RotationResult(current, rewrapped, tuple(unreadable))
            after = str(rows[-1]["name"])

    async def _rewrap(self, row: Row, tenant: TenantId) -> int:
        name, revision = str(row["name"]), cast("UUID", row["revision"])
        place = _place(tenant, name, revision)
        data_key = await self._ask(
            self._key_management.unwrap(_wrapped(row), context=place), tenant
        )
        fresh = await self._ask(self._key_management.wrap(data_key, context=place), tenant)
        # No transaction is open while the key management is asked, which may be far away.
        async with self._database.transaction(tenant) as transaction:
            return await transaction.execute(
                _REWRAP, tenant, name, revision, row["key_version"], fresh.version, fresh.data
            )

    async def _ask(self, answer: Awaitable[Result], tenant: TenantId) -> Result:
        """Wait for the key management, and turn what a foreign one raises into our errors."""
        try:
            async with asyncio.timeout(self._timeout):
                return await answer
        except SecretError:
            raise
        except TimeoutError as error:
            message = f"The key management did not answer within {self._timeout:g} s."
            raise KeyManagementError(message, remedy="Repeat later.", tenant_id=tenant) from error
        except Exception as error:
            # Whoever implements the protocol brings a driver of their own.
            message = f"The key management failed ({type(error).__name__})."
            raise KeyManagementError(
                message, remedy="Look at the cause, then repeat.", tenant_id=tenant
            ) from error


def create_secret_store(
    database: Database,
    *,
    key_management: KeyManagement | None = None,
    environment: Mapping[str, str] | None = None,
    timeout: float = 10.0,
) -> SecretStore:
    """Return the secret store of a database.

    Args:
        database: It must have been migrated.
        key_management: Who wraps the data keys; None means `LocalKeyManagement` with the keys of
            MOTADATA_SECURITY_MASTER_KEYS.
        environment: Where to read that; None means the process's environment.
        timeout: Seconds for one answer of the key management.

    Raises:
        MissingExtraError: The extra `security` is not installed.
        ConfigurationError: The timeout is not positive, or the variable does not hold keys.
    """
    if not timeout > 0:
        message = f"The timeout {timeout!r} is not positive."
        raise ConfigurationError(message, remedy="Pass seconds above 0.")
    if key_management is None:
        key_management = LocalKeyManagement.from_environment(environment)
    return SecretStore(database, key_management, timeout=timeout)


def _plaintext(value: SecretStr, name: str, tenant: TenantId) -> bytes:
    # Callers without a type checker pass what they like.
    given: object = value
    if not isinstance(given, SecretStr):
        message = f"The value of the secret {name!r} is a {type(given).__name__}."
        raise SecretError(message, remedy="Wrap it in pydantic.SecretStr.", tenant_id=tenant)
    try:
        plaintext = given.get_secret_value().encode()
    except UnicodeEncodeError:
        message = f"The value of the secret {name!r} holds half of a surrogate pair."
        raise SecretError(message, remedy="Pass valid text.", tenant_id=tenant) from None
    if not 1 <= len(plaintext) <= MAX_SECRET_BYTES:
        message = f"The value of the secret {name!r} has {len(plaintext)} bytes."
        raise SecretError(message, remedy="Pass 1 to 65536 bytes.", tenant_id=tenant)
    return plaintext


def _place(tenant: TenantId, name: str, revision: UUID) -> dict[str, str]:
    return {"tenant": str(tenant), "name": str(name), "revision": str(revision)}


def _wrapped(row: Row) -> WrappedKey:
    return WrappedKey(str(row["key_version"]), cast("bytes", row["wrapped_key"]))
