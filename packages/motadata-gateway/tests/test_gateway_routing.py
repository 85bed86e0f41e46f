"""Routes against real server processes: retries, breakers, fallbacks, hedges, broken streams."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from decimal import Decimal

import pytest

from motadata.core.errors import (
    CircuitOpenError,
    ConfigurationError,
    ContentPolicyError,
    ContextLengthError,
    ProviderError,
    RateLimitError,
    ValidationError,
)
from motadata.core.models import Completion, CompletionChunk, Embeddings, Health, Message, Usage
from motadata.core.resilience import RetryPolicy
from motadata.core.testing.openai_server import OpenAIServer, Reply
from motadata.gateway import (
    ALIVE,
    Call,
    CallNotes,
    ChatRequest,
    EmbeddingRequest,
    Governance,
    LLMGateway,
    OpenAIProvider,
    Proceed,
    create_gateway,
)
from motadata.gateway.routing import Route, Routing, Target
from motadata.gateway.routing._hedge import first_answer


TEXT = "one two three four five six"
DOWN = Reply(status=500)
QUICK = RetryPolicy(attempts=2, base=0.01, cap=0.02)


@pytest.fixture(scope="module")
def processes() -> Iterator[tuple[OpenAIServer, OpenAIServer]]:
    with OpenAIServer() as first, OpenAIServer() as second:
        yield first, second


@pytest.fixture
def servers(
    processes: tuple[OpenAIServer, OpenAIServer],
) -> tuple[OpenAIServer, OpenAIServer]:
    for server in processes:
        server.reset()
        server.always(Reply(text=TEXT))
    return processes


def opened(
    servers: tuple[OpenAIServer, OpenAIServer], routing: Routing, model: str = "chat"
) -> LLMGateway:
    providers = [
        OpenAIProvider(name, base_url=server.url)
        for name, server in zip(("a", "b"), servers, strict=True)
    ]
    return create_gateway(providers, model, governance=Governance(routing=routing))


def both(**options: object) -> Routing:
    return Routing({"chat": Route(("a/m", "b/m"))}, retry=QUICK, **options)  # type: ignore[arg-type]  # a test's own


async def test_next_model_answers_when_one_fails_and_the_answer_says_so(
    servers: tuple[OpenAIServer, OpenAIServer],
) -> None:
    servers[0].always(DOWN)
    async with opened(servers, both()) as gateway:
        answer = await gateway.generate_async("Hi", tenant_id="acme")
    assert (answer.text, answer.model, answer.fallback_from) == (TEXT, "b/m", "a/m")


async def test_first_models_answer_is_no_fallback(
    servers: tuple[OpenAIServer, OpenAIServer],
) -> None:
    async with opened(servers, both()) as gateway:
        answer = await gateway.generate_async("Hi", tenant_id="acme")
    assert (answer.model, answer.fallback_from) == ("a/m", None)
    assert servers[1].requests == ()


async def test_model_without_a_route_is_asked_again_when_it_failed(
    servers: tuple[OpenAIServer, OpenAIServer],
) -> None:
    servers[0].reply(DOWN)
    async with opened(servers, Routing(retry=QUICK), "a/m") as gateway:
        answer = await gateway.generate_async("Hi", tenant_id="acme")
    assert (answer.text, len(servers[0].requests)) == (TEXT, 2)


async def test_request_that_is_wrong_is_sent_once(
    servers: tuple[OpenAIServer, OpenAIServer],
) -> None:
    servers[0].always(Reply(status=400))
    async with opened(servers, both()) as gateway:
        with pytest.raises((ValidationError, ProviderError)):
            await gateway.generate_async("Hi", tenant_id="acme")
    assert len(servers[0].requests) == 1


async def test_provider_that_asks_to_wait_is_not_asked_before(
    servers: tuple[OpenAIServer, OpenAIServer],
) -> None:
    servers[0].reply(Reply(status=429, headers={"Retry-After": "1"}))
    async with opened(servers, Routing(retry=QUICK), "a/m") as gateway:
        began = time.monotonic()
        first, second = await asyncio.gather(
            gateway.generate_async("Hi", tenant_id="acme"),
            _later(gateway.generate_async, 0.2, "Ho"),
        )
        took = time.monotonic() - began
    assert (first.text, second.text) == (TEXT, TEXT)
    assert took >= 1
    assert len(servers[0].requests) == 3


async def _later(ask: object, seconds: float, prompt: str) -> Completion:
    await asyncio.sleep(seconds)
    return await ask(prompt, tenant_id="acme")  # type: ignore[operator]  # the gateway's method


async def test_wait_that_outlasts_the_call_is_an_error_at_once(
    servers: tuple[OpenAIServer, OpenAIServer],
) -> None:
    servers[0].always(Reply(status=429, headers={"Retry-After": "30"}))
    async with opened(servers, Routing(retry=QUICK), "a/m") as gateway:
        began = time.monotonic()
        with pytest.raises(RateLimitError) as caught:
            await gateway.generate_async("Hi", timeout=5, tenant_id="acme")
    assert time.monotonic() - began < 2
    assert caught.value.retry_after == pytest.approx(30, abs=1)


async def test_hanging_model_leaves_time_for_the_next_within_one_deadline(
    servers: tuple[OpenAIServer, OpenAIServer],
) -> None:
    servers[0].always(Reply(hang=True))
    async with opened(servers, both()) as gateway:
        began = time.monotonic()
        answer = await gateway.generate_async("Hi", timeout=2, tenant_id="acme")
        assert time.monotonic() - began < 4
        servers[1].always(Reply(hang=True))
        began = time.monotonic()
        with pytest.raises(ProviderError):
            await gateway.generate_async("Ho", timeout=0.6, tenant_id="acme")
        assert time.monotonic() - began < 4
    assert answer.model == "b/m"


async def test_targets_own_time_limit_is_kept(servers: tuple[OpenAIServer, OpenAIServer]) -> None:
    servers[0].always(Reply(hang=True))
    route = Route((Target(model="a/m", timeout=0.1), "b/m"))
    async with opened(servers, Routing({"chat": route})) as gateway:
        began = time.monotonic()
        await gateway.generate_async("Hi", timeout=20, tenant_id="acme")
    assert time.monotonic() - began < 8


async def test_tenant_that_always_fails_leaves_others_served(
    servers: tuple[OpenAIServer, OpenAIServer],
) -> None:
    fails = Reply(status=500)
    async with opened(servers, Routing(retry=RetryPolicy(attempts=1)), "a/m") as gateway:
        for number in range(30):
            servers[0].reply(*([fails] if number < 8 else []))
            with pytest.raises((ProviderError, CircuitOpenError)):
                await gateway.generate_async("Hi", tenant_id="broken")
            await gateway.generate_async("Hi", tenant_id="well")
        with pytest.raises(CircuitOpenError):
            await gateway.generate_async("Hi", tenant_id="broken")


async def test_provider_that_is_down_for_all_is_left_alone_within_ten_calls(
    servers: tuple[OpenAIServer, OpenAIServer],
) -> None:
    async with opened(servers, Routing(retry=RetryPolicy(attempts=1)), "a/m") as gateway:
        for number in range(50):
            await gateway.generate_async("Hi", tenant_id=f"t{number % 10}")
        servers[0].always(DOWN)
        for number in range(50):
            with pytest.raises((ProviderError, CircuitOpenError)):
                await gateway.generate_async("Hi", tenant_id=f"t{number % 10}")
    assert len(servers[0].requests) - 50 <= 10


async def test_stream_that_breaks_anywhere_goes_on_without_a_word_twice(
    servers: tuple[OpenAIServer, OpenAIServer],
) -> None:
    for cut in range(9):
        async with opened(servers, both()) as gateway:
            servers[0].always(Reply(text=TEXT, cut=cut))
            parts = [part async for part in gateway.stream("Hi", tenant_id="acme")]
        assert "".join(part.text for part in parts) == TEXT
        assert [part.finish_reason for part in parts].count("stop") == 1


async def test_stream_that_nobody_continues_ends_with_one_error_and_no_word_twice(
    servers: tuple[OpenAIServer, OpenAIServer],
) -> None:
    servers[0].always(Reply(text=TEXT, cut=4))
    servers[1].always(Reply(text="one two other words entirely"))
    said: list[str] = []
    async with opened(servers, both()) as gateway:
        try:
            async for part in gateway.stream("Hi", tenant_id="acme"):
                said.append(part.text)  # noqa: PERF401 - it ends with an error
        except ProviderError:
            said.append("")
        else:
            pytest.fail("the stream ended as if it were whole")
    assert TEXT.startswith("".join(said))


async def test_continuation_that_is_shorter_than_what_was_said_is_none(
    servers: tuple[OpenAIServer, OpenAIServer],
) -> None:
    servers[0].always(Reply(text=TEXT, cut=5))
    servers[1].always(Reply(text="one two"))
    async with opened(servers, both()) as gateway:
        with pytest.raises(ProviderError):
            async for _ in gateway.stream("Hi", tenant_id="acme"):
                pass


async def test_stream_that_does_not_begin_in_time_begins_elsewhere(
    servers: tuple[OpenAIServer, OpenAIServer],
) -> None:
    servers[0].always(Reply(hang=True))
    async with opened(servers, both()) as gateway:
        parts = [p.text async for p in gateway.stream("Hi", timeout=2, tenant_id="acme")]
    assert "".join(parts) == TEXT


async def test_slow_model_is_hedged_and_given_up(
    servers: tuple[OpenAIServer, OpenAIServer],
) -> None:
    servers[0].always(Reply(hang=True))
    routing = Routing({"chat": Route(("a/m", "b/m"), hedge_after=0.05)})
    async with opened(servers, routing) as gateway:
        began = time.monotonic()
        answer = await gateway.generate_async("Hi", tenant_id="acme")
        took = time.monotonic() - began
    assert (answer.model, answer.fallback_from) == ("b/m", "a/m")
    assert took < 5
    await asyncio.to_thread(servers[0].wait_for_disconnect)


async def test_fast_model_is_not_hedged(servers: tuple[OpenAIServer, OpenAIServer]) -> None:
    routing = Routing({"chat": Route(("a/m", "b/m"), hedge_after=5.0)})
    async with opened(servers, routing) as gateway:
        await gateway.generate_async("Hi", tenant_id="acme")
    assert servers[1].requests == ()


async def test_hedge_whose_both_models_fail_is_an_error(
    servers: tuple[OpenAIServer, OpenAIServer],
) -> None:
    for server in servers:
        server.always(DOWN)
    routing = Routing({"chat": Route(("a/m", "b/m"), hedge_after=0.01)}, retry=QUICK)
    async with opened(servers, routing) as gateway:
        with pytest.raises(ProviderError):
            await gateway.generate_async("Hi", tenant_id="acme")


class Model:
    """A provider in this process, for errors and orders that no server is needed for."""

    revision = ""

    def __init__(self, name: str, error: Exception | None = None) -> None:
        self.name = name
        self.error = error
        self.calls = 0
        self.seconds = 0.0

    async def complete(self, request: ChatRequest) -> Completion:
        self.calls += 1
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return Completion(f"from {self.name}", request.model, usage=Usage(10, 10))

    async def stream(self, request: ChatRequest) -> AsyncIterator[CompletionChunk]:
        answer = await self.complete(request)
        yield CompletionChunk(answer.text)
        yield CompletionChunk("", "stop", usage=answer.usage)

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return Embeddings(tuple((1.0,) for _ in request.texts), request.model)

    async def health(self) -> Health:
        return Health("ok")

    async def aclose(self) -> None:
        return None


def among(models: list[Model], route: Route, **options: object) -> LLMGateway:
    routing = Routing({"chat": route}, retry=QUICK, **options)  # type: ignore[arg-type]  # a test's own
    return create_gateway(models, "chat", governance=Governance(routing=routing))


@pytest.mark.parametrize(
    ("error", "extra"),
    [
        (ContextLengthError("Too long."), {"longer": ("b/m",)}),
        (ContentPolicyError("No."), {"policy": ("b/m",)}),
    ],
)
async def test_conversation_that_does_not_suit_a_model_goes_to_the_one_for_that_case(
    error: Exception, extra: dict[str, tuple[str, ...]]
) -> None:
    models = [Model("a", error), Model("b")]
    async with among(models, Route(("a/m",), **extra)) as gateway:  # type: ignore[arg-type]  # models
        answer = await gateway.generate_async("Hi", tenant_id="acme")
    assert (answer.text, answer.fallback_from) == ("from b", "a/m")


async def test_conversation_that_no_model_can_take_is_refused_once() -> None:
    models = [Model("a", ContextLengthError("Long.")), Model("b", ContextLengthError("Longer."))]
    async with among(models, Route(("a/m",), longer=("b/m",))) as gateway:
        with pytest.raises(ContextLengthError, match="Longer"):
            await gateway.generate_async("Hi", tenant_id="acme")
    assert [model.calls for model in models] == [1, 1]


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_key_or_name_that_is_refused_makes_the_next_model_answer(
    servers: tuple[OpenAIServer, OpenAIServer], status: int
) -> None:
    first, second = servers
    first.always(Reply(status=status))
    async with opened(servers, both()) as gateway:
        answers = [await gateway.generate_async(f"{n}", tenant_id="acme") for n in range(3)]
    assert [answer.model for answer in answers] == ["b/m"] * 3
    assert answers[0].fallback_from == "a/m"
    # It stays so for a while: nobody asks it first again.
    assert len(first.requests) == 1
    assert len(second.requests) == 3


async def test_key_that_is_refused_by_all_is_told_as_what_it_is() -> None:
    error = ConfigurationError("The key was refused.")
    models = [Model("a", error), Model("b", error)]
    async with among(models, Route(("a/m", "b/m"))) as gateway:
        with pytest.raises(ConfigurationError, match="refused"):
            await gateway.generate_async("Hi", tenant_id="acme")
    assert [model.calls for model in models] == [1, 1]


class Thinking(Model):
    """Is at work for a while before it says anything."""

    async def stream(self, request: ChatRequest) -> AsyncIterator[CompletionChunk]:
        for _ in range(8):
            await asyncio.sleep(0.1)
            yield ALIVE
        yield CompletionChunk("At last.")
        yield CompletionChunk("", "stop", usage=Usage(10, 10))


async def test_stream_in_which_a_provider_is_at_work_is_no_silent_one() -> None:
    models = [Thinking("a"), Model("b")]
    async with among(models, Route(("a/m", "b/m"))) as gateway:
        stream = gateway.stream("Hi", timeout=0.5, tenant_id="acme")
        assert [chunk.text async for chunk in stream] == ["At last.", ""]
    async with create_gateway([Thinking("a")], "a/m") as gateway:
        stream = gateway.stream("Hi", timeout=0.3, tenant_id="acme")
        assert [chunk.text async for chunk in stream] == ["At last.", ""]


class Flaky(Model):
    """Fails every other request."""

    async def complete(self, request: ChatRequest) -> Completion:
        failing = self.calls % 2 == 0
        self.error = ProviderError("Down.", status=500, retryable=True) if failing else None
        return await super().complete(request)


async def test_retries_stay_within_their_budget() -> None:
    flaky = Flaky("a")
    routing = Routing(retry=RetryPolicy(attempts=3, base=0.001, cap=0.001))
    failed = 0
    async with create_gateway([flaky], "a/m", governance=Governance(routing=routing)) as gateway:
        for _ in range(100):
            try:
                await gateway.generate_async("Hi", tenant_id="acme")
            except ProviderError:
                failed += 1
    assert 100 < flaky.calls <= 100 * 1.1 + 10
    assert failed >= 20


async def test_calls_are_spread_by_weight() -> None:
    models = [Model("a"), Model("b")]
    route = Route((Target(model="a/m", weight=3), Target(model="b/m")), order="weighted")
    async with among(models, route, chance=random.Random(7).random) as gateway:
        for _ in range(400):
            await gateway.generate_async("Hi", tenant_id="acme")
    assert models[0].calls == pytest.approx(300, abs=30)


async def test_least_busy_model_is_asked_first() -> None:
    models = [Model("a"), Model("b")]
    models[0].seconds = models[1].seconds = 0.05
    async with among(models, Route(("a/m", "b/m"), order="least_busy")) as gateway:
        await asyncio.gather(*(gateway.generate_async(f"{n}", tenant_id="acme") for n in range(20)))
    assert [model.calls for model in models] == [10, 10]


async def test_fastest_model_is_asked_first() -> None:
    models = [Model("a"), Model("b")]
    models[0].seconds = 0.02
    route = Route(("a/m", "b/m"), order="fastest")
    async with among(models, route, chance=lambda: 0.5) as gateway:
        for _ in range(10):
            await gateway.generate_async("Hi", tenant_id="acme")
    assert [model.calls for model in models] == [1, 9]


class Tariff:
    """A part that knows that `b` is the cheaper one."""

    async def chat(
        self, call: Call[ChatRequest], proceed: Proceed[ChatRequest, Completion]
    ) -> Completion:
        def price(notes: CallNotes, usage: Usage) -> Usage:
            return replace(usage, cost_usd=Decimal(1 if notes.model == "b/m" else 2))

        return await proceed(replace(call, price=price))

    async def embedding(
        self, call: Call[EmbeddingRequest], proceed: Proceed[EmbeddingRequest, Embeddings]
    ) -> Embeddings:
        return await proceed(call)


async def test_cheapest_model_is_asked_first() -> None:
    models = [Model("a"), Model("b")]
    routing = Routing({"chat": Route(("a/m", "b/m"), order="cheapest")})
    governance = Governance(prices=Tariff(), routing=routing)
    async with create_gateway(models, "chat", governance=governance) as gateway:
        assert (await gateway.generate_async("Hi", tenant_id="acme")).text == "from b"


async def test_model_that_failed_twice_is_asked_last_for_a_while() -> None:
    models = [Model("a", ProviderError("Down.", status=500, retryable=True)), Model("b")]
    async with among(models, Route(("a/m", "b/m"))) as gateway:
        for _ in range(20):
            await gateway.generate_async("Hi", tenant_id="acme")
    assert models[0].calls == 2


async def test_texts_to_embed_are_sent_again_when_a_model_failed() -> None:
    models = [Model("a", ProviderError("Down.", status=500, retryable=True)), Model("b")]
    routing = Routing({"vectors": Route(("a/m", "b/m"))}, retry=QUICK)
    async with create_gateway(models, governance=Governance(routing=routing)) as gateway:
        result = await gateway.embed(["text"], model="vectors", tenant_id="acme")
    assert result.vectors == ((1.0,),)


async def test_cancelled_call_leaves_nothing_behind() -> None:
    models = [Model("a"), Model("b")]
    models[0].seconds = models[1].seconds = 30
    async with among(models, Route(("a/m", "b/m"), hedge_after=0.01)) as gateway:
        call = asyncio.create_task(gateway.generate_async("Hi", tenant_id="acme"))
        async with asyncio.timeout(5):
            while not models[1].calls:  # noqa: ASYNC110 - a provider of ours has no event
                await asyncio.sleep(0.005)
        call.cancel()
        await asyncio.wait({call})
        assert call.cancelled()
        assert not [task for task in asyncio.all_tasks() if task.get_name() == "gateway-hedge"]


class Stubborn(Model):
    """A provider that does not let go when it is cancelled."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.lets_go = asyncio.Event()

    async def complete(self, request: ChatRequest) -> Completion:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await self.lets_go.wait()
        raise ProviderError("Too late.", retryable=True)


