"""The components that core itself brings to a platform: the database and the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import Field, SecretStr

from motadata.core.cache import MemoryCache, create_memory_cache
from motadata.core.platform import ComponentSpec, Platform
from motadata.core.settings import Settings


class DatabaseSettings(Settings, prefix="MOTADATA_DATABASE_"):
    """Where PostgreSQL is.

    Attributes:
        url: `postgresql://` address of the role that the SDK runs as, which must not be able to
            bypass row-level security; None starts the embedded server.
        owner_url: Address of the role that owns the tables, for migrations; None skips them.
        max_connections: Most connections of the pool.
        timeout: Seconds for waiting for a connection and for each statement.
    """

    url: SecretStr | None = None
    owner_url: SecretStr | None = None
    max_connections: int = 10
    timeout: float = 30.0


class DataSettings(Settings):
    """Where the SDK keeps files.

    Attributes:
        data_directory: Folder of the embedded servers, made when absent.
    """

    data_directory: Path = Path(".motadata")


class CacheSettings(Settings, prefix="MOTADATA_CACHE_"):
    """How much the cache holds.

    Attributes:
        max_size: Most entries.
        max_bytes: About how much memory the values may take; None sets no limit.
        ttl: Seconds that an entry lives.
    """

    max_size: int = Field(default=10_000, gt=0)
    max_bytes: int | None = Field(default=256 * 1024 * 1024, gt=0)
    ttl: float = Field(default=3600.0, gt=0, allow_inf_nan=False)


def open_cache(platform: Platform) -> MemoryCache:
    """Build the cache of a platform from its environment.

    Raises:
        ConfigurationError: A setting does not fit.
    """
    settings = CacheSettings.from_environment(platform.environment)
    return create_memory_cache(settings.ttl, settings.max_size, max_bytes=settings.max_bytes)


CACHE: Final = ComponentSpec(name="cache", open=open_cache)

BUILTIN_COMPONENTS: Final = (CACHE,)
