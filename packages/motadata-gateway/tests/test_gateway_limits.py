"""Limits of tenants, models and keys: waiting in turn, settling, sharing, and giving back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from pydantic import SecretStr

from motadata.core.embedded import EmbeddedRedis
from motadata.core.errors import ConfigurationError, ProviderError, RateLimitError
from motadata.core.models import Completion, CompletionChunk, Embeddings, Health, Usage
from motadata.core.tenancy import TenantId
from motadata.gateway import (
    ChatRequest,
    EmbeddingRequest,
    Governance,
    Limits,
    LLMGateway,
    ProviderLimits,
    Rate,
    Sharing,
    create_gateway,
)


class Upstream:
    """Answers at once, and remembers when it was asked, by whom, and with what."""

    name = "up"
    revision = ""

    def __init__(self) -> None:
        self.asked: list[tuple[float, str]] = []
        self.usage = Usage(10, 90)
        self.fails: Exception | None = None

    async def complete(self, request: ChatRequest) -> Completion:
        self.asked.append((time.monotonic(), request.messages[-1].content))
        if self.fails is not None:
            raise self.fails
        return Completion("answer", request.model, usage=self.usage)

    async def stream(self, request: ChatRequest) -> AsyncIterator[CompletionChunk]:
        answer = await self.complete(request)
        yield CompletionChunk(answer.text)
        yield CompletionChunk("", "stop", usage=answer.usage)

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        self.asked.append((time.monotonic(), request.texts[0]))
        return Embeddings(tuple((1.0,) for _ in request.texts), request.model, self.usage)

    async def health(self) -> Health:
        return Health("ok")

    async def aclose(self) -> None:
        return None


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


def opened(upstream: Upstream, **parts: Limits | ProviderLimits) -> LLMGateway:
    governance = Governance(**parts)  # type: ignore[arg-type]  # each is a part
    return create_gateway([upstream], "up/m", default_embedding_model="up/e", governance=governance)


async def ask(gateway: LLMGateway, prompt: str = "Hi", tenant: str = "acme") -> Completion:
    return await gateway.generate_async(prompt, max_tokens=90, tenant_id=tenant)


async def test_calls_beyond_the_burst_wait_for_their_turn_and_keep_their_order(
    upstream: Upstream,
) -> None:
    limits = Limits(Rate(requests=250 * 60, request_burst=50))
    async with opened(upstream, limits=limits) as gateway:
        began = time.monotonic()
        await asyncio.gather(*(ask(gateway, f"{number}") for number in range(150)))
        took = time.monotonic() - began
    assert 0.38 <= took < 10
    assert [prompt for _, prompt in upstream.asked] == [f"{number}" for number in range(150)]
    instants = [at for at, _ in upstream.asked]
    assert all(sum(at <= other < at + 0.1 for other in instants) <= 76 for at in instants)
    assert all(one <= two for one, two in pairwise(instants))


async def test_call_whose_turn_would_come_too_late_is_refused_at_once(upstream: Upstream) -> None:
    limits = Limits(Rate(requests=1, request_burst=1))
    async with opened(upstream, limits=limits) as gateway:
        await ask(gateway)
        with pytest.raises(RateLimitError) as caught:
            await ask(gateway)
    assert caught.value.retry_after == pytest.approx(60, abs=1)
    assert len(upstream.asked) == 1


async def test_one_tenant_does_not_use_up_anothers_limit(upstream: Upstream) -> None:
    limits = Limits(Rate(requests=1, request_burst=1))
    async with opened(upstream, limits=limits) as gateway:
        for tenant in ("acme", "globex"):
            await ask(gateway, tenant=tenant)
            with pytest.raises(RateLimitError):
                await ask(gateway, tenant=tenant)


async def test_plans_give_tenants_different_limits(upstream: Upstream) -> None:
    def plan(tenant: TenantId) -> Rate | None:
        return None if tenant == "gold" else Rate(requests=1, request_burst=1)

    async with opened(upstream, limits=Limits(plan)) as gateway:
        for _ in range(20):
            await ask(gateway, tenant="gold")
        await ask(gateway)
        with pytest.raises(RateLimitError):
            await ask(gateway)


async def test_limit_of_a_model_leaves_other_models_alone(upstream: Upstream) -> None:
    limits = Limits(models={"up/m": Rate(requests=1, request_burst=1)})
    async with opened(upstream, limits=limits) as gateway:
        await ask(gateway)
        with pytest.raises(RateLimitError):
            await ask(gateway)
        await gateway.generate_async("Hi", model="up/other", tenant_id="acme")


async def test_estimate_is_settled_to_what_the_provider_counted(upstream: Upstream) -> None:
    upstream.usage = Usage(5, 5)
    limits = Limits(Rate(tokens=60, token_burst=200), longest_wait=0.05)
    async with opened(upstream, limits=limits) as gateway:
        for _ in range(10):  # each takes 95 at first, and 10 in the end
            await ask(gateway)
        upstream.usage = Usage(500, 500)
        await ask(gateway)
        with pytest.raises(RateLimitError) as caught:
            await ask(gateway)
    assert caught.value.retry_after is not None
    assert caught.value.retry_after > 900


async def test_tokens_of_concurrent_calls_overshoot_by_no_more_than_an_estimates_error(
    upstream: Upstream,
) -> None:
    upstream.usage = Usage(5, 100)  # 105, where 95 are expected
    limits = Limits(Rate(tokens=1, token_burst=1_000), longest_wait=0.01)
    async with opened(upstream, limits=limits) as gateway:
        outcomes = await asyncio.gather(
            *(ask(gateway, f"{number}") for number in range(200)), return_exceptions=True
        )
    served = sum(isinstance(outcome, Completion) for outcome in outcomes)
    assert served * 95 <= 1_000
    assert served >= 9
    assert all(isinstance(outcome, Completion | RateLimitError) for outcome in outcomes)


async def test_call_that_the_provider_refused_takes_no_tokens(upstream: Upstream) -> None:
    limits = Limits(Rate(tokens=1, token_burst=100), longest_wait=0.01)
    upstream.fails = ProviderError("Down.", status=500)
    async with opened(upstream, limits=limits) as gateway:
        for _ in range(3):
            with pytest.raises(ProviderError):
                await ask(gateway)
        upstream.fails = None
        await ask(gateway)


async def test_call_that_gave_up_waiting_gives_back_what_it_took(upstream: Upstream) -> None:
    limits = Limits(
        Rate(requests=2, request_burst=2), models={"up/m": Rate(requests=2, request_burst=1)}
    )
    async with opened(upstream, limits=limits) as gateway:
        await ask(gateway)
        for _ in range(5):
            with pytest.raises(RateLimitError):
                await gateway.generate_async("Hi", timeout=0.05, tenant_id="acme")
        # The tenant's own second request is still there for another model.
        await gateway.generate_async("Hi", model="up/other", timeout=10, tenant_id="acme")


async def test_time_in_the_queue_counts_towards_the_calls_own_limit(upstream: Upstream) -> None:
    limits = Limits(Rate(requests=240, request_burst=1))
    async with opened(upstream, limits=limits) as gateway:
        await ask(gateway)
        began = time.monotonic()
        await gateway.generate_async("Hi", timeout=5, tenant_id="acme")
        assert 0.2 < time.monotonic() - began < 4


async def test_streams_and_texts_to_embed_wait_as_well(upstream: Upstream) -> None:
    limits = Limits(Rate(requests=1, request_burst=2))
    async with opened(upstream, limits=limits) as gateway:
        parts = [part.text async for part in gateway.stream("Hi", tenant_id="acme")]
        assert parts == ["answer", ""]
        await gateway.embed(["text"], tenant_id="acme")
        with pytest.raises(RateLimitError):
            await gateway.embed(["other"], tenant_id="acme")


async def test_flood_of_one_tenant_does_not_hold_another_up_at_a_shared_key(
    upstream: Upstream,
) -> None:
    limits = ProviderLimits({"up": Rate(requests=6_000, request_burst=1)}, longest_wait=60)
    async with opened(upstream, provider_limits=limits) as gateway:
        flood = [asyncio.create_task(ask(gateway, f"f{n}", "flood")) for n in range(2_000)]
        await asyncio.sleep(0)
        began = time.monotonic()
        for number in range(5):
            await ask(gateway, f"quiet {number}", "quiet")
        took = time.monotonic() - began
        for call in flood:
            call.cancel()
        await asyncio.wait(flood)
    assert took < 5  # the flood has twenty seconds of work


class OwnKeys:
    """Knows that one tenant brought a key."""

    async def api_key(self, provider: str, tenant: TenantId) -> SecretStr | None:
        return SecretStr("k") if (provider, tenant) == ("up", "byok") else None


async def test_tenant_with_a_key_of_its_own_has_the_keys_limit_to_itself(
    upstream: Upstream,
) -> None:
    limits = ProviderLimits(
        {"up": Rate(requests=1, request_burst=1)}, own_keys=OwnKeys(), longest_wait=0.01
    )
    async with opened(upstream, provider_limits=limits) as gateway:
        await ask(gateway, tenant="acme")
        with pytest.raises(RateLimitError):
            await ask(gateway, tenant="globex")
        await ask(gateway, tenant="byok")
        with pytest.raises(RateLimitError):
            await ask(gateway, tenant="byok")


async def test_instances_share_limits_through_redis_and_tenants_do_not(
    upstream: Upstream, embedded_redis: EmbeddedRedis
) -> None:
    def limited() -> Limits:
        sharing = Sharing(redis_url=embedded_redis.url.get_secret_value())
        return Limits(Rate(requests=1, request_burst=20), longest_wait=5, sharing=sharing)

    async with (
        opened(upstream, limits=limited()) as one,
        opened(upstream, limits=limited()) as two,
    ):
        calls = [ask(gateway, f"{n}", "shared") for n in range(25) for gateway in (one, two)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert 15 <= sum(isinstance(outcome, Completion) for outcome in outcomes) <= 21
        assert isinstance(await ask(one, tenant="alone"), Completion)


@pytest.mark.parametrize(
    "broken", [{"requests": 0}, {"tokens": -1}, {"request_burst": 5}, {"requests": float("nan")}]
)
def test_rate_that_is_none_is_refused(broken: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        Rate(**broken)
