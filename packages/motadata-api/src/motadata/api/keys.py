"""The API keys of each tenant: made, checked, listed and revoked. Only their digests are stored."""

from __future__ import annotations

import hmac
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Final, Self, cast
from uuid import UUID

from motadata.api.key_format import authentication_failed, generate_key, parse_key
from motadata.core.errors import ConfigurationError
from motadata.core.identifiers import new_id
from motadata.core.models import Health, Record
from motadata.core.observability import get_logger
from motadata.core.protocols import Database, Row
from motadata.core.tenancy import TenantId, resolve_tenant, tenant_scope


_CACHE_SECONDS: Final = 10.0
_CACHE_ENTRIES: Final = 1024
_MAX_LABEL: Final = 200
_MAX_PAGE: Final = 1000

_log = get_logger("api")


@dataclass(frozen=True, slots=True)
class ApiKeyInfo(Record):
    """A stored key, without the key.

    Attributes:
        revoked_at: When it stopped to open; None while it does.
    """

    key_id: str
    tenant_id: str
    label: str
    created_at: datetime
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """A new key; `key` is shown once and stored nowhere."""

    info: ApiKeyInfo
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Verified:
    tenant_id: TenantId
    key_id: str
    expires: float


class ApiKeys:
    """Keys in the table `motadata.api_key`.

    A key that was found valid is taken for valid for ten seconds more without a look at the
    database; a revocation by the same instance takes effect at once.

    Args:
        database: Where the keys are.
        clock: Seconds that never run backwards.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()

    async def __aenter__(self) -> Self:
        """Acquire nothing: the database is open by now."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Forget which keys were valid."""
        self._verified.clear()

    async def create(self, label: str, *, tenant_id: str | None = None) -> CreatedKey:
        """Make a key for a tenant.

        Args:
            label: What it is for, 1 to 200 characters.
            tenant_id: None means the tenant of the scope.

        Raises:
            TenantRequiredError: No tenant is given and none is in scope.
            ConfigurationError: The label is empty or too long.
        """
        tenant = resolve_tenant(tenant_id)
        label = _checked_label(label)
        key = generate_key(tenant)
        async with self._database.transaction(tenant) as transaction:
            row = await transaction.fetch_one(
                "INSERT INTO motadata.api_key (tenant_id, key_id, digest, label) "
                "VALUES ($1, $2, $3, $4) "
                "RETURNING key_id, tenant_id, label, created_at, revoked_at",
                tenant,
                new_id(),
                parse_key(key).digest,
                label,
            )
        assert row is not None, "INSERT … RETURNING gives one row"
        info = _info(row)
        with tenant_scope(tenant):
            _log.info("api_key_created", key_id=info.key_id)
        return CreatedKey(info, key)

    async def verify(self, key: str) -> TenantId:
        """Return the tenant whose key it is.

        Raises:
            AuthenticationError: It is malformed, unknown or revoked; the error does not say which.
        """
        parsed = parse_key(key)
        known = self._verified.get(parsed.digest)
        if known is not None and known.expires > self._clock():
            self._verified.move_to_end(parsed.digest)
            return known.tenant_id
        async with self._database.transaction(parsed.tenant_id) as transaction:
            row = await transaction.fetch_one(
                "SELECT key_id, digest FROM motadata.api_key "
                "WHERE tenant_id = $1 AND digest = $2 AND revoked_at IS NULL",
                parsed.tenant_id,
                parsed.digest,
            )
        if row is None or not hmac.compare_digest(cast("bytes", row["digest"]), parsed.digest):
            self._verified.pop(parsed.digest, None)
            raise authentication_failed()
        self._remember(parsed.digest, parsed.tenant_id, str(row["key_id"]))
        return parsed.tenant_id

    async def revoke(self, key_id: str, *, tenant_id: str | None = None) -> bool:
        """Stop a key from opening; return whether the tenant has it.

        Raises:
            TenantRequiredError: No tenant is given and none is in scope.
        """
        tenant = resolve_tenant(tenant_id)
        identity = _uuid(key_id)
        if identity is None:
            return False
        async with self._database.transaction(tenant) as transaction:
            touched = await transaction.execute(
                "UPDATE motadata.api_key SET revoked_at = coalesce(revoked_at, now()) "
                "WHERE tenant_id = $1 AND key_id = $2",
                tenant,
                identity,
            )
        for digest in [d for d, known in self._verified.items() if known.key_id == str(identity)]:
            del self._verified[digest]
        with tenant_scope(tenant):
            _log.info("api_key_revoked", key_id=str(identity), found=bool(touched))
        return bool(touched)

    async def list_keys(
        self, *, limit: int = 100, after: str | None = None, tenant_id: str | None = None
    ) -> list[ApiKeyInfo]:
        """Return the tenant's keys, oldest first, the revoked ones too.

        Args:
            limit: 1 to 1000.
            after: The last id of the page before.
            tenant_id: None means the tenant of the scope.

        Raises:
            TenantRequiredError: No tenant is given and none is in scope.
            ConfigurationError: The limit is out of range, or `after` is no key id.
        """
        tenant = resolve_tenant(tenant_id)
        if not 1 <= limit <= _MAX_PAGE:
            message = f"The limit {limit!r} is out of range."
            raise ConfigurationError(message, remedy=f"Use 1 to {_MAX_PAGE}.")
        last = UUID(int=0) if after is None else _uuid(after)
        if last is None:
            message = f"{after!r} is no key id."
            raise ConfigurationError(message, remedy="Take the last key_id of the page before.")
        rows = await self._database.execute_query(
            "SELECT key_id, tenant_id, label, created_at, revoked_at FROM motadata.api_key "
            "WHERE tenant_id = $1 AND key_id > $2 ORDER BY key_id LIMIT $3",
            tenant,
            last,
            limit,
            tenant_id=tenant,
        )
        return [_info(row) for row in rows]

    async def health(self) -> Health:
        """Say whether keys can be checked, which is to say whether the database answers."""
        return Health((await self._database.health()).status)

    def _remember(self, digest: bytes, tenant_id: TenantId, key_id: str) -> None:
        self._verified[digest] = _Verified(tenant_id, key_id, self._clock() + _CACHE_SECONDS)
        self._verified.move_to_end(digest)
        while len(self._verified) > _CACHE_ENTRIES:
            self._verified.popitem(last=False)


def _checked_label(label: str) -> str:
    label = label.strip()
    if not 1 <= len(label) <= _MAX_LABEL or not label.isprintable():
        message = f"The label {label[:80]!r} does not fit."
        raise ConfigurationError(
            message, remedy=f"Say in 1 to {_MAX_LABEL} printable characters what the key is for."
        )
    return label


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _info(row: Row) -> ApiKeyInfo:
    return ApiKeyInfo(
        key_id=str(row["key_id"]),
        tenant_id=str(row["tenant_id"]),
        label=str(row["label"]),
        created_at=cast("datetime", row["created_at"]),
        revoked_at=cast("datetime | None", row["revoked_at"]),
    )
