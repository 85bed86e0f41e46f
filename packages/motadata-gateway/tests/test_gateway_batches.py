"""Texts to embed travel together, per tenant; each call pays its share, a bad one fails alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motadata.core.errors import ConfigurationError, ProviderError, ValidationError
from motadata.core.models import Completion, CompletionChunk, Embeddings, Health, Usage
from motadata.core.tenancy import current_tenant
from motadata.gateway import (
    BatchPolicy,
    ChatRequest,
    EmbeddingBatches,
    EmbeddingRequest,
    Governance,
    LLMGateway,
    create_gateway,
)
from motadata.gateway._embedding_batches import split


class Embedder:
    """Embeds a text by its length, and refuses a request that holds the word `bad`."""

    name = "words"
    revision = ""

    def __init__(self) -> None:
        self.requests: list[tuple[str | None, tuple[str, ...]]] = []
        self.busy = 0
        self.busiest = 0
        self.failure: Exception | None = None
        self.hold: asyncio.Event | None = None
        self.arrived = asyncio.Event()
        self.left = asyncio.Event()

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        self.requests.append((current_tenant(), request.texts))
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        self.arrived.set()
        try:
            await (self.hold.wait() if self.hold else asyncio.sleep(0))
        finally:
            self.busy -= 1
            self.left.set()
        if self.failure:
            raise self.failure
        if any("bad" in text for text in request.texts):
            raise ValidationError("A text was refused.")
        vectors = tuple((float(len(text)), 1.0) for text in request.texts)
        return Embeddings(vectors, request.model, Usage(7, 0, Decimal("0.0000001")))

    async def complete(self, request: ChatRequest) -> Completion:
        return Completion("", request.model)

    async def stream(self, request: ChatRequest) -> AsyncIterator[CompletionChunk]:
        yield CompletionChunk("", "stop")

    async def health(self) -> Health:
        return Health("ok")

    async def aclose(self) -> None:
        return None


@pytest.fixture
def provider() -> Embedder:
    return Embedder()


def gateway_with(provider: Embedder, policy: BatchPolicy) -> LLMGateway:
    return create_gateway(
        [provider],
        default_embedding_model="words/e",
        governance=Governance(batches=EmbeddingBatches(policy)),
    )


def ratio(vector: tuple[float, ...]) -> int:
    return round(vector[0] / vector[1])


async def test_single_texts_of_one_turn_share_a_request_and_keep_their_places(
    provider: Embedder,
) -> None:
    async with gateway_with(provider, BatchPolicy()) as gateway:
        results = await asyncio.gather(
            *(gateway.embed(["x" * length], tenant_id="acme") for length in range(1, 513))
        )

    assert len(provider.requests) <= 16
    assert [ratio(result.vectors[0]) for result in results] == list(range(1, 513))


async def test_shares_of_the_cost_add_up_exactly(provider: Embedder) -> None:
    async with gateway_with(provider, BatchPolicy(most_texts=3)) as gateway:
        results = await asyncio.gather(
            *(gateway.embed(["x" * length], tenant_id="acme") for length in range(1, 8))
        )

    requests = len(provider.requests)
    assert sum(result.usage.cost_usd or 0 for result in results) == requests * Decimal("0.0000001")
    assert sum(result.usage.input_tokens for result in results) == requests * 7


async def test_large_call_is_cut_to_what_the_provider_takes(provider: Embedder) -> None:
    policy = BatchPolicy(most_texts=10, most_in_flight=2)
    async with gateway_with(provider, policy) as gateway:
        result = await gateway.embed(["x" * length for length in range(1, 96)], tenant_id="acme")

    assert [ratio(vector) for vector in result.vectors] == list(range(1, 96))
    assert [len(texts) for _, texts in provider.requests] == [10] * 9 + [5]
    assert provider.busiest == 2


async def test_request_holds_no_more_tokens_than_allowed(provider: Embedder) -> None:
    async with gateway_with(provider, BatchPolicy(most_tokens=100)) as gateway:
        await gateway.embed(["x" * 120] * 7 + ["y" * 900], tenant_id="acme")

    assert [len(texts) for _, texts in provider.requests] == [2, 2, 2, 1, 1]


async def test_tenants_never_share_a_request(provider: Embedder) -> None:
    async with gateway_with(provider, BatchPolicy()) as gateway:
        await asyncio.gather(
            *(
                gateway.embed([f"{tenant} {number}"], tenant_id=tenant)
                for number in range(50)
                for tenant in ("acme", "globex")
            )
        )

    assert provider.requests
    for tenant, texts in provider.requests:
        assert tenant is not None
        assert {text.split()[0] for text in texts} == {tenant}


async def test_bad_text_fails_its_own_call_only(provider: Embedder) -> None:
    async with gateway_with(provider, BatchPolicy()) as gateway:
        results = await asyncio.gather(
            *(
                gateway.embed(["bad" if number == 37 else "good"], tenant_id="acme")
                for number in range(64)
            ),
            return_exceptions=True,
        )

    failed = [number for number, result in enumerate(results) if isinstance(result, Exception)]
    assert failed == [37]
    assert isinstance(results[37], ValidationError)


async def test_failure_of_the_provider_is_everybodys_and_is_not_multiplied(
    provider: Embedder,
) -> None:
    provider.failure = ProviderError("It is down.", retryable=True)
    async with gateway_with(provider, BatchPolicy()) as gateway:
        results = await asyncio.gather(
            *(gateway.embed([str(number)], tenant_id="acme") for number in range(64)),
            return_exceptions=True,
        )

    assert all(isinstance(result, ProviderError) for result in results)
    assert len(provider.requests) == 1


async def test_one_who_leaves_takes_nothing_from_the_others(provider: Embedder) -> None:
    provider.hold = asyncio.Event()
    async with gateway_with(provider, BatchPolicy()) as gateway:
        calls = [
            asyncio.create_task(gateway.embed([str(number)], tenant_id="acme"))
            for number in range(10)
        ]
        await provider.arrived.wait()
        for call in calls[:5]:
            call.cancel()
        await asyncio.wait(calls[:5])
        provider.hold.set()
        results = await asyncio.gather(*calls[5:])

    assert len(results) == 5
    assert len(provider.requests) == 1


async def test_request_is_cancelled_when_nobody_waits_for_it(provider: Embedder) -> None:
    provider.hold = asyncio.Event()
    batches = EmbeddingBatches()
    gateway = create_gateway(
        [provider], default_embedding_model="words/e", governance=Governance(batches=batches)
    )
    async with gateway:
        call = asyncio.create_task(gateway.embed(["a"], tenant_id="acme"))
        await provider.arrived.wait()
        call.cancel()
        await asyncio.wait({call})
        await provider.left.wait()
        await asyncio.sleep(0)

        assert not batches._lanes


async def test_texts_that_take_too_long_are_a_typed_error(provider: Embedder) -> None:
    provider.hold = asyncio.Event()
    async with gateway_with(provider, BatchPolicy()) as gateway:
        with pytest.raises(ProviderError, match=r"within 0\.05 s"):
            await gateway.embed(["a"], timeout=0.05, tenant_id="acme")


@pytest.mark.parametrize("name", ["most_texts", "most_tokens", "most_in_flight", "linger"], ids=str)
def test_policy_refuses_numbers_that_cannot_work(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        BatchPolicy(**{name: -1})  # type: ignore[arg-type]  # the names are the policy's own


@given(
    st.integers(0, 10**9),
    st.decimals(0, 1000, places=9),
    st.lists(st.integers(1, 10**6), min_size=1, max_size=50),
)
def test_any_split_adds_up(tokens: int, cost: Decimal, weights: list[int]) -> None:
    shares = split(Usage(tokens, 0, cost), weights)

    assert sum(share.input_tokens for share in shares) == tokens
    assert sum(share.cost_usd or Decimal(0) for share in shares) == cost
    assert all(share.input_tokens >= 0 for share in shares)
