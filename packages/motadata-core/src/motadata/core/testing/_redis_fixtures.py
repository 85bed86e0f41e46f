"""Fixtures of real Redis-protocol servers: one a test run, and a cluster of three and three."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio


if TYPE_CHECKING:
    from motadata.core.embedded import EmbeddedRedis, EmbeddedRedisCluster


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def embedded_redis(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedRedis]:
    """One server for the whole test run, or for each of xdist's workers; nobody stops it."""
    pytest.importorskip("redis")
    from motadata.core.embedded import EmbeddedRedis

    async with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def embedded_redis_cluster(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[EmbeddedRedisCluster]:
    """A cluster of three masters and three replicas; who kills one of them starts it again."""
    pytest.importorskip("redis")
    from motadata.core.embedded import EmbeddedRedisCluster

    async with EmbeddedRedisCluster(tmp_path_factory.mktemp("redis-cluster")) as cluster:
        yield cluster
