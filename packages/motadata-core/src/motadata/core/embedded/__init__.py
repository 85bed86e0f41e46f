"""Real servers from wheels, for a laptop and for tests: nothing to install, nothing to configure.

    async with EmbeddedPostgres(Path(".motadata/postgres")) as server:
        await apply_migrations(server.owner_dsn, packages, runtime_role=server.runtime_role)
        async with create_database(server.runtime_dsn) as database:
            ...

It needs the extra `embedded`, and Linux or macOS.
"""

from __future__ import annotations

from motadata.core.embedded._credentials import ADMINISTRATOR, OWNER, RUNTIME
from motadata.core.embedded._nats import EmbeddedNats, EmbeddedNatsCluster
from motadata.core.embedded._postgres import EmbeddedPostgres
from motadata.core.embedded._valkey import EmbeddedRedis
from motadata.core.embedded._valkey_cluster import EmbeddedRedisCluster


__all__ = [
    "ADMINISTRATOR",
    "OWNER",
    "RUNTIME",
    "EmbeddedNats",
    "EmbeddedNatsCluster",
    "EmbeddedPostgres",
    "EmbeddedRedis",
    "EmbeddedRedisCluster",
]
