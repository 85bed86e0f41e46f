"""Every call is one row in PostgreSQL: what it used, what it cost, how it ended; per tenant."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from motadata.core.cache import create_memory_cache
from motadata.core.errors import ConfigurationError, ProviderError
from motadata.core.models import Completion, CompletionChunk, Embeddings, Health, Usage
from motadata.core.observability import span
from motadata.core.protocols import Database, Row
from motadata.core.resilience import RetryPolicy
from motadata.gateway import (
    Attribution,
    Call,
    ChatRequest,
    Deduplication,
    EmbeddingBatches,
    EmbeddingRequest,
    Governance,
    LLMGateway,
    Proceed,
    Verdict,
    create_gateway,
)
from motadata.gateway.routing import Route, Routing
from motadata.gateway.usage import PriceTable, Pricing, UsageLog, UsagePolicy


USED = Usage(1000, 100, None, 200, 50, 40, 0, 30)
# 750 x 1 + 200 x 0.1 + 20 x 1.25 + 30 x 2 + 100 x 10 dollars a million.
COST = Decimal("0.001855")
PRICES = {"input": "1", "output": "10", "cached": "0.1", "written": "1.25", "long_written": "2"}
TABLE = PriceTable(
    {
        "meter/m": PRICES,
        "meter/e": {"input": "0.02"},
    },
    version="test-1",
)


class Meter:
    """Answers every question at a known price, when it is let."""

    name = "meter"
    revision = ""

    def __init__(self) -> None:
        self.calls = 0
        self.error: ProviderError | None = None
        self.failures = 1 << 30
        self.cut = False
        self.asked = asyncio.Event()
        self.let = asyncio.Event()
        self.let.set()

    async def complete(self, request: ChatRequest) -> Completion:
        self.calls += 1
        self.asked.set()
        await self.let.wait()
        if self.error is not None and self.calls <= self.failures:
            raise self.error
        return Completion(f"answer {self.calls}", request.model, usage=USED)

    async def stream(self, request: ChatRequest) -> AsyncIterator[CompletionChunk]:
        answer = await self.complete(request)
        yield CompletionChunk(answer.text)
        if self.cut:
            raise ProviderError("It broke off.", retryable=True)
        yield CompletionChunk("", "stop", usage=USED)

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        self.calls += 1
        await self.let.wait()
        vectors = tuple((1.0, 0.0) for _ in request.texts)
        return Embeddings(vectors, request.model, Usage(1000))

    async def health(self) -> Health:
        return Health("ok")

    async def aclose(self) -> None:
        return None


class Flags:
    """A guardrail that flags everything."""

    async def chat(
        self, call: Call[ChatRequest], proceed: Proceed[ChatRequest, Completion]
    ) -> Completion:
        call.notes.verdicts.append(Verdict("words.secret", "flagged", "input"))
        return await proceed(call)

    async def embedding(
        self, call: Call[EmbeddingRequest], proceed: Proceed[EmbeddingRequest, Embeddings]
    ) -> Embeddings:
        return await proceed(call)


@pytest.fixture
def meter() -> Meter:
    return Meter()


@pytest.fixture
def acme() -> str:
    return f"acme-{uuid4().hex}"


@pytest.fixture
def log(database: Database, tmp_path: Path) -> UsageLog:
    return UsageLog(database, tmp_path / "usage", UsagePolicy(interval=0.01))


@pytest.fixture
async def gateway(log: UsageLog, meter: Meter) -> AsyncIterator[LLMGateway]:
    governance = Governance(
        usage=log,
        guardrail_inputs=Flags(),
        deduplication=Deduplication(),
        batches=EmbeddingBatches(),
        prices=Pricing(TABLE),
    )
    async with create_gateway(
        [meter],
        "meter/m",
        default_embedding_model="meter/e",
        governance=governance,
        cache=create_memory_cache(),
    ) as made:
        yield made


async def rows(database: Database, log: UsageLog, tenant: str) -> list[Row]:
    async with asyncio.timeout(20):
        await log.flush()
    query = "select * from motadata.gateway_call where tenant_id = $1 order by call_id"
    return await database.execute_query(query, tenant, tenant_id=tenant)


async def test_call_is_one_row_with_what_it_used_and_cost(
    gateway: LLMGateway, database: Database, log: UsageLog, acme: str
) -> None:
    by = Attribution(user="u-7", feature="summary", prompt="summary@3")
    with span("request") as current:
        answer = await gateway.generate_async("Why?", attribution=by, tenant_id=acme)
        trace = current.trace_id

    [row] = await rows(database, log, acme)
    assert row["call_id"] == UUID(answer.call_id)
    expected = {
        "operation": "chat",
        "user_id": "u-7",
        "feature": "summary",
        "prompt": "summary@3",
        "model_asked": "meter/m",
        "model": "meter/m",
        "provider": "meter",
        "input_tokens": 1000,
        "cached_input_tokens": 200,
        "cache_write_tokens": 50,
        "long_cache_write_tokens": 30,
        "output_tokens": 100,
        "reasoning_tokens": 40,
        "cost_usd": COST,
        "price_version": "test-1",
        "cached": "",
        "shared": False,
        "streamed": False,
        "attempts": 1,
        "lost": 0,
        "finish_reason": "stop",
        "error": "",
        "verdicts": [["words.secret", "flagged", "input"]],
        "trace_id": trace,
        "asked": None,
        "answered": None,
    }
    assert {name: row[name] for name in expected} == expected
    assert answer.usage == replace(USED, cost_usd=COST)


async def test_stream_is_one_row_with_the_time_to_its_first_part(
    gateway: LLMGateway, database: Database, log: UsageLog, acme: str
) -> None:
    chunks = [chunk async for chunk in gateway.stream("Why?", tenant_id=acme)]

    [row] = await rows(database, log, acme)
    assert (row["streamed"], row["cost_usd"]) == (True, COST)
    assert 0 < float(str(row["first_token_seconds"])) <= float(str(row["seconds"]))
    assert (chunks[-1].call_id, chunks[-1].usage) == (
        str(row["call_id"]),
        replace(USED, cost_usd=COST),
    )


async def test_answer_from_the_cache_is_billed_nothing_and_its_saving_is_noted(
    gateway: LLMGateway, database: Database, log: UsageLog, acme: str
) -> None:
    first, again = [await gateway.generate_async("Why?", tenant_id=acme) for _ in range(2)]

    found = {str(row["call_id"]): row for row in await rows(database, log, acme)}
    paid, free = found[first.call_id], found[again.call_id]
    assert (paid["cost_usd"], paid["saved_usd"], paid["cached"]) == (COST, None, "")
    assert (free["cost_usd"], free["saved_usd"], free["cached"]) == (0, COST, "exact")
    assert (free["input_tokens"], free["attempts"]) == (0, 0)
    assert (free["model"], free["provider"]) == ("meter/m", "meter")


async def test_answer_of_a_route_from_the_cache_is_its_models(
    database: Database, log: UsageLog, meter: Meter, acme: str
) -> None:
    routing = Routing({"chat": Route(("meter/m",))})
    governance = Governance(usage=log, prices=Pricing(TABLE), routing=routing)
    async with create_gateway(
        [meter], "chat", governance=governance, cache=create_memory_cache()
    ) as gateway:
        for _ in range(2):
            await gateway.generate_async("Why?", tenant_id=acme)
        found = await rows(database, log, acme)

    assert meter.calls == 1
    assert [(row["model_asked"], row["model"], row["provider"]) for row in found] == [
        ("chat", "meter/m", "meter")
    ] * 2


def money(found: list[Row]) -> Counter[tuple[object, object]]:
    """Count what rows cost and saved; within a millisecond they have no order."""
    return Counter((row["cost_usd"], row["saved_usd"]) for row in found)


EMBEDDED = Decimal("0.00002")  # 1000 tokens at 0.02 dollars a million, whatever is embedded


async def test_vectors_from_the_cache_are_billed_nothing_and_their_saving_is_noted(
    gateway: LLMGateway, database: Database, log: UsageLog, meter: Meter, acme: str
) -> None:
    for _ in range(2):
        await gateway.embed(["one", "three", "one"], tenant_id=acme)

    found = await rows(database, log, acme)
    assert meter.calls == 1
    assert {row["cached"] for row in found} == {"", "exact"}
    assert {(row["model"], row["provider"]) for row in found} == {("meter/e", "meter")}
    assert money(found) == Counter([(EMBEDDED, None), (0, EMBEDDED)])


async def test_texts_of_which_some_are_known_save_what_those_once_cost(
    gateway: LLMGateway, database: Database, log: UsageLog, acme: str
) -> None:
    await gateway.embed(["a", "bb", "ccc", "dddd"], tenant_id=acme)
    await gateway.embed(["a", "bb", "ccc", "new", "newer"], tenant_id=acme)

    found = await rows(database, log, acme)
    assert money(found) == Counter([(EMBEDDED, None), (EMBEDDED, EMBEDDED * 6 / 10)])
    assert {row["cached"] for row in found} == {""}


async def test_savings_of_texts_asked_one_by_one_add_up_to_what_was_paid(
    gateway: LLMGateway, database: Database, log: UsageLog, acme: str
) -> None:
    texts = ["a", "bb", "ccccccc"]
    await gateway.embed(texts, tenant_id=acme)
    for text in texts:
        await gateway.embed([text], tenant_id=acme)

    free = [row for row in await rows(database, log, acme) if not row["cost_usd"]]
    assert len(free) == len(texts)
    assert sum(Decimal(str(row["saved_usd"])) for row in free) == EMBEDDED


async def test_texts_that_an_equal_call_embeds_save_beside_those_that_are_known(
    gateway: LLMGateway, database: Database, log: UsageLog, meter: Meter, acme: str
) -> None:
    await gateway.embed(["a", "b"], tenant_id=acme)
    meter.let.clear()
    calls = [asyncio.ensure_future(gateway.embed(["a", "x"], tenant_id=acme)) for _ in "12"]
    while meter.calls < 2:  # noqa: ASYNC110 - the meter tells of chats only
        await asyncio.sleep(0.001)
    meter.let.set()
    await asyncio.gather(*calls)
    await gateway.embed(["x"], tenant_id=acme)

    half = EMBEDDED / 2
    first, payer, follower = (EMBEDDED, None), (EMBEDDED, half), (0, half + EMBEDDED)
    # The follower did not keep `x` as something that had cost nothing.
    last = (0, EMBEDDED)
    assert money(await rows(database, log, acme)) == Counter([first, payer, follower, last])


async def test_vectors_of_a_model_without_a_price_save_nobody_knows_what(
    gateway: LLMGateway, database: Database, log: UsageLog, acme: str
) -> None:
    for _ in range(2):
        await gateway.embed(["a"], model="meter/unlisted", tenant_id=acme)

    found = await rows(database, log, acme)
    assert money(found) == Counter([(None, None), (0, None)])


async def test_vectors_that_an_older_version_kept_are_used(
    database: Database, log: UsageLog, meter: Meter, acme: str
) -> None:
    """One without prices keeps vectors as before: bare."""
    cache = create_memory_cache()
    for governance in (Governance(), Governance(usage=log, prices=Pricing(TABLE))):
        async with create_gateway(
            [meter], default_embedding_model="meter/e", governance=governance, cache=cache
        ) as gateway:
            await gateway.embed(["a"], tenant_id=acme)
            if governance.usage is not None:
                assert money(await rows(database, log, acme)) == Counter([(0, None)])

    assert meter.calls == 1


async def test_followers_are_billed_nothing_and_their_savings_are_noted(
    gateway: LLMGateway, database: Database, log: UsageLog, meter: Meter, acme: str
) -> None:
    meter.let.clear()
    calls = [asyncio.ensure_future(gateway.generate_async("Why?", tenant_id=acme)) for _ in "12345"]
    await meter.asked.wait()
    meter.let.set()
    await asyncio.gather(*calls)

    found = await rows(database, log, acme)
    assert sorted(row["cost_usd"] for row in found) == [0, 0, 0, 0, COST]  # type: ignore[type-var]  # decimals
    assert [row["saved_usd"] for row in found if row["shared"]] == [COST] * 4


async def test_sum_over_tenants_is_the_sum_over_the_providers_calls(
    gateway: LLMGateway, database: Database, log: UsageLog, meter: Meter, acme: str
) -> None:
    tenants = [f"{acme}-{number}" for number in range(5)]
    questions = [f"Why {number}?" for number in range(3)]
    await asyncio.gather(
        *(
            gateway.generate_async(question, tenant_id=tenant)
            for question in questions
            for tenant in tenants
            for _ in range(4)
        )
    )
    await asyncio.gather(
        *(gateway.embed([f"text {n}"], tenant_id=tenant) for tenant in tenants for n in range(7))
    )

    found = [row for tenant in tenants for row in await rows(database, log, tenant)]
    chats = [row for row in found if row["operation"] == "chat"]
    vectors = [row for row in found if row["operation"] == "embedding"]
    requests = meter.calls - len(tenants) * len(questions)
    assert (len(chats), len(vectors)) == (60, 35)
    assert sum(Decimal(str(row["cost_usd"])) for row in chats) == 15 * COST
    assert sum(Decimal(str(row["cost_usd"])) for row in vectors) == requests * Decimal("0.00002")
    assert {row["price_version"] for row in vectors} == {"test-1"}


async def test_failure_is_a_row_with_its_code_and_no_price(
    gateway: LLMGateway, database: Database, log: UsageLog, meter: Meter, acme: str
) -> None:
    meter.error = ProviderError("It is down.", retryable=True)
    with pytest.raises(ProviderError):
        await gateway.generate_async("Why?", tenant_id=acme)

    [row] = await rows(database, log, acme)
    assert (row["error"], row["cost_usd"], row["finish_reason"]) == ("provider_error", None, "")


@pytest.mark.parametrize(("status", "lost"), [(None, 1), (503, 0)])
async def test_failure_that_may_be_charged_is_marked_as_lost(
    gateway: LLMGateway,
    database: Database,
    log: UsageLog,
    meter: Meter,
    acme: str,
    status: int | None,
    lost: int,
) -> None:
    meter.error = ProviderError("It is down.", retryable=True, status=status)
    with pytest.raises(ProviderError):
        await gateway.generate_async("Why?", tenant_id=acme)
    with pytest.raises(ProviderError):
        [chunk async for chunk in gateway.stream("Why?", tenant_id=acme)]

    found = await rows(database, log, acme)
    assert [(row["lost"], row["attempts"]) for row in found] == [(lost, 1)] * 2


async def test_stream_that_is_cut_before_its_usage_is_marked_as_lost(
    gateway: LLMGateway, database: Database, log: UsageLog, meter: Meter, acme: str
) -> None:
    meter.cut = True
    with pytest.raises(ProviderError):
        [chunk async for chunk in gateway.stream("Why?", tenant_id=acme)]

    [row] = await rows(database, log, acme)
    assert (row["lost"], row["cost_usd"], row["output_tokens"]) == (1, None, 0)
    assert row["first_token_seconds"] is not None


async def test_reader_that_leaves_once_it_knows_the_usage_has_lost_nothing(
    gateway: LLMGateway, database: Database, log: UsageLog, acme: str
) -> None:
    async with aclosing(gateway.stream("Why?", tenant_id=acme)) as chunks:  # type: ignore[type-var]  # an async generator
        while (await anext(chunks)).finish_reason is None:
            pass

    [row] = await rows(database, log, acme)
    assert (row["lost"], row["cost_usd"]) == (0, COST)


async def test_try_that_was_lost_is_told_beside_what_the_next_one_used(
    database: Database, log: UsageLog, meter: Meter, acme: str
) -> None:
    meter.error, meter.failures = ProviderError("It broke off.", retryable=True), 1
    patient = Routing(retry=RetryPolicy(attempts=2, base=0.001, cap=0.001))
    governance = Governance(usage=log, prices=Pricing(TABLE), routing=patient)
    async with create_gateway([meter], "meter/m", governance=governance) as gateway:
        await gateway.generate_async("Why?", tenant_id=acme)
        [row] = await rows(database, log, acme)

    assert (row["lost"], row["attempts"], row["cost_usd"]) == (1, 2, COST)


async def test_reader_that_leaves_a_stream_leaves_a_row(
    gateway: LLMGateway, database: Database, log: UsageLog, meter: Meter, acme: str
) -> None:
    async with aclosing(gateway.stream("Why?", tenant_id=acme)) as chunks:  # type: ignore[type-var]  # an async generator
        meter.let.clear()
        reading = asyncio.ensure_future(anext(chunks))
        await meter.asked.wait()
        reading.cancel()
        await asyncio.wait({reading})

    [row] = await rows(database, log, acme)
    assert (row["error"], row["streamed"]) == ("cancelled", True)
    assert (row["lost"], row["cost_usd"]) == (1, None)


async def test_model_without_a_price_costs_nobody_knows_what(
    gateway: LLMGateway, database: Database, log: UsageLog, acme: str
) -> None:
    answer = await gateway.generate_async("Why?", model="meter/new", tenant_id=acme)

    [row] = await rows(database, log, acme)
    assert (row["cost_usd"], row["price_version"], row["input_tokens"]) == (None, "", 1000)
    assert answer.usage.cost_usd is None


async def test_texts_are_kept_only_when_asked_for(
    database: Database, meter: Meter, acme: str, tmp_path: Path
) -> None:
    log = UsageLog(database, tmp_path, UsagePolicy(interval=0.01, texts=True))
    async with create_gateway([meter], "meter/m", governance=Governance(usage=log)) as gateway:
        await gateway.generate_async("Why\x00 \ud800?", tenant_id=acme)
        [row] = await rows(database, log, acme)

    assert (row["asked"], row["answered"]) == ("user: Why\ufffd ??", "answer 1")


async def test_another_tenant_sees_none_of_the_rows(
    gateway: LLMGateway, database: Database, log: UsageLog, acme: str
) -> None:
    await gateway.generate_async("Why?", tenant_id=acme)
    await gateway.generate_async("Why?", tenant_id=f"{acme}-2")
    await rows(database, log, acme)

    query = "select tenant_id from motadata.gateway_call"
    for tenant in (acme, f"{acme}-2"):
        found = await database.execute_query(query, tenant_id=tenant)
        assert {row["tenant_id"] for row in found} == {tenant}
    assert await database.execute_query(query, tenant_id=f"{acme}-3") == []


def sharing(meter: Meter, log: UsageLog) -> LLMGateway:
    return create_gateway(
        [meter], "meter/m", default_embedding_model="meter/e", governance=Governance(usage=log)
    )


async def test_gateway_that_closes_leaves_the_log_to_the_others(
    database: Database, log: UsageLog, meter: Meter, acme: str
) -> None:
    async with sharing(meter, log) as chat:
        async with sharing(meter, log) as batch:
            await batch.generate_async("1", tenant_id=acme)
        await chat.generate_async("2", tenant_id=acme)
        assert len(await rows(database, log, acme)) == 2
        assert (await log.health()).status == "ok"

    assert (await log.health()).status == "down"


async def test_log_that_was_closed_is_opened_again(
    database: Database, log: UsageLog, meter: Meter, acme: str
) -> None:
    for number in range(3):
        async with sharing(meter, log) as gateway:
            await gateway.generate_async(str(number), tenant_id=acme)
            assert len(await rows(database, log, acme)) == number + 1


async def test_gateways_that_come_and_go_at_once_lose_no_row(
    database: Database, log: UsageLog, meter: Meter, acme: str
) -> None:
    async def come_and_go(number: int) -> None:
        for turn in range(5):
            async with sharing(meter, log) as gateway:
                await gateway.generate_async(f"{number} {turn}", tenant_id=acme)

    await asyncio.gather(*(come_and_go(number) for number in range(5)))

    assert (await log.health()).status == "down"
    async with log:
        assert len(await rows(database, log, acme)) == 25


async def test_log_that_is_not_open_passes_no_call_on(
    log: UsageLog, meter: Meter, acme: str
) -> None:
    gateway = sharing(meter, log)
    with pytest.raises(ConfigurationError, match="not open"):
        await gateway.generate_async("Why?", tenant_id=acme)
    with pytest.raises(ConfigurationError, match="not open"):
        await gateway.embed(["one"], tenant_id=acme)

    assert meter.calls == 0
    await gateway.aclose()


async def test_flush_of_a_log_that_is_not_open_is_refused_at_once(
    log: UsageLog, meter: Meter
) -> None:
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="not open"):
            await log.flush()
        async with sharing(meter, log):
            await asyncio.wait_for(log.flush(), 10)
