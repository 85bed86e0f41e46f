"""Answers kept in Redis and in PostgreSQL stay with their tenant, whatever its name looks like."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from uuid import uuid4

import pytest

from motadata.core.cache import create_redis_cache
from motadata.core.embedded import EmbeddedRedis
from motadata.core.models import Completion, CompletionChunk, Embeddings, Health, Usage
from motadata.core.protocols import Database
from motadata.core.tenancy import current_tenant
from motadata.gateway import (
    ChatRequest,
    Deduplication,
    EmbeddingRequest,
    Governance,
    SemanticCache,
    SemanticPolicy,
    create_gateway,
)


QUESTIONS = ("How is the printer mended?", "What mends a printer?", "Is the printer mended?")


class Telling:
    """A provider that says whose question it answers."""

    name = "telling"
    revision = ""

    async def complete(self, request: ChatRequest) -> Completion:
        await asyncio.sleep(0)
        return Completion(f"{current_tenant()}|", request.model, usage=Usage(1, 1))

    async def stream(self, request: ChatRequest) -> AsyncIterator[CompletionChunk]:
        yield CompletionChunk(f"{current_tenant()}|")
        yield CompletionChunk("", "stop", usage=Usage(1, 1))

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        raise NotImplementedError

    async def health(self) -> Health:
        return Health("ok")

    async def aclose(self) -> None:
        return None


class Same:
    """Embeds all questions alike: they mean the same."""

    async def embed(
        self,
        texts: Sequence[str],
        *,
        model: str | None = None,
        tenant_id: str | None = None,
    ) -> Embeddings:
        return Embeddings(tuple((1.0, 0.0) for _ in texts), "same")


def alike() -> tuple[str, ...]:
    """Return tenants that are prefixes and case variants of each other, new ones each time."""
    name = f"acme{uuid4().hex[:8]}"
    return (name, f"{name}1", f"{name}-1", f"{name}_1", name.upper(), name.capitalize(), name[:-1])


@pytest.mark.parametrize("kind", ["redis", "semantic"])
async def test_look_alike_tenants_get_their_own_answers_from_every_store(
    kind: str, database: Database, embedded_redis: EmbeddedRedis
) -> None:
    chance = random.Random(7)
    tenants = alike()
    answered: list[tuple[str, Completion]] = []

    async def ask(tenant: str) -> None:
        for _ in range(chance.randrange(5)):
            await asyncio.sleep(0)
        question = chance.choice(QUESTIONS)
        answered.append((tenant, await gateway.generate_async(question, tenant_id=tenant)))

    async with create_redis_cache(embedded_redis.url) as redis:
        semantic = SemanticCache(database, Same(), SemanticPolicy()) if kind == "semantic" else None
        gateway = create_gateway(
            [Telling()],
            "telling/m",
            cache=redis if kind == "redis" else None,
            governance=Governance(semantic_cache=semantic, deduplication=Deduplication()),
        )
        async with gateway:
            for _ in range(10):
                calls = [asyncio.create_task(ask(chance.choice(tenants))) for _ in range(30)]
                for call in chance.sample(calls, 10):
                    call.cancel()
                await asyncio.gather(*calls, return_exceptions=True)

    assert {tenant for tenant, _ in answered} == set(tenants)
    assert sum(answer.cached for _, answer in answered) > len(answered) / 4
    assert [answer.text for _, answer in answered] == [f"{tenant}|" for tenant, _ in answered]
    assert all(answer.usage.input_tokens == 0 for _, answer in answered if answer.cached)


async def test_answer_that_many_share_is_kept_once(database: Database) -> None:
    tenant = alike()[0]
    governance = Governance(
        semantic_cache=SemanticCache(database, Same()), deduplication=Deduplication()
    )
    async with create_gateway([Telling()], "telling/m", governance=governance) as gateway:
        await asyncio.gather(
            *(gateway.generate_async(QUESTIONS[0], tenant_id=tenant) for _ in range(20))
        )

    rows = await database.execute_query(
        "select count(*) as kept from motadata.semantic_answer", tenant_id=tenant
    )
    # The calls look for an answer one after the other; those that come late begin another one.
    assert 1 <= int(str(rows[0]["kept"])) < 20
