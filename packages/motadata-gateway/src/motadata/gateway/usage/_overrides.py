"""A tenant's own prices, in place of the listed ones: discounts, contracts, models of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

import orjson

from motadata.core.errors import ConfigurationError
from motadata.core.protocols import Database
from motadata.core.tenancy import resolve_tenant
from motadata.gateway.usage._prices import ModelPrices, PriceTable, as_prices


_LONGEST_NAME: Final = 256

_SET: Final = """
insert into motadata.gateway_price (tenant_id, model, prices) values ($1, $2, $3::text::jsonb)
on conflict (tenant_id, model) do update set prices = excluded.prices, changed_at = now()
returning model
"""
_DROP: Final = """
delete from motadata.gateway_price where tenant_id = $1 and model = $2 returning model
"""
_LIST: Final = """
select model, prices::text as prices from motadata.gateway_price where tenant_id = $1 order by model
"""


class PriceOverrides:
    """Keeps tenants' own prices in PostgreSQL.

    A running gateway takes a change up within a minute.

    Args:
        database: `motadata.gateway.migrations` has run there.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, model: str, prices: ModelPrices, *, tenant_id: str | None = None) -> None:
        """Set the tenant's prices of a model, in place of those that it had.

        Args:
            model: `provider/model`, as calls name it.
            prices: What it costs; nothing is taken from the listed prices.
            tenant_id: None means the tenant of the scope.

        Raises:
            ConfigurationError: The name is none, or what are given are no prices.
            TenantRequiredError: No tenant is given and none is in scope.
            DatabaseError: It was not stored.
        """
        tenant = resolve_tenant(tenant_id)
        _check(model, prices, tenant)
        body = prices.model_dump_json(exclude_defaults=True)
        await self._database.execute_query(_SET, tenant, model, body, tenant_id=tenant)

    async def drop(self, model: str, *, tenant_id: str | None = None) -> bool:
        """Let the listed prices of a model count again, and tell whether there were others.

        Raises:
            TenantRequiredError: No tenant is given and none is in scope.
            DatabaseError: Nothing was changed.
        """
        tenant = resolve_tenant(tenant_id)
        return bool(await self._database.execute_query(_DROP, tenant, model, tenant_id=tenant))

    async def all(self, *, tenant_id: str | None = None) -> Mapping[str, ModelPrices]:
        """Return the tenant's own prices by model.

        Raises:
            TenantRequiredError: No tenant is given and none is in scope.
            DatabaseError: They could not be read.
        """
        listed = await self._listed(resolve_tenant(tenant_id), None)
        return {model: as_prices(model, prices) for model, prices in listed.items()}

    async def table(self, *, tenant_id: str | None = None, timeout: float) -> PriceTable | None:
        """Return the tenant's own prices as a table; None when it has none.

        Args:
            tenant_id: None means the tenant of the scope.
            timeout: Seconds to wait for them.

        Raises:
            TenantRequiredError: No tenant is given and none is in scope.
            DatabaseError: They could not be read.
            ConfigurationError: What is stored are no prices.
        """
        listed = await self._listed(resolve_tenant(tenant_id), timeout)
        if not listed:
            return None
        for model, prices in listed.items():
            as_prices(model, prices)
        digest = hashlib.sha256(orjson.dumps(listed, option=orjson.OPT_SORT_KEYS)).hexdigest()
        return PriceTable(listed, version=f"own-{digest[:12]}")

    async def _listed(self, tenant: str, timeout: float | None) -> dict[str, object]:
        rows = await self._database.execute_query(_LIST, tenant, tenant_id=tenant, timeout=timeout)
        return {str(row["model"]): orjson.loads(str(row["prices"])) for row in rows}


def _check(model: object, prices: object, tenant: str) -> None:
    is_name = isinstance(model, str) and 0 < len(model) <= _LONGEST_NAME and "/" in model
    if not is_name or "\0" in str(model):
        message = f"model={model!r} is not `provider/model`."
        raise ConfigurationError(message, remedy="Name it as calls do.", tenant_id=tenant)
    if not isinstance(prices, ModelPrices):
        message = f"prices={prices!r} are no prices."
        raise ConfigurationError(
            message, remedy="Pass ModelPrices(input=…, output=…).", tenant_id=tenant
        )
