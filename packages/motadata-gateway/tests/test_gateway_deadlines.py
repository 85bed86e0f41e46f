"""A call ends in its time whichever part hangs; the caller's own deadline ends it sooner."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from pydantic import SecretStr

from motadata.core.cache import create_memory_cache
from motadata.core.errors import (
    DeadlineExceededError,
    ProviderError,
    RateLimitError,
    SDKError,
)
from motadata.core.models import Completion, CompletionChunk, Embeddings, Health, Usage
from motadata.core.protocols import Database, Finding, GuardedText
from motadata.core.resilience import deadline_scope
from motadata.core.tenancy import TenantId
from motadata.core.testing.manual_clock import ManualClock
from motadata.gateway import (
    ChatRequest,
    Deduplication,
    EmbeddingRequest,
    Governance,
    Limits,
    LLMGateway,
    Rate,
    SemanticCache,
    SemanticPolicy,
    Sharing,
    create_gateway,
)
from motadata.gateway.guardrails import GuardrailPolicy, Guardrails
from motadata.gateway.routing import Routing


pytestmark = pytest.mark.timeout(10)

HANGS = 3600.0


class Provider:
    """Answers at once, unless it is told to hang.

    Attributes:
        hangs: Whether it hangs.
        hangs_first: Whether it hangs when it is asked for the first time.
        asked: How often it was asked.
    """

    name = "mine"
    revision = ""

    def __init__(self) -> None:
        self.hangs = self.hangs_first = False
        self.asked = 0

    async def complete(self, request: ChatRequest) -> Completion:
        self.asked += 1
        await self._work()
        return Completion("answer", request.model, usage=Usage(1, 1))

    async def stream(self, request: ChatRequest) -> AsyncIterator[CompletionChunk]:
        self.asked += 1
        yield CompletionChunk("ans")
        await self._work()
        yield CompletionChunk("wer", "stop", usage=Usage(1, 1))

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        self.asked += 1
        await self._work()
        return Embeddings(tuple((1.0,) for _ in request.texts), request.model)

    async def health(self) -> Health:
        return Health("ok")

    async def aclose(self) -> None:
        return None

    async def _work(self) -> None:
        if self.hangs or (self.hangs_first and self.asked == 1):
            await asyncio.sleep(HANGS)


class HangingGuardrail:
    """A platform's own, whose service does not answer."""

    name = "theirs"
    revision = "1"
    reach = "whole"

    async def check(self, text: GuardedText) -> Sequence[Finding]:
        await asyncio.sleep(HANGS)
        return ()


class HangingEmbedder:
    async def embed(
        self, texts: Sequence[str], *, model: str | None = None, tenant_id: str | None = None
    ) -> Embeddings:
        await asyncio.sleep(HANGS)
        raise AssertionError


class HangingKeys:
    async def api_key(self, provider: str, tenant: TenantId) -> SecretStr | None:
        await asyncio.sleep(HANGS)
        return None


class HangingCache:
    """A platform's own cache that knows nothing of deadlines.

    Attributes:
        reads: Whether it is asked in vain; else only what is kept hangs.
    """

    def __init__(self, *, reads: bool) -> None:
        self.reads = reads

    async def get(self, *args: object, **options: object) -> object:
        if self.reads:
            await asyncio.sleep(HANGS)
        return None

    async def get_many(self, *args: object, **options: object) -> dict[str, object]:
        await self.get()
        return {}

    async def set_many(self, *args: object, **options: object) -> None:
        await asyncio.sleep(HANGS)

    set = set_many


async def hanging_policy(tenant: str) -> GuardrailPolicy:
    await asyncio.sleep(HANGS)
    raise AssertionError


@pytest.fixture
def provider() -> Provider:
    return Provider()


def gateway_with(
    provider: Provider, governance: Governance | None = None, cache: object = None
) -> LLMGateway:
    return create_gateway(
        [provider],
        "mine/chat",
        default_embedding_model="mine/embedding",
        cache=cache,  # type: ignore[arg-type]  # a test's own
        governance=governance,
    )


def guarded(guardrails: Guardrails) -> Governance:
    return Governance(guardrail_inputs=guardrails.inputs, guardrail_outputs=guardrails.outputs)


HANGING_PARTS = {
    "guardrail of the question": guarded(Guardrails([HangingGuardrail()], [], timeout=60)),
    "guardrail of the answer": guarded(Guardrails([], [HangingGuardrail()], timeout=60)),
    "policy of the tenant": guarded(Guardrails(policy_for=hanging_policy, timeout=60)),
}


@pytest.mark.parametrize("part", HANGING_PARTS)
async def test_a_part_that_hangs_ends_the_call_in_its_time(part: str, provider: Provider):
    async with gateway_with(provider, HANGING_PARTS[part]) as gateway:
        with pytest.raises(ProviderError, match=r"did not answer within 0\.1 s") as raised:
            await gateway.generate_async("hello", timeout=0.1, tenant_id="acme")

    assert raised.value.retryable


@pytest.mark.parametrize("part", ["guardrail of the question", "policy of the tenant"])
async def test_a_part_that_hangs_ends_an_embedding_in_its_time(part: str, provider: Provider):
    async with gateway_with(provider, HANGING_PARTS[part]) as gateway:
        with pytest.raises(ProviderError, match=r"did not answer within 0\.1 s"):
            await gateway.embed(["hello"], timeout=0.1, tenant_id="acme")


