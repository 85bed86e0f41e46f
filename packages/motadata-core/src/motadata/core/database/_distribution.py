"""Looks for what would keep tables from being distributed by tenant, as Citus does."""

from __future__ import annotations

from importlib import resources

from motadata.core.database._audit import Finding, findings
from motadata.core.database._driver import connection_failures, load_driver
from motadata.core.database._failures import unreachable
from motadata.core.errors import ConfigurationError


async def audit_distribution(dsn: str, *, schema: str = "motadata") -> list[Finding]:
    """Return what keeps tables of a schema from `create_distributed_table(…, 'tenant_id')`.

    That is a primary, unique or exclusion key without `tenant_id`, a foreign key that does not tie
    one tenant's rows to each other, a sequence, a trigger, a rule, inheritance, or a tenant of
    another type. Nothing at all means that each table can be distributed, colocated with the rest.

    Args:
        dsn: Address of any role; only catalogs are read.
        schema: Whose tables.

    Raises:
        MissingExtraError: The extra `postgres` is not installed.
        ConfigurationError: The address is malformed.
        ConnectionError: The server is not reachable.
    """
    driver = load_driver()
    try:
        connection = await driver.connect(dsn, timeout=30.0, command_timeout=30.0)
        try:
            return await findings(connection, _sql(), schema)
        finally:
            await connection.close(timeout=5.0)
    except ValueError:
        # Without its cause, which quotes the address and with it the password.
        message = "The database address is malformed."
        raise ConfigurationError(
            message, remedy="Write it as postgresql://role:password@host:port/database."
        ) from None
    except connection_failures() as error:
        raise unreachable(error) from error


def _sql() -> str:
    return (resources.files("motadata.core.database") / "distribution.sql").read_text("utf-8")
