"""What the gateway shares, in a storm: never across tenants, never wrong, every charge on one bill.

Tenants are named so that they are taken for each other easily, and ask the same things at the same
time with the same seeds, while half of the calls are given up and some requests fail.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Final

import pytest

from motadata.core.cache import create_memory_cache
from motadata.core.errors import ProviderError, SDKError, ValidationError
from motadata.core.models import Completion, CompletionChunk, Embeddings, Health, Usage
from motadata.core.tenancy import current_tenant
from motadata.gateway import (
    BatchPolicy,
    Call,
    CallNotes,
    ChatOptions,
    ChatRequest,
    Deduplication,
    EmbeddingBatches,
    EmbeddingRequest,
    Governance,
    Limits,
    LLMGateway,
    Proceed,
    Rate,
    create_gateway,
)


TENANTS: Final = ("acme", "acme1", "Acme", "ACME", "acme-1", "acme_1", "acm", "acme-acme", "1acme")
PROMPTS: Final = ("Hi", "Hi ", "hi", "acme", "acme1", "1", "-1", "acme:Hi")
PRICE: Final = Decimal("0.000001")


def direction(tenant: str, text: str) -> tuple[float, ...]:
    """Return a vector that nothing but this text of this tenant has."""
    digest = hashlib.sha256(json.dumps([tenant, text]).encode()).digest()
    return tuple(float(byte) + 1.0 for byte in digest[:8])


def same_direction(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    scale = sum(value * value for value in other) ** 0.5
    return all(abs(mine - value / scale) < 1e-6 for mine, value in zip(one, other, strict=True))


class Telling:
    """A provider that says whose request it answers, and keeps the bill by tenant."""

    name = "telling"
    revision = ""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.bill: Counter[str] = Counter()
        self.requests = 0
        self.busy = 0

    async def complete(self, request: ChatRequest) -> Completion:
        tenant = await self._worked()
        self.bill[tenant] += 3
        usage = Usage(2, 1, 3 * PRICE)
        return Completion(self._said(tenant, request), request.model, usage=usage)

    async def stream(self, request: ChatRequest) -> AsyncIterator[CompletionChunk]:
        tenant = await self._worked()
        for letter in self._said(tenant, request):
            yield CompletionChunk(letter)
            if self._chance.random() < 0.1:
                await asyncio.sleep(0)
        self.bill[tenant] += 3
        yield CompletionChunk("", "stop", usage=Usage(2, 1, 3 * PRICE))

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        tenant = await self._worked()
        if any(text == "refused" for text in request.texts):
            raise ValidationError("A text was refused.")
        self.bill[tenant] += len(request.texts)
        vectors = tuple(direction(tenant, text) for text in request.texts)
        usage = Usage(len(vectors), 0, len(vectors) * PRICE)
        return Embeddings(vectors, request.model, usage)

    async def health(self) -> Health:
        return Health("ok")

    async def aclose(self) -> None:
        return None

    async def _worked(self) -> str:
        self.requests += 1
        self.busy += 1
        try:
            for _ in range(self._chance.randrange(12)):
                await asyncio.sleep(0)
        finally:
            self.busy -= 1
        if self._chance.random() < 0.05:
            raise ProviderError("It failed.", retryable=True)
        tenant = current_tenant()
        assert tenant is not None
        return tenant

    @staticmethod
    def _said(tenant: str, request: ChatRequest) -> str:
        return f"{tenant}|{request.options.seed}|{request.messages[-1].content}"


@dataclass(slots=True)
class Bill:
    """Adds up what the calls were charged, as a usage log would read it, when each of them ends."""

    spent: dict[str, Decimal] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)

    async def chat(
        self, call: Call[ChatRequest], proceed: Proceed[ChatRequest, Completion]
    ) -> Completion:
        try:
            return await proceed(call)
        finally:
            self._note(str(call.tenant_id), call.notes)

    async def embedding(
        self, call: Call[EmbeddingRequest], proceed: Proceed[EmbeddingRequest, Embeddings]
    ) -> Embeddings:
        try:
            return await proceed(call)
        finally:
            self._note(str(call.tenant_id), call.notes)

    def _note(self, tenant: str, notes: CallNotes) -> None:
        notes = replace(notes)
        self.answers[notes.cached or ("shared" if notes.shared else "own")] += 1
        assert not (notes.shared and notes.spent)
        if notes.spent is not None:
            assert notes.spent.cost_usd is not None
            self.spent[tenant] = self.spent.get(tenant, Decimal(0)) + notes.spent.cost_usd


@dataclass(slots=True)
class Trial:
    """One call of the storm, and what may come of it."""

    gateway: LLMGateway
    chance: random.Random
    wrong: list[str]

    async def run(self) -> None:
        tenant, prompt = self.chance.choice(TENANTS), self.chance.choice(PROMPTS)
        ask = self.chance.choice((self._generate, self._stream, self._embed))
        for _ in range(self.chance.randrange(10)):
            await asyncio.sleep(0)
        try:
            await ask(tenant, prompt)
        except SDKError as error:
            if any(f"{other}|" in str(error) for other in TENANTS):
                self.wrong.append(f"{tenant} was told of an answer in an error")

    async def _generate(self, tenant: str, prompt: str) -> None:
        seed = self.chance.randrange(3)
        answer = await self.gateway.generate_async(
            prompt, options=ChatOptions(seed=seed), tenant_id=tenant
        )
        self._check(tenant, prompt, seed, answer.text)

    async def _stream(self, tenant: str, prompt: str) -> None:
        seed = self.chance.randrange(3)
        chunks = self.gateway.stream(prompt, options=ChatOptions(seed=seed), tenant_id=tenant)
        async with aclosing(chunks):  # type: ignore[type-var]  # an async generator
            text = "".join([chunk.text async for chunk in chunks])
        self._check(tenant, prompt, seed, text)

    async def _embed(self, tenant: str, prompt: str) -> None:
        many = self.chance.randrange(1, 7)
        texts = [f"{prompt.strip()} {self.chance.randrange(40)}" for _ in range(many)]
        if self.chance.random() < 0.03:
            texts.append("refused")
        result = await self.gateway.embed(texts, tenant_id=tenant)
        pairs = zip(texts, result.vectors, strict=True)
        if not all(same_direction(vector, direction(tenant, text)) for text, vector in pairs):
            self.wrong.append(f"{tenant} got another's vector")

    def _check(self, tenant: str, prompt: str, seed: int, text: str) -> None:
        if text != f"{tenant}|{seed}|{prompt}":
            self.wrong.append(f"{tenant} got {text!r} for {prompt!r}")


async def storm(gateway: LLMGateway, chance: random.Random, calls: int) -> list[str]:
    """Make calls in waves, give up half of them at any moment, and return what was wrong."""
    wrong: list[str] = []
    for start in range(0, calls, 250):
        trials = [Trial(gateway, chance, wrong) for _ in range(min(250, calls - start))]
        tasks = [asyncio.create_task(trial.run()) for trial in trials]
        doomed = chance.sample(tasks, len(tasks) // 2)
        for task in doomed:
            if chance.random() < 0.2:
                await asyncio.sleep(0)
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        wrong += [
            repr(result)
            for result in results
            if result is not None and not isinstance(result, asyncio.CancelledError)
        ]
    return wrong


@pytest.mark.parametrize("cached", [True, False], ids=["cache", "no-cache"])
@pytest.mark.parametrize(
    "calls",
    [2_000, pytest.param(100_000, marks=[pytest.mark.soak, pytest.mark.timeout(1_200)])],
)
async def test_storm_of_calls_that_are_given_up_mixes_up_nothing_and_adds_up(
    calls: int,
    cached: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    chance = random.Random(calls)
    provider, bill = Telling(chance), Bill()
    deduplication = Deduplication()
    batches = EmbeddingBatches(BatchPolicy(most_texts=8, most_in_flight=2, linger=0.001))
    rate = Rate(requests=60_000_000)
    governance = Governance(
        usage=bill, deduplication=deduplication, limits=Limits(rate), batches=batches
    )
    gateway = create_gateway(
        [provider],
        "telling/m",
        default_embedding_model="telling/e",
        # Small, so that it is a mixture of hits, misses and evictions.
        cache=create_memory_cache(max_size=200) if cached else None,
        governance=governance,
    )
    before = asyncio.all_tasks()
    async with gateway:
        wrong = await storm(gateway, chance, calls)
        assert not deduplication._chats.under_way
        assert not deduplication._embeddings.under_way
        assert not batches._lanes
        assert provider.busy == 0
        assert asyncio.all_tasks() == before

    assert not wrong, wrong[:5]
    assert bill.spent == {tenant: count * PRICE for tenant, count in provider.bill.items()}
    assert bill.answers["shared"] > calls / 100
    assert bool(bill.answers["exact"]) == cached
