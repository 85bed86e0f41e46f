"""What binds a transaction to one tenant: the script that opens it, the check that ends it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from motadata.core.database._driver import quote_literal
from motadata.core.database._reading import BIND_STATEMENT, RESET_STATEMENT, SEARCH_STATEMENT
from motadata.core.database._wire import execution
from motadata.core.protocols.database import Isolation
from motadata.core.tenancy import TenantId


_LEVELS: Final[Mapping[Isolation, str]] = {
    "read_committed": "begin",
    "repeatable_read": "begin isolation level repeatable read",
    "serializable": "begin isolation level serializable",
}
ISOLATION_LEVELS: Final = tuple(_LEVELS)

_REMEMBERED: Final = 1024

TENANT_CHANGED: Final = "motadata: another tenant"
"""What the failing check says; no statement of a user can end a transaction, so none says it."""


def opening_script(
    tenant: TenantId,
    *,
    isolation: Isolation,
    search_path: str,
    timeout: float,
    settings: Mapping[str, str],
) -> str:
    """Return the script that opens a transaction: one round trip, nothing beyond its end."""
    local = {
        "motadata.tenant_id": str(tenant),
        "search_path": search_path,
        "statement_timeout": _milliseconds(timeout),
        **settings,
    }
    calls = ", ".join(
        f"pg_catalog.set_config({quote_literal(name)}, {quote_literal(value)}, true)"
        for name, value in local.items()
    )
    return f"{_LEVELS[isolation]}; select {calls}"


def closing_check(tenant: TenantId) -> str:
    """Return the statement that fails when the transaction is no longer the tenant's.

    A statement, or a function that it calls, may have set `motadata.tenant_id` itself. What it
    wrote for the other tenant must not be kept.
    """
    condition = (
        "pg_catalog.current_setting('motadata.tenant_id', true)"
        f" is distinct from {quote_literal(str(tenant))}"
    )
    return f"select (case when {condition} then '{TENANT_CHANGED}' end)::pg_catalog.int4"


def read_binding(
    tenant: TenantId, *, search_path: str, timeout: float, neighbours: int | None
) -> bytes:
    """Return the messages that bind the statement after them to the tenant, and to reading.

    Args:
        tenant: Whose rows exist for the statement.
        search_path: Where unqualified names are looked up.
        timeout: Seconds that the statement may take.
        neighbours: For a nearest-neighbour search, how many candidates an index keeps; else None.
    """
    return _read_binding(str(tenant), search_path, _milliseconds(timeout), neighbours)


@lru_cache(maxsize=_REMEMBERED)
def _read_binding(
    tenant: str, search_path: str, milliseconds: str, neighbours: int | None
) -> bytes:
    binding = execution(RESET_STATEMENT)
    binding += execution(BIND_STATEMENT, (tenant, search_path, milliseconds))
    if neighbours is not None:
        binding += execution(SEARCH_STATEMENT, (str(neighbours),))
    return binding


def _milliseconds(seconds: float) -> str:
    # Never less than asked for: what ends before a deadline would not have been ended by it.
    return str(max(1, math.ceil(seconds * 1000)))