async def test_provider_that_resists_its_end_does_not_hold_a_hedged_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("motadata.gateway.routing._hedge._ENDING", 0.05)
    stubborn = Stubborn("a")
    async with among([stubborn, Model("b")], Route(("a/m", "b/m"), hedge_after=0.01)) as gateway:
        async with asyncio.timeout(5):
            answer = await gateway.generate_async("Hi", tenant_id="acme")
        left = [task for task in asyncio.all_tasks() if task.get_name() == "gateway-hedge"]
        stubborn.lets_go.set()
        await asyncio.wait(left, timeout=5)
    assert (answer.text, len(left)) == ("from b", 1)
    assert left[0].done()


async def test_request_that_resists_its_end_counts_as_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("motadata.gateway.routing._hedge._ENDING", 0.05)
    notes, stubborn = CallNotes(), Stubborn("a")
    request = ChatRequest("a/m", (Message("user", "Hi"),))
    call = Call(request, stubborn, 1.0, "acme", None, "use", notes=notes)

    async def ask(asked: Call[ChatRequest], target: Target) -> Completion:
        asked.notes.attempts += 1
        if target.model == "a/m":
            return await stubborn.complete(asked.request)
        return Completion("from b", "b/m")

    targets = (Target(model="a/m"), Target(model="b/m"))
    await first_answer(call, ask, targets, after=0.01)
    left = [task for task in asyncio.all_tasks() if task.get_name() == "gateway-hedge"]
    stubborn.lets_go.set()
    await asyncio.wait(left, timeout=5)
    assert (notes.attempts, notes.lost) == (2, 1)


