"""Fixtures of real NATS servers: one a test run, and a cluster of three."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio


if TYPE_CHECKING:
    from motadata.core.embedded import EmbeddedNats, EmbeddedNatsCluster


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def embedded_nats(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedNats]:
    """One NATS server with JetStream for the whole test run, or for each of xdist's workers."""
    pytest.importorskip("nats")
    from motadata.core.embedded import EmbeddedNats

    async with EmbeddedNats(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def embedded_nats_cluster(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[EmbeddedNatsCluster]:
    """A NATS cluster of three; who stops one of its servers starts it again."""
    pytest.importorskip("nats")
    from motadata.core.embedded import EmbeddedNatsCluster

    async with EmbeddedNatsCluster(tmp_path_factory.mktemp("nats-cluster")) as cluster:
        yield cluster