async def test_a_cache_that_hangs_ends_the_call_in_its_time(provider: Provider):
    async with gateway_with(provider, cache=HangingCache(reads=True)) as gateway:
        with pytest.raises(ProviderError, match="did not answer"):
            await gateway.generate_async("hello", timeout=0.1, tenant_id="acme")
        with pytest.raises(ProviderError, match="did not answer"):
            await gateway.embed(["hello"], timeout=0.1, tenant_id="acme")


async def test_an_answer_that_the_cache_takes_too_long_to_keep_is_not_lost(provider: Provider):
    async with gateway_with(provider, cache=HangingCache(reads=False)) as gateway:
        answer = await gateway.generate_async("hello", timeout=0.1, tenant_id="acme")
        embedded = await gateway.embed(["hello"], timeout=0.1, tenant_id="acme")

    assert answer.text == "answer"
    assert embedded.vectors == ((1.0,),)


async def test_tenant_keys_that_hang_end_the_call_in_its_time():
    async with create_gateway(
        ["openai"], "openai/x", {"openai": "k"}, tenant_keys=HangingKeys()
    ) as gateway:
        with pytest.raises(ProviderError, match=r"did not answer within 0\.1 s"):
            await gateway.generate_async("hello", timeout=0.1, tenant_id="acme")


async def test_a_semantic_cache_that_hangs_is_a_miss(provider: Provider, database: Database):
    cache = SemanticCache(database, HangingEmbedder(), SemanticPolicy(timeout=0.1))
    async with gateway_with(provider, Governance(semantic_cache=cache)) as gateway:
        answer = await gateway.generate_async("hello", tenant_id="acme")

    assert answer.text == "answer"


async def test_nothing_is_asked_when_the_time_was_used_up_before(provider: Provider):
    async def slow(call: object, proceed: object) -> object:
        await asyncio.sleep(0.05)  # less than what ends the call from outside
        return await proceed(call)  # type: ignore[operator]  # a step

    async with create_gateway(
        [provider], "mine/chat", arrange=lambda steps: [*steps[:-2], slow, *steps[-2:]]
    ) as gateway:
        with pytest.raises(ProviderError, match=r"No time was left|did not answer"):
            await gateway.generate_async("hello", timeout=0.04, tenant_id="acme")

    assert provider.asked == 0


GOVERNANCES = {
    "bare": Governance,
    "joined": lambda: Governance(deduplication=Deduplication()),
    "routed": lambda: Governance(routing=Routing()),
    "all": lambda: Governance(
        deduplication=Deduplication(),
        limits=Limits(Rate(requests=6_000, tokens=6_000_000)),
        routing=Routing(),
    ),
}


async def ask(gateway: LLMGateway, kind: str) -> None:
    if kind == "whole":
        await gateway.generate_async("hello", tenant_id="acme")
    elif kind == "embedding":
        await gateway.embed(["hello"], tenant_id="acme")
    else:
        [chunk async for chunk in gateway.stream("hello", tenant_id="acme")]


@pytest.mark.parametrize("kind", ["whole", "stream", "embedding"])
@pytest.mark.parametrize("parts", GOVERNANCES)
async def test_the_deadline_around_a_call_ends_it(parts: str, kind: str, provider: Provider):
    provider.hangs = True
    async with gateway_with(provider, GOVERNANCES[parts]()) as gateway:
        with deadline_scope(0.1), pytest.raises(SDKError) as raised:
            await ask(gateway, kind)

    assert isinstance(raised.value, ProviderError | DeadlineExceededError)
    assert raised.value.tenant_id == "acme"


async def test_a_turn_that_comes_after_the_deadline_is_not_waited_for(provider: Provider):
    governance = Governance(limits=Limits(Rate(requests=1), longest_wait=60))
    async with gateway_with(provider, governance) as gateway:
        await gateway.generate_async("hello", tenant_id="acme")
        with deadline_scope(0.1), pytest.raises(RateLimitError):
            await gateway.generate_async("hello again", tenant_id="acme")


async def test_a_turn_that_comes_when_the_time_is_over_is_given_back(provider: Provider):
    clock = ManualClock()
    limits = Limits(Rate(requests=60, request_burst=1), sharing=Sharing(clock=clock))
    async with gateway_with(provider, Governance(limits=limits)) as gateway:
        # No time is left for it, though its turn has come.
        with deadline_scope(0.0), pytest.raises(RateLimitError):
            await gateway.generate_async("too late", tenant_id="acme")
        answer = await gateway.generate_async("in time", tenant_id="acme")

    assert answer.text == "answer"
    assert provider.asked == 1


async def test_a_short_deadline_of_one_does_not_end_the_equal_call_of_another(provider: Provider):
    provider.hangs_first = True
    governance = Governance(deduplication=Deduplication())
    async with gateway_with(provider, governance, create_memory_cache()) as gateway:
        hasty, patient = [
            asyncio.create_task(gateway.generate_async("hello", timeout=timeout, tenant_id="acme"))
            for timeout in (0.1, 60)
        ]
        with pytest.raises(ProviderError):
            await hasty
        answer = await patient

    assert answer.text == "answer"
    assert provider.asked == 2
