"""Looks for what would let one tenant meet another's rows: roles, tables, policies, keys."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Final

from motadata.core.database._driver import MINIMUM_PGVECTOR, Connection, quote_name, vector_schema
from motadata.core.errors import ConfigurationError


_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """What an audit found: about what kind of thing, which, and what is wrong with it.

    Attributes:
        kind: Such as `table` or `role`.
        name: Which one.
        finding: What is wrong with it, to be read after the name.
    """

    kind: str
    name: str
    finding: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r} {self.finding}"


async def find_holes(connection: Connection, runtime_role: str) -> list[Finding]:
    """Return what would let `runtime_role` see or touch rows of another tenant."""
    return await findings(connection, _audit_sql(), runtime_role)


async def findings(connection: Connection, sql: str, argument: str) -> list[Finding]:
    """Return the findings of an audit: rows of kind, name and finding."""
    rows = await connection.fetch(sql, argument)
    return [Finding(*(str(row[name]) for name in ("kind", "name", "finding"))) for row in rows]


async def check_role_and_tables(connection: Connection) -> str:
    """Return the search path for this database once it is known to be safe.

    Raises:
        ConfigurationError: It is not, or the vector extension is absent or too old.
    """
    role = str(await connection.fetchval("select current_user::text"))
    holes = await find_holes(connection, role)
    if holes:
        message = f"Tenants would not be kept apart: {describe(holes)}."
        raise ConfigurationError(
            message,
            remedy="Connect as a role made for the SDK (LOGIN NOSUPERUSER NOBYPASSRLS, owner of"
            " nothing), and isolate each table with motadata.isolate('table').",
        )
    schema = await check_vector_extension(connection)
    return search_path(schema)


async def check_vector_extension(connection: Connection) -> str:
    """Return the schema of the vector extension.

    Raises:
        ConfigurationError: It is not installed, or older than what the SDK can trust.
    """
    schema = await vector_schema(connection)
    needed = ".".join(map(str, MINIMUM_PGVECTOR))
    if schema is None:
        message = "The database lacks the extension 'vector'."
        raise ConfigurationError(
            message,
            remedy="Apply the migrations; where their role may not install it, have an"
            f" administrator run CREATE EXTENSION vector (pgvector {needed} or later).",
        )
    version = str(
        await connection.fetchval(
            "select extversion from pg_catalog.pg_extension where extname = 'vector'"
        )
    )
    if _as_numbers(version) < MINIMUM_PGVECTOR:
        message = f"The extension 'vector' is of version {version!r}; {needed} is needed."
        raise ConfigurationError(
            message,
            remedy="Install a newer pgvector, and have an administrator run"
            " ALTER EXTENSION vector UPDATE.",
        )
    return schema


def search_path(extension_schema: str) -> str:
    """Return where unqualified names are looked up: our tables, then the vector type."""
    names = dict.fromkeys(("motadata", extension_schema, "public"))
    return ", ".join(quote_name(name) for name in names)


def describe(holes: list[Finding]) -> str:
    """Return the first few findings as one line."""
    shown = "; ".join(map(str, holes[:_SHOWN]))
    more = len(holes) - _SHOWN
    return f"{shown}; and {more} more" if more > 0 else shown


def _audit_sql() -> str:
    return (resources.files("motadata.core.database") / "audit.sql").read_text("utf-8")


def _as_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
