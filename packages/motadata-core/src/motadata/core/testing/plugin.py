"""The pytest plugin: `pytest_plugins = ["motadata.core.testing.plugin"]` in the root conftest.

It brings the fixtures of real servers and lets the conformance kits' assertions explain themselves.
Nothing heavy is imported before a test asks for a fixture that needs it.
"""

from __future__ import annotations

import pytest


pytest.register_assert_rewrite(
    "motadata.core.testing._cache_computations",
    "motadata.core.testing._database_deadlines",
    "motadata.core.testing._database_work",
    "motadata.core.testing.agent",
    "motadata.core.testing.cache",
    "motadata.core.testing.codec",
    "motadata.core.testing.component",
    "motadata.core.testing.database",
    "motadata.core.testing.document_loader",
    "motadata.core.testing.feedback",
    "motadata.core.testing.gate",
    "motadata.core.testing.gateway",
    "motadata.core.testing.guardrail",
    "motadata.core.testing.ingestion_service",
    "motadata.core.testing.knowledge_base",
    "motadata.core.testing.memory",
    "motadata.core.testing.message_bus",
    "motadata.core.testing.predictor",
    "motadata.core.testing.resilience",
    "motadata.core.testing.usage_reader",
)

from motadata.core.testing._database_fixtures import (  # noqa: E402 - the kits' rewriting comes first
    DatabaseDsns,
    database,
    database_dsns,
    embedded_postgres,
    migration_packages,
)
from motadata.core.testing._nats_fixtures import (  # noqa: E402 - as above
    embedded_nats,
    embedded_nats_cluster,
)
from motadata.core.testing._openai_fixtures import (  # noqa: E402 - as above
    openai_server,
    openai_server_process,
)
from motadata.core.testing._redis_fixtures import (  # noqa: E402 - as above
    embedded_redis,
    embedded_redis_cluster,
)


__all__ = [
    "DatabaseDsns",
    "database",
    "database_dsns",
    "embedded_nats",
    "embedded_nats_cluster",
    "embedded_postgres",
    "embedded_redis",
    "embedded_redis_cluster",
    "migration_packages",
    "openai_server",
    "openai_server_process",
]
