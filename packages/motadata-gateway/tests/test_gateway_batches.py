"""Texts to embed travel together, per tenant; each call pays its share, a bad one fails alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motadata.core.cache import create_memory_cache
from motadata.core.errors import ConfigurationError, GatewayError, ProviderError, ValidationError
from motadata.core.models import Completion, CompletionChunk, Embeddings, Health, Usage
from motadata.core.tenancy import current_tenant
from motadata.gateway import (
    BatchPolicy,
    Call,
    CallNotes,
    ChatRequest,
    Deduplication,
    EmbeddingBatches,
    EmbeddingRequest,
    Governance,
    LLMGateway,
    Proceed,
    create_gateway,
)
from motadata.gateway._usages import split


class Embedder:
    """Embeds a text by its length, and refuses a request that holds the word `bad`."""

    name = "words"
    revision = ""

    def __init__(self) -> None:
        self.requests: list[tuple[str | None, tuple[str, ...]]] = []
        self.busy = 0
        self.busiest = 0
        self.failure: Exception | None = None
        self.failures: dict[int, Exception] = {}
        self.hold: asyncio.Event | None = None
        self.arrived = asyncio.Event()
        self.left = asyncio.Event()

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        number = len(self.requests)
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
        if number in self.failures:
            raise self.failures[number]
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


class Noting:
    """Keeps the notes of every call as they are when it ends, as a usage log would."""

    def __init__(self, notes: list[CallNotes]) -> None:
        self.notes = notes

    async def chat(
        self, call: Call[ChatRequest], proceed: Proceed[ChatRequest, Completion]
    ) -> Completion:
        return await proceed(call)

    async def embedding(
        self, call: Call[EmbeddingRequest], proceed: Proceed[EmbeddingRequest, Embeddings]
    ) -> Embeddings:
        try:
            return await proceed(call)
        finally:
            self.notes.append(replace(call.notes))


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
        texts = [str(number) * 120 for number in range(7)]
        await gateway.embed([*texts, "y" * 900], tenant_id="acme")

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


async def test_what_succeeded_of_a_large_call_is_sent_and_paid_once(provider: Embedder) -> None:
    provider.failures = {2: ProviderError("It failed.", retryable=True)}
    async with gateway_with(provider, BatchPolicy(most_texts=10)) as gateway:
        result = await gateway.embed(["x" * length for length in range(1, 41)], tenant_id="acme")

    assert [ratio(vector) for vector in result.vectors] == list(range(1, 41))
    sent = [texts for _, texts in provider.requests]
    assert len(sent) == 5
    assert sent[2] == sent[4]
    assert result.usage == Usage(28, 0, Decimal("0.0000004"))


async def test_what_succeeded_before_a_call_failed_is_not_sent_again_by_the_next(
    provider: Embedder,
) -> None:
    failed = ProviderError("It failed.", retryable=True)
    provider.failures = {1: failed, 4: failed}
    texts = ["x" * length for length in range(1, 41)]
    notes: list[CallNotes] = []
    gateway = create_gateway(
        [provider],
        default_embedding_model="words/e",
        cache=create_memory_cache(),
        governance=Governance(
            usage=Noting(notes),
            deduplication=Deduplication(),
            batches=EmbeddingBatches(BatchPolicy(most_texts=10)),
        ),
    )
    async with gateway:
        with pytest.raises(ProviderError):
            await gateway.embed(texts, tenant_id="acme")
        result = await gateway.embed(texts, tenant_id="acme")

    assert [ratio(vector) for vector in result.vectors] == list(range(1, 41))
    sent = [texts for _, texts in provider.requests]
    assert [len(each) for each in sent] == [10] * 6
    assert len(set(sent)) == 4
    assert [each.spent for each in notes] == [
        Usage(21, 0, Decimal("0.0000003")),
        Usage(7, 0, Decimal("0.0000001")),
    ]


async def test_large_call_gives_up_what_was_not_sent_when_its_texts_are_refused(
    provider: Embedder,
) -> None:
    policy = BatchPolicy(most_texts=1, most_in_flight=2)
    async with gateway_with(provider, policy) as gateway:
        with pytest.raises(ValidationError):
            await gateway.embed(["bad", *(str(number) for number in range(50))], tenant_id="acme")

    assert len(provider.requests) <= 4


async def test_text_that_occurs_twice_is_sent_once(provider: Embedder) -> None:
    async with gateway_with(provider, BatchPolicy()) as gateway:
        result = await gateway.embed(["aa", "b", "aa"], tenant_id="acme")

    assert provider.requests == [("acme", ("aa", "b"))]
    assert [ratio(vector) for vector in result.vectors] == [2, 1, 2]


async def test_failure_of_the_key_is_not_multiplied(provider: Embedder) -> None:
    provider.failure = ConfigurationError("The key was refused.")
    async with gateway_with(provider, BatchPolicy()) as gateway:
        results = await asyncio.gather(
            *(gateway.embed([str(number)], tenant_id="acme") for number in range(64)),
            return_exceptions=True,
        )

    assert all(isinstance(result, ConfigurationError) for result in results)
    assert len(provider.requests) == 1


async def test_whoever_waits_when_the_gateway_is_closed_is_told_so(provider: Embedder) -> None:
    provider.hold = asyncio.Event()
    policy = BatchPolicy(most_texts=1, most_in_flight=1)
    async with gateway_with(provider, policy) as gateway:
        calls = [
            asyncio.create_task(gateway.embed([str(number)], tenant_id="acme"))
            for number in range(3)
        ]
        await provider.arrived.wait()

    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, GatewayError) for result in results), results


async def test_share_of_one_who_left_is_split_between_those_who_stayed(
    provider: Embedder,
) -> None:
    provider.hold = asyncio.Event()
    notes: list[CallNotes] = []
    governance = Governance(usage=Noting(notes), batches=EmbeddingBatches())
    gateway = create_gateway([provider], default_embedding_model="words/e", governance=governance)
    async with gateway:
        calls = [
            asyncio.create_task(gateway.embed([str(number)], tenant_id="acme"))
            for number in range(10)
        ]
        await provider.arrived.wait()
        for call in calls[:5]:
            call.cancel()
        await asyncio.wait(calls[:5])
        provider.hold.set()
        await asyncio.gather(*calls[5:])

    spent = [each.spent for each in notes]
    assert spent[:5] == [None] * 5
    assert sum(each.cost_usd or 0 for each in spent if each) == Decimal("0.0000001")


@pytest.mark.parametrize("failure", [ValueError("A defect."), GatewayError("Ours.")], ids=str)
async def test_any_failure_reaches_the_caller_as_it_is(
    provider: Embedder, failure: Exception
) -> None:
    provider.failure = failure
    async with gateway_with(provider, BatchPolicy()) as gateway:
        with pytest.raises(type(failure)):
            await gateway.embed(["a"], tenant_id="acme")