@pytest.mark.parametrize(
    "broken",
    [
        {"targets": ()},
        {"targets": ("a/m", "a/m")},
        {"targets": ("bare",)},
        {"targets": ("a/m",), "order": "random"},
        {"targets": ("a/m",), "hedge_after": 0.0},
    ],
)
def test_route_that_leads_nowhere_is_refused(broken: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        Route(**broken)  # type: ignore[arg-type]  # that is the point


def test_route_to_a_provider_that_is_not_there_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="nobody"):
        create_gateway(governance=Governance(routing=Routing({"chat": Route(("nobody/m",))})))


async def test_hedge_adds_to_what_an_earlier_attempt_was_charged() -> None:
    notes = CallNotes(spent=Usage(10, 5, Decimal("0.01")))
    call = Call(
        request=ChatRequest("a/m", (Message("user", "Hi"),)),
        provider=OpenAIProvider("a", base_url="http://127.0.0.1:1"),
        timeout=1.0,
        tenant_id="acme",
        cache=None,
        cache_policy="use",
        notes=notes,
    )

    async def ask(asked: Call[ChatRequest], _target: Target) -> Completion:
        asked.notes.spent = Usage(1, 1, Decimal("0.002"))
        return Completion("Hello", "a/m")

    await first_answer(call, ask, (Target(model="a/m"), Target(model="b/m")), after=5.0)

    assert notes.spent == Usage(11, 6, Decimal("0.012"))
