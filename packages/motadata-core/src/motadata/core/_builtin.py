"""The components that core itself brings to a platform: the database and the cache."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import Field, SecretStr

from motadata.core.cache import MemoryCache, TieredCache, create_memory_cache, create_tiered_cache
from motadata.core.errors import ConfigurationError
from motadata.core.platform import ComponentSpec, Platform
from motadata.core.protocols import Database
from motadata.core.settings import Settings


class DatabaseSettings(Settings, prefix="MOTADATA_DATABASE_"):
    """Where PostgreSQL is.

    Attributes:
        url: `postgresql://` address of the role that the SDK runs as, which must not be able to
            bypass row-level security; None starts the embedded server.
        owner_url: Address of the role that owns the tables, for migrations; None skips them.
        max_connections: Most connections of the pool.
        timeout: Seconds for waiting for a connection and for each statement.
        tenant_pools: 0 makes one pool for all tenants; above, each tenant has a pool of its own,
            at most so many at a time.
        statement_cache_size: Prepared statements kept a connection; 0 behind PgBouncer before 1.21.
    """

    url: SecretStr | None = None
    owner_url: SecretStr | None = None
    max_connections: int = Field(default=10, gt=0)
    timeout: float = Field(default=30.0, gt=0, allow_inf_nan=False)
    tenant_pools: int = Field(default=0, ge=0)
    statement_cache_size: int = Field(default=100, ge=0)


class DataSettings(Settings):
    """Where the SDK keeps files.

    Attributes:
        data_directory: Folder of the embedded servers, made when absent.
    """

    data_directory: Path = Path(".motadata")


@asynccontextmanager
async def open_database(platform: Platform) -> AsyncIterator[Database]:
    """Open the database of a platform: the one at the given address, or an embedded one.

    Migrations run first where the owner's address is known, which for the embedded server it is.

    Raises:
        ConfigurationError: A setting does not fit, or the database would not keep tenants apart.
        ConnectionError: The server is not reachable.
        MigrationError: A migration failed.
    """
    from motadata.core.database import apply_migrations, create_database

    settings = DatabaseSettings.from_environment(platform.environment)
    async with AsyncExitStack() as stack:
        if settings.url is None:
            from motadata.core.embedded import EmbeddedPostgres

            directory = DataSettings.from_environment(platform.environment).data_directory
            server = await stack.enter_async_context(EmbeddedPostgres(directory / "postgres"))
            url, role, owner_url = server.runtime_dsn, server.runtime_role, server.owner_dsn
        else:
            url = settings.url.get_secret_value()
            role = _role_of(url)
            owner_url = settings.owner_url.get_secret_value() if settings.owner_url else ""
        if owner_url:
            await apply_migrations(owner_url, platform.migrations, runtime_role=role)
        database = create_database(
            url,
            max_connections=settings.max_connections,
            timeout=settings.timeout,
            tenant_pools=settings.tenant_pools,
            statement_cache_size=settings.statement_cache_size,
        )
        yield await stack.enter_async_context(database)


def _role_of(url: str) -> str:
    """Return the role that an address names."""
    try:
        parts = urlsplit(url)
        role = parts.username or parse_qs(parts.query).get("user", [""])[0]
    except ValueError:
        role = ""
    if not role:
        message = "MOTADATA_DATABASE_URL names no role."
        raise ConfigurationError(
            message, remedy="Write it as postgresql://role:password@host:port/database."
        )
    return unquote(role)


class CacheSettings(Settings, prefix="MOTADATA_CACHE_"):
    """How much the cache holds.

    Attributes:
        max_size: Most entries.
        max_bytes: About how much memory the values may take; None sets no limit.
        ttl: Seconds that an entry lives.
        redis_url: Address of the Redis-protocol server, single or Cluster, that instances share;
            None keeps the cache in memory.
        tenant_max_bytes: About how many bytes one tenant may hold, there or in memory.
    """

    max_size: int = Field(default=10_000, gt=0)
    max_bytes: int | None = Field(default=256 * 1024 * 1024, gt=0)
    ttl: float = Field(default=3600.0, gt=0, allow_inf_nan=False)
    redis_url: SecretStr | None = None
    tenant_max_bytes: int | None = Field(default=None, gt=0)


def open_cache(platform: Platform) -> MemoryCache | TieredCache:
    """Build the cache of a platform from its environment: in memory, or over a server.

    Raises:
        ConfigurationError: A setting does not fit.
        MissingExtraError: A server is named and `redis` is not installed.
    """
    settings = CacheSettings.from_environment(platform.environment)
    if settings.redis_url is not None:
        return create_tiered_cache(
            settings.redis_url,
            default_ttl=settings.ttl,
            max_size=settings.max_size,
            max_bytes=settings.max_bytes,
            tenant_max_bytes=settings.tenant_max_bytes,
        )
    return create_memory_cache(
        settings.ttl,
        settings.max_size,
        max_bytes=settings.max_bytes,
        tenant_max_bytes=settings.tenant_max_bytes,
    )


CACHE: Final = ComponentSpec(name="cache", open=open_cache)

DATABASE: Final = ComponentSpec(name="database", open=open_database)

BUILTIN_COMPONENTS: Final = (DATABASE, CACHE)
