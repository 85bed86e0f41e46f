"""Gives large tenants a vector index of their own, and takes it away when they shrink.

One index over all tenants serves the small ones badly: their rows are lost among the others'. Below
some thousand vectors an exact search is faster and misses nothing; above, a partial HNSW index
`WHERE tenant_id = …` is. `vector_search` needs no word of which there is: the planner sees it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal

from motadata.core.database import _identifiers as identifiers
from motadata.core.database._audit import search_path
from motadata.core.database._driver import (
    Connection,
    connection_failures,
    load_driver,
    quote_literal,
    vector_schema,
)
from motadata.core.database._failures import message_of, unreachable
from motadata.core.errors import ConfigurationError, QueryError
from motadata.core.protocols.database import Metric, Precision
from motadata.core.tenancy import TenantId


_OPERATOR_CLASSES: Final[dict[Metric, str]] = {
    "cosine": "cosine_ops",
    "l2": "l2_ops",
    "inner_product": "ip_ops",
}
_TYPES: Final[dict[Precision, str]] = {"full": "vector", "half": "halfvec"}
_LARGE: Final = 10_000
_MARK: Final = "motadata vector index of tenant "
_LOCK_KEY: Final = 0x6D6F7476  # "motv"; runs queue up

_EXISTING: Final = """
select i.relname::text as name, x.indisvalid as valid,
       substr(obj_description(i.oid, 'pg_class'), $2::int + 1) as tenant
