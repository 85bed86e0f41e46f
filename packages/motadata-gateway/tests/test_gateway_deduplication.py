"""Equal calls under way are one call upstream, whoever of them leaves, fails or comes late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from decimal import Decimal
from traceback import walk_tb

import pytest

from motadata.core.cache import create_memory_cache
from motadata.core.errors import GatewayError, GuardrailError, ProviderError, ValidationError
from motadata.core.models import Completion, CompletionChunk, Embeddings, Health, Usage
from motadata.core.protocols import CachePolicy
from motadata.gateway import (
    Call,
    CallNotes,
    ChatRequest,
    Deduplication,
    EmbeddingRequest,
    Governance,
    LLMGateway,
    Proceed,
    Verdict,
    create_gateway,
)


PRICE = Usage(10, 5, Decimal("0.003"))


class Held:
    """A provider that answers when it is told to."""

    name = "held"
    revision = ""

    def __init__(self) -> None:
        self.calls = 0
        self.answered = asyncio.Event()
        self.cancelled = 0
        self.errors: list[Exception] = []
        self.release = asyncio.Event()
        self.arrived = asyncio.Event()
        self.said = asyncio.Event()

    async def complete(self, request: ChatRequest) -> Completion:
        await self._held()
        return Completion(f"answer {self.calls}", request.model, usage=PRICE)

    async def stream(self, request: ChatRequest) -> AsyncIterator[CompletionChunk]:
        yield CompletionChunk("one ")
        self.said.set()
        await self._held()
        yield CompletionChunk("two")
        yield CompletionChunk("", "stop", usage=PRICE)

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        await self._held()
        return Embeddings(tuple((1.0, 0.0) for _ in request.texts), request.model, PRICE)

    async def health(self) -> Health:
        return Health("ok")

    async def aclose(self) -> None:
        return None

    async def _held(self) -> None:
        self.calls += 1
        self.arrived.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.errors:
            raise self.errors.pop(0)
        self.answered.set()


class Noting:
    """Keeps the notes of every call as they are when it ends, as a usage log would."""

    def __init__(self, notes: list[CallNotes]) -> None:
        self.notes = notes

    async def chat(
        self, call: Call[ChatRequest], proceed: Proceed[ChatRequest, Completion]
    ) -> Completion:
        try:
            return await proceed(call)
        finally:
            self.notes.append(replace(call.notes))

    async def embedding(
        self, call: Call[EmbeddingRequest], proceed: Proceed[EmbeddingRequest, Embeddings]
    ) -> Embeddings:
        return await proceed(call)


class Refusing:
    """Refuses what was answered."""

    async def chat(
        self, call: Call[ChatRequest], proceed: Proceed[ChatRequest, Completion]
    ) -> Completion:
        await proceed(call)
        call.notes.verdicts.append(Verdict("words", "refused", "output"))
        raise GuardrailError("It was refused.", rule="words")

    async def embedding(
        self, call: Call[EmbeddingRequest], proceed: Proceed[EmbeddingRequest, Embeddings]
    ) -> Embeddings:
        return await proceed(call)


@pytest.fixture
def provider() -> Held:
    return Held()


@pytest.fixture
async def gateway(provider: Held) -> AsyncIterator[LLMGateway]:
    async with create_gateway([provider], "held/m", default_embedding_model="held/e") as made:
        yield made


async def settled() -> None:
    """Let every task run until it waits."""
    for _ in range(20):
        await asyncio.sleep(0)


async def read(gateway: LLMGateway, tenant_id: str) -> list[CompletionChunk]:
    return [chunk async for chunk in gateway.stream("Hi", tenant_id=tenant_id)]


async def test_thousand_equal_calls_are_one_call_that_one_of_them_pays(
    gateway: LLMGateway, provider: Held
) -> None:
    calls = [
        asyncio.create_task(gateway.generate_async("Hi", tenant_id="acme")) for _ in range(1000)
    ]
    await settled()
    provider.release.set()

    answers = await asyncio.gather(*calls)

    assert provider.calls == 1
    assert {answer.text for answer in answers} == {"answer 1"}
    assert sum(answer.usage.cost_usd or 0 for answer in answers) == Decimal("0.003")
    assert sum(answer.shared for answer in answers) == 999


async def test_thousand_equal_streams_are_one_call_and_say_the_same(
    gateway: LLMGateway, provider: Held
) -> None:
    readers = [asyncio.create_task(read(gateway, "acme")) for _ in range(1000)]
    await settled()
    provider.release.set()

    streams = await asyncio.gather(*readers)

    assert provider.calls == 1
    assert {"".join(chunk.text for chunk in stream) for stream in streams} == {"one two"}
    paid = [stream[-1].usage.cost_usd for stream in streams if stream[-1].usage is not None]
    assert len(paid) == 1000
    assert sum(cost or 0 for cost in paid) == Decimal("0.003")


async def test_thousand_equal_embeddings_are_one_call(gateway: LLMGateway, provider: Held) -> None:
    calls = [asyncio.create_task(gateway.embed(["a"], tenant_id="acme")) for _ in range(1000)]
    await settled()
    provider.release.set()

    results = await asyncio.gather(*calls)

    assert provider.calls == 1
    assert sum(result.usage.cost_usd or 0 for result in results) == Decimal("0.003")


async def test_late_reader_of_a_stream_first_gets_what_was_said(
    gateway: LLMGateway, provider: Held
) -> None:
    early = asyncio.create_task(read(gateway, "acme"))
    await provider.said.wait()
    late = asyncio.create_task(read(gateway, "acme"))
    await settled()
    provider.release.set()

    assert [chunk.text for chunk in await late] == [chunk.text for chunk in await early]
    assert provider.calls == 1


async def test_tenants_share_nothing(gateway: LLMGateway, provider: Held) -> None:
    calls = [
        asyncio.create_task(gateway.generate_async("Hi", tenant_id=tenant))
        for tenant in ("acme", "globex")
    ]
    await settled()
    provider.release.set()

    answers = await asyncio.gather(*calls)

    assert provider.calls == 2
    assert not any(answer.shared for answer in answers)


async def test_bypass_is_a_call_of_its_own(gateway: LLMGateway, provider: Held) -> None:
    calls = [
        asyncio.create_task(gateway.generate_async("Hi", cache="bypass", tenant_id="acme"))
        for _ in range(2)
    ]
    await settled()
    provider.release.set()
    await asyncio.gather(*calls)

    assert provider.calls == 2


async def test_when_the_one_who_began_leaves_the_others_share_one_more_call(
    gateway: LLMGateway, provider: Held
) -> None:
    first = asyncio.create_task(gateway.generate_async("Hi", tenant_id="acme"))
    await provider.arrived.wait()
    others = [asyncio.create_task(gateway.generate_async("Hi", tenant_id="acme")) for _ in range(9)]
    await settled()

    first.cancel()
    await settled()
    others[0].cancel()
    await settled()
    provider.release.set()
    answers = await asyncio.gather(*others[1:])

    assert first.cancelled()
    assert (provider.calls, provider.cancelled) == (2, 1)
    assert {answer.text for answer in answers} == {"answer 2"}
    assert sum(answer.usage.cost_usd or 0 for answer in answers) == Decimal("0.003")


async def test_stream_goes_on_when_the_one_who_began_it_leaves(
    gateway: LLMGateway, provider: Held
) -> None:
    first = asyncio.create_task(read(gateway, "acme"))
    await provider.arrived.wait()
    second = asyncio.create_task(read(gateway, "acme"))
    await settled()

    first.cancel()
    await settled()
    provider.release.set()

    assert "".join(chunk.text for chunk in await second) == "one two"
    assert provider.calls == 1


@pytest.mark.parametrize("method", ["generate", "stream"])
async def test_provider_is_left_when_the_last_one_leaves(
    gateway: LLMGateway, provider: Held, method: str
) -> None:
    async def ask() -> None:
        if method == "stream":
            await read(gateway, "acme")
        else:
            await gateway.generate_async("Hi", tenant_id="acme")

    calls = {asyncio.create_task(ask()) for _ in range(3)}
    await provider.arrived.wait()
    await settled()

    for call in calls:
        call.cancel()
    await asyncio.wait(calls)

    assert provider.cancelled == 1
    provider.release.set()
    again = await gateway.generate_async("Hi", tenant_id="acme")
    assert again.text == "answer 2"


async def test_one_who_comes_while_the_call_is_being_given_up_begins_a_new_one(
    gateway: LLMGateway, provider: Held
) -> None:
    first = asyncio.create_task(gateway.generate_async("Hi", tenant_id="acme"))
    await provider.arrived.wait()

    first.cancel()
    second = asyncio.create_task(gateway.generate_async("Hi", tenant_id="acme"))
    await asyncio.wait({first})
    provider.release.set()

    assert (await second).text == "answer 2"


async def test_followers_of_a_failed_call_share_one_more(
    gateway: LLMGateway, provider: Held
) -> None:
    provider.errors = [ProviderError("It failed.", retryable=True)]
    calls = [asyncio.create_task(gateway.generate_async("Hi", tenant_id="acme")) for _ in range(50)]
    await settled()
    provider.release.set()

    results = await asyncio.gather(*calls, return_exceptions=True)

    assert provider.calls == 2
    assert isinstance(results[0], ProviderError)
    assert all(isinstance(result, Completion) for result in results[1:])


async def test_error_that_a_second_try_cannot_mend_is_everybodys(
    gateway: LLMGateway, provider: Held
) -> None:
    provider.errors = [ValidationError("It cannot be right.")]
    calls = [asyncio.create_task(gateway.generate_async("Hi", tenant_id="acme")) for _ in range(5)]
    await settled()
    provider.release.set()

    results = await asyncio.gather(*calls, return_exceptions=True)

    assert provider.calls == 1
    assert all(isinstance(result, ValidationError) for result in results)


async def test_slow_reader_holds_up_nobody(gateway: LLMGateway, provider: Held) -> None:
    async with aclosing(gateway.stream("Hi", tenant_id="acme")) as slow:
        await anext(slow)
        fast = asyncio.create_task(read(gateway, "acme"))
        await settled()
        provider.release.set()

        assert "".join(chunk.text for chunk in await fast) == "one two"
        assert provider.calls == 1


async def test_closing_the_gateway_ends_what_is_under_way(provider: Held) -> None:
    gateway = create_gateway([provider], "held/m")
    async with gateway:
        call = asyncio.create_task(gateway.generate_async("Hi", tenant_id="acme"))
        await provider.arrived.wait()

    with pytest.raises(GatewayError, match="closed"):
        await call


async def test_call_that_is_paid_when_all_leave_at_once_is_charged_once(provider: Held) -> None:
    notes: list[CallNotes] = []
    gateway = create_gateway(
        [provider],
        "held/m",
        governance=Governance(usage=Noting(notes), deduplication=Deduplication()),
    )
    async with gateway:
        calls = [asyncio.create_task(gateway.generate_async("Hi", tenant_id="acme")) for _ in "abc"]
        await settled()
        calls[0].cancel()
        await settled()
        provider.release.set()
        await provider.answered.wait()
        for call in calls:  # the answer is there, and nobody has woken up to it
            call.cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)

    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    assert [each.spent for each in notes].count(PRICE) == 1


async def test_one_who_began_and_left_has_a_request_that_was_not_answered(provider: Held) -> None:
    notes: list[CallNotes] = []
    gateway = create_gateway(
        [provider],
        "held/m",
        governance=Governance(usage=Noting(notes), deduplication=Deduplication()),
    )
    async with gateway:
        calls = [asyncio.create_task(gateway.generate_async("Hi", tenant_id="acme")) for _ in "ab"]
        await settled()
        calls[0].cancel()
        await settled()
        provider.release.set()
        answer = await calls[1]

    assert (notes[0].attempts, notes[0].spent) == (1, None)
    assert (notes[1].attempts, notes[1].spent, answer.shared) == (1, PRICE, False)


async def test_follower_waits_no_longer_than_its_own_time_limit(
    gateway: LLMGateway, provider: Held
) -> None:
    patient = asyncio.create_task(gateway.generate_async("Hi", timeout=60, tenant_id="acme"))
    await provider.arrived.wait()

    with pytest.raises(ProviderError, match=r"0\.05 s"):
        await gateway.generate_async("Hi", timeout=0.05, tenant_id="acme")
    provider.release.set()

    assert (await patient).text == "answer 1"
    assert provider.calls == 1


async def test_closing_ends_a_call_that_has_not_taken_its_first_step(provider: Held) -> None:
    async with create_gateway([provider], "held/m") as gateway:
        call = asyncio.create_task(gateway.generate_async("Hi", tenant_id="acme"))
        await asyncio.sleep(0)  # the call waits for a task that has not run

    with pytest.raises(GatewayError, match="closed"):
        await asyncio.wait_for(call, 5)


async def test_error_of_many_does_not_grow_with_each(gateway: LLMGateway, provider: Held) -> None:
    provider.errors = [ValidationError("It cannot be right.")]
    calls = [
        asyncio.create_task(gateway.generate_async("Hi", tenant_id="acme")) for _ in range(100)
    ]
    await settled()
    provider.release.set()
    results = await asyncio.gather(*calls, return_exceptions=True)

    errors = {id(result): result for result in results if isinstance(result, ValidationError)}
    assert len(errors) == 1
    frames = sum(1 for error in errors.values() for _ in walk_tb(error.__traceback__))
    assert frames < 100


async def test_verdicts_on_a_refused_answer_are_everybodys(provider: Held) -> None:
    notes: list[CallNotes] = []
    governance = Governance(
        usage=Noting(notes), deduplication=Deduplication(), guardrail_outputs=Refusing()
    )
    async with create_gateway([provider], "held/m", governance=governance) as gateway:
        calls = [asyncio.create_task(gateway.generate_async("Hi", tenant_id="acme")) for _ in "abc"]
        await settled()
        provider.release.set()
        await asyncio.gather(*calls, return_exceptions=True)

    assert [[verdict.rule for verdict in each.verdicts] for each in notes] == [["words"]] * 3
    assert [each.spent for each in notes] == [PRICE, None, None]


async def test_equal_calls_that_come_while_the_answer_is_put_into_the_cache_are_no_new_call(
    provider: Held,
) -> None:
    async with create_gateway([provider], "held/m", cache=create_memory_cache()) as gateway:
        calls = []
        for number in range(300):
            calls.append(asyncio.create_task(gateway.generate_async("Hi", tenant_id="acme")))
            if number == 100:
                provider.release.set()
            await asyncio.sleep(0)
        answers = await asyncio.gather(*calls)

    assert provider.calls == 1
    assert any(answer.cached for answer in answers)
    assert any(answer.shared for answer in answers)


@pytest.mark.parametrize("policy", ["refresh", "bypass"])
async def test_answer_that_has_just_come_is_not_given_to_who_wants_a_new_one(
    provider: Held, policy: CachePolicy
) -> None:
    provider.release.set()
    async with create_gateway([provider], "held/m", cache=create_memory_cache()) as gateway:
        await gateway.generate_async("Hi", tenant_id="acme")
        again = await gateway.generate_async("Hi", cache=policy, tenant_id="acme")

    assert (again.text, again.shared) == ("answer 2", False)


async def test_without_a_cache_an_answer_is_only_shared_while_it_is_under_way(
    gateway: LLMGateway, provider: Held
) -> None:
    provider.release.set()
    await gateway.generate_async("Hi", tenant_id="acme")

    assert (await gateway.generate_async("Hi", tenant_id="acme")).text == "answer 2"
