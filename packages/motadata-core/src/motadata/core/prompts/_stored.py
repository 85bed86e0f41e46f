"""Templates of tenants in PostgreSQL: versions that never change, one of them active."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Final, cast

from motadata.core.errors import PromptNotFoundError, PromptTemplateError
from motadata.core.models import Record
from motadata.core.prompts._limits import PromptLimits
from motadata.core.prompts._sources import Workshop
from motadata.core.prompts._template import PromptTemplate
from motadata.core.protocols import Database
from motadata.core.tenancy import Identifier, TenantId, resolve_tenant


_MOST_VERSIONS: Final = 1000

_ADD: Final = (
    "insert into motadata.prompt_template (tenant_id, name, version, body, declaration, checksum)"
    " values ($1, $2, $3, $4, $5, $6) on conflict (tenant_id, name, version) do nothing"
)
_CHECKSUM: Final = (
    "select checksum from motadata.prompt_template"
    " where tenant_id = $1 and name = $2 and version = $3"
)
_ACTIVATE: Final = (
    "insert into motadata.prompt_active (tenant_id, name, version)"
    " select tenant_id, name, version from motadata.prompt_template"
    " where tenant_id = $1 and name = $2 and version = $3"
    " on conflict (tenant_id, name) do update"
    " set version = excluded.version, activated_at = now()"
)
_FIND: Final = (
    "select version, body, declaration from motadata.prompt_template t"
    " where tenant_id = $1 and name = $2 and version = coalesce($3, (select a.version"
    " from motadata.prompt_active a where a.tenant_id = $1 and a.name = $2))"
)
_VERSIONS: Final = (
    "select t.version, t.checksum, t.created_at, a.version is not null as is_active"
    " from motadata.prompt_template t left join motadata.prompt_active a"
    " on a.tenant_id = t.tenant_id and a.name = t.name and a.version = t.version"
    " where t.tenant_id = $1 and t.name = $2 order by t.version desc limit $3"
)
_REMOVE: Final = (
    "delete from motadata.prompt_template t where tenant_id = $1 and name = $2 and version = $3"
    " and not exists (select from motadata.prompt_active a"
    " where a.tenant_id = $1 and a.name = $2 and a.version = $3)"
)
_DEACTIVATE: Final = "delete from motadata.prompt_active where tenant_id = $1 and name = $2"


@dataclass(frozen=True, slots=True)
class PromptVersion(Record):
    """What is known of a stored version without reading it."""

    version: int
    checksum: str
    created_at: datetime
    is_active: bool


class DatabasePrompts:
    """Templates of each tenant, in the database.

    A stored version is never changed; a change is a new version, and going back is activating the
    old one, which is one step for all readers.

    Args:
        database: It must have been migrated.
        limits: How much a rendering may take.
    """

    def __init__(self, database: Database, *, limits: PromptLimits | None = None) -> None:
        self._database = database
        self._workshop = Workshop(PromptLimits() if limits is None else limits)

    async def add(
        self, template: PromptTemplate, *, activate: bool = False, tenant_id: str | None = None
    ) -> None:
        """Store a version; storing the same once more changes nothing.

        Args:
            template: What to store.
            activate: Whether to make it the active one in the same step.
            tenant_id: None means the tenant of the scope.

        Raises:
            PromptTemplateError: That version is stored already, and is another.
            DatabaseError: It could not be stored.
        """
        tenant = resolve_tenant(tenant_id)
        declaration = {
            "description": template.description,
            "required": sorted(template.required),
            "defaults": dict(template.defaults),
            "trusted": sorted(template.trusted),
        }
        key = (tenant, template.name, template.version)
        async with self._database.transaction(tenant) as transaction:
            added = await transaction.execute(
                _ADD, *key, template.text, declaration, template.checksum
            )
            if not added and await transaction.fetch_value(_CHECKSUM, *key) != template.checksum:
                message = (
                    f"The prompt {template.name!r} has a version {template.version} already,"
                    " which is another."
                )
                raise PromptTemplateError(
                    message, remedy="Store it under the next version.", tenant_id=tenant
                )
            if activate:
                await transaction.execute(_ACTIVATE, *key)

    async def activate(self, name: str, version: int, *, tenant_id: str | None = None) -> None:
        """Make a stored version the active one.

        Raises:
            PromptNotFoundError: The tenant has no such version; nothing changed.
        """
        tenant = resolve_tenant(tenant_id)
        prompt = Identifier(name)
        async with self._database.transaction(tenant) as transaction:
            if not await transaction.execute(_ACTIVATE, tenant, prompt, version):
                message = f"There is no version {version!r} of the prompt {name!r}."
                raise PromptNotFoundError(
                    message, remedy="Store it with add() first.", tenant_id=tenant
                )

    async def deactivate(self, name: str, *, tenant_id: str | None = None) -> bool:
        """Leave a prompt without an active version; return whether it had one.

        A library then finds it in its next source, such as the platform's files.
        """
        tenant = resolve_tenant(tenant_id)
        async with self._database.transaction(tenant) as transaction:
            return await transaction.execute(_DEACTIVATE, tenant, Identifier(name)) > 0

    async def remove(self, name: str, version: int, *, tenant_id: str | None = None) -> bool:
        """Forget a version; return whether it was there.

        Raises:
            PromptTemplateError: It is the active one.
        """
        tenant = resolve_tenant(tenant_id)
        key = (tenant, Identifier(name), version)
        async with self._database.transaction(tenant) as transaction:
            if await transaction.execute(_REMOVE, *key):
                return True
            if await transaction.fetch_value(_CHECKSUM, *key) is None:
                return False
        message = f"Version {version} of the prompt {name!r} is the active one."
        raise PromptTemplateError(
            message, remedy="Activate another first, or deactivate it.", tenant_id=tenant
        )

    async def versions(
        self, name: str, *, tenant_id: str | None = None
    ) -> tuple[PromptVersion, ...]:
        """Return the newest 1000 versions of a prompt, the highest first."""
        tenant = resolve_tenant(tenant_id)
        rows = await self._database.execute_query(
            _VERSIONS, tenant, Identifier(name), _MOST_VERSIONS, tenant_id=tenant
        )
        return tuple(
            PromptVersion(
                version=cast("int", row["version"]),
                checksum=str(row["checksum"]),
                created_at=cast("datetime", row["created_at"]),
                is_active=bool(row["is_active"]),
            )
            for row in rows
        )

    async def find(
        self, name: Identifier, version: int | None, tenant: TenantId
    ) -> PromptTemplate | None:
        """Return a version of a template, the active one when None; None when there is none.

        Raises:
            PromptTemplateError: The stored row holds no template.
            DatabaseError: It could not be read.
        """
        rows = await self._database.execute_query(_FIND, tenant, name, version, tenant_id=tenant)
        if not rows:
            return None
        (row,) = rows
        return await asyncio.to_thread(
            self._workshop.template,
            str(name),
            cast("int", row["version"]),
            str(row["body"]),
            row["declaration"],
        )
