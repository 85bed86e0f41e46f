"""All ways through the gateway keep the contract: offline models, the native lane, and litellm."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from motadata.core.cache import create_memory_cache
from motadata.core.protocols import Gateway
from motadata.core.testing.gateway import GatewayConformance
from motadata.core.testing.openai_server import OpenAIServer
from motadata.gateway import create_gateway
from motadata.gateway._litellm_module import loaded


class TestOfflineModels(GatewayConformance):
    unknown_model = "motadata/no-such-model"

    @pytest.fixture
    async def gateway(self) -> AsyncIterator[Gateway]:
        async with create_gateway() as made:
            yield made


class TestOfflineModelsWithCache(GatewayConformance):
    caches = True

    @pytest.fixture
    async def gateway(self) -> AsyncIterator[Gateway]:
        async with create_gateway(cache=create_memory_cache()) as made:
            yield made


# litellm's own types make pydantic complain when they are first used.
@pytest.mark.filterwarnings("ignore:.*`ReadOnly` qualifier:UserWarning")
@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince211")
class TestLitellm(GatewayConformance):
    caches = True

    @pytest.fixture
    async def gateway(self, openai_server: OpenAIServer) -> AsyncIterator[Gateway]:
        # Where it was never imported, compiling it takes longer than a call may.
        await loaded()
        async with create_gateway(
            ["litellm:openai"],
            "openai/gpt-4o-mini",
            {"openai": "sk-test"},
            default_embedding_model="openai/text-embedding-3-small",
            base_urls={"openai": openai_server.url},
            cache=create_memory_cache(),
            timeout=110.0,
        ) as made:
            yield made


class TestNativeProvider(GatewayConformance):
    caches = True

    @pytest.fixture
    async def gateway(self, openai_server: OpenAIServer) -> AsyncIterator[Gateway]:
        async with create_gateway(
            ["openai"],
            "openai/gpt-4o-mini",
            {"openai": "sk-test"},
            default_embedding_model="openai/text-embedding-3-small",
            base_urls={"openai": openai_server.url},
            cache=create_memory_cache(),
        ) as made:
            yield made