from pg_catalog.pg_index x
join pg_catalog.pg_class i on i.oid = x.indexrelid
where x.indrelid = to_regclass($1) and i.relname like 'tenant\\_hnsw\\_%'
"""


@dataclass(frozen=True, slots=True)
class VectorIndexChange:
    """What a run did for a tenant.

    Attributes:
        tenant_id: Whose index it is.
        index: Its name.
        action: Whether it is there now, or gone.
    """

    tenant_id: str
    index: str
    action: Literal["built", "dropped"]


@dataclass(frozen=True, slots=True)
class VectorIndexPlan:
    """Which index a large tenant gets.

    Attributes:
        table: Table or `schema.table`.
        column: Where the vectors are, of type `vector(n)` or `halfvec(n)`.
        metric: As in `vector_search`; an index serves one metric.
        precision: `half` compares in 16 bits, in half the space; search with the same precision.
        large: Vectors from which on a tenant gets an index; it keeps it down to half of that.
        connections: HNSW's `m`.
        candidates: HNSW's `ef_construction`.
    """

    table: str
    column: str = "embedding"
    metric: Metric = "cosine"
    precision: Precision = "full"
    large: int = _LARGE
    connections: int = 16
    candidates: int = 64

    def name(self, tenant: TenantId) -> str:
        """Return the name of a tenant's index: the same for the same plan, no other's."""
        table = self.table.rpartition(".")[2]
        identity = f"{table}\n{self.column}\n{self.metric}\n{self.precision}\n{tenant}"
        return f"tenant_hnsw_{hashlib.sha256(identity.encode()).hexdigest()[:32]}"


async def maintain_vector_indexes(
    owner_dsn: str, plan: VectorIndexPlan, *, tenants: Iterable[str], timeout: float = 3600.0
) -> list[VectorIndexChange]:
    """Build the indexes that large tenants lack, and drop those of tenants that have shrunk.

    To be called now and then by whoever runs the platform, not by its service: it takes the role
    that owns the table. Indexes are built and dropped CONCURRENTLY, so that nobody waits. A run
    that is cut short leaves at most one index invalid; the next run builds it anew.

    Args:
        owner_dsn: Address of the role that owns the table.
        plan: Which index.
        tenants: Whose sizes to look at, for row-level security lets nobody list them. Tenants that
            have an index by this plan are looked at in any case.
        timeout: Seconds for each statement.

    Raises:
        MissingExtraError: The extra `postgres` is not installed.
        ConfigurationError: The address is malformed, or the extension `vector` is not installed.
        InvalidIdentifierError: A tenant breaks the grammar.
        QueryError: A name is no SQL identifier, the column has no dimensions, or the database
            refused.
        ConnectionError: The server is not reachable.
    """
    wanted = [TenantId(tenant) for tenant in tenants]
    table = identifiers.table(plan.table)
    changes: list[VectorIndexChange] = []
    async with _connected(owner_dsn, timeout) as connection:
        column = await _indexed_expression(connection, plan, table)
        existing = await _existing(connection, plan, table)
        for tenant in dict.fromkeys([*wanted, *existing]):
            name, is_valid = plan.name(tenant), existing.get(tenant)
            least = plan.large if is_valid is None else max(1, plan.large // 2)
            is_large = await _has_vectors(connection, plan, table, tenant, least)
            if is_valid is not None and not (is_large and is_valid):
                await _drop(connection, plan.table, name)
                if not is_large:
                    changes.append(VectorIndexChange(str(tenant), name, "dropped"))
            if is_large and not is_valid:
                await _build(connection, plan, table=table, column=column, tenant=tenant)
                changes.append(VectorIndexChange(str(tenant), name, "built"))
    return changes


@asynccontextmanager
async def _connected(owner_dsn: str, timeout: float) -> AsyncIterator[Connection]:
    driver = load_driver()
    try:
        connection = await driver.connect(owner_dsn, timeout=30.0, command_timeout=timeout)
    except ValueError:
        # Without its cause, which quotes the address and with it the password.
        message = "The address of the owner role is malformed."
        raise ConfigurationError(
            message, remedy="Write it as postgresql://role:password@host:port/database."
        ) from None
    except connection_failures() as error:
        raise unreachable(error) from error
    try:
        schema = await vector_schema(connection)
        if schema is None:
            message = "The database lacks the extension 'vector'."
            raise ConfigurationError(message, remedy="Apply the migrations first.")
        await connection.fetchval(
            "select set_config('search_path', $1, false)", search_path(schema)
        )
        await connection.fetchval("select pg_advisory_lock($1)", _LOCK_KEY)
        yield connection
    except (OSError, driver.PostgresConnectionError, driver.InterfaceError) as error:
        raise unreachable(error) from error
    except driver.PostgresError as error:
        message = f"The database refused (SQLSTATE {error.sqlstate}): {message_of(error)}."
        raise QueryError(message, remedy="Check the plan and the rights of the role.") from error
    finally:
        # Closing also gives the lock back. A server that does not answer gets five seconds.
        try:
            async with asyncio.timeout(5.0):
                await connection.close()
        except connection_failures():
            connection.terminate()


async def _indexed_expression(connection: Connection, plan: VectorIndexPlan, table: str) -> str:
    """Return what the index holds, with its operator class."""
    column = identifiers.column(plan.column)
    shown = await connection.fetchval(
        "select format_type(atttypid, atttypmod) from pg_catalog.pg_attribute"
        " where attrelid = to_regclass($1) and attname = $2 and not attisdropped",
        table,
        plan.column,
    )
    kind, _, dimensions = str(shown).rpartition(".")[2].rstrip(")").partition("(")
    if kind not in _TYPES.values() or not dimensions:
        message = f"{plan.column!r} of {plan.table!r} is no vector of a number of dimensions."
        raise QueryError(message, remedy="Give the column the type vector(n) or halfvec(n).")
    if plan.precision == "half" and kind == "vector":
        column, kind = f"({column}::halfvec({dimensions}))", "halfvec"
    return f"{column} {kind}_{_OPERATOR_CLASSES[plan.metric]}"


async def _existing(
    connection: Connection, plan: VectorIndexPlan, table: str
) -> dict[TenantId, bool]:
    """Return the tenants that have an index by the plan, and whether it is valid."""
    found: dict[TenantId, bool] = {}
    for row in await connection.fetch(_EXISTING, table, len(_MARK)):
        # Without a comment, or with another's, it is an index that a run cut short left behind, or
        # one of another plan: the former is found again by its name when its tenant is looked at.
        if row["tenant"] and row["name"] == plan.name(tenant := TenantId(str(row["tenant"]))):
            found[tenant] = bool(row["valid"])
    return found


async def _has_vectors(
    connection: Connection, plan: VectorIndexPlan, table: str, tenant: TenantId, least: int
) -> bool:
    """Tell whether a tenant has that many vectors; the owner, too, must say whose rows it reads."""
    column = identifiers.column(plan.column)
    async with connection.transaction():
        await connection.fetchval("select set_config('motadata.tenant_id', $1, true)", str(tenant))
        count = await connection.fetchval(
            f"select count(*) from (select from {table}"  # noqa: S608 - names are validated and quoted
            f" where tenant_id = $1 and {column} is not null limit $2) as found",
            str(tenant),
            least,
        )
    return count == least


async def _drop(connection: Connection, table: str, name: str) -> None:
    schema, _, _ = table.rpartition(".")
    shown = f"{identifiers.column(schema)}.{name}" if schema else name
    await connection.execute(f"drop index concurrently if exists {shown}")


async def _build(
    connection: Connection, plan: VectorIndexPlan, *, table: str, column: str, tenant: TenantId
) -> None:
    name = plan.name(tenant)
    await _drop(connection, plan.table, name)  # what a run cut short has left
    await connection.execute(
        f"create index concurrently {name} on {table} using hnsw ({column})"
        f" with (m = {int(plan.connections)}, ef_construction = {int(plan.candidates)})"
        f" where tenant_id = {quote_literal(str(tenant))}"
    )
    schema, _, _ = plan.table.rpartition(".")
    shown = f"{identifiers.column(schema)}.{name}" if schema else name
    await connection.execute(f"comment on index {shown} is {quote_literal(_MARK + tenant)}")
