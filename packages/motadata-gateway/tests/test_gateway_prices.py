"""What a usage costs: the golden set, tiers and terms, names, tenants' own prices."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict
from decimal import Decimal
from functools import reduce
from importlib.resources import files
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motadata.core.errors import ConfigurationError
from motadata.core.errors import ConnectionError as DatabaseConnectionError
from motadata.core.models import Completion, Usage
from motadata.core.protocols import Database, Row
from motadata.core.testing.manual_clock import ManualClock
from motadata.gateway import Call, ChatRequest
from motadata.gateway.usage import (
    ModelPrices,
    PriceOverrides,
    PriceTable,
    Pricing,
    Service,
    TokenPrices,
    merged_counts,
    packaged_prices,
    usage_from_anthropic,
    usage_from_bedrock,
    usage_from_gemini,
    usage_from_openai,
)


GOLDEN = json.loads((Path(__file__).parent / "data" / "usage_golden.json").read_text())
READERS = {
    "openai": usage_from_openai,
    "anthropic": usage_from_anthropic,
    "gemini": usage_from_gemini,
    "bedrock": usage_from_bedrock,
}
TABLE = PriceTable(GOLDEN["prices"], version="golden")


def counted(case: Mapping[str, object]) -> Usage:
    """Read a case as a stream is read: the counts of its events, one after the other."""
    events: list[dict[str, object]] = case["events"]  # type: ignore[assignment]  # the file's shape
    unwrapped = [event.get("message", event.get("response", event)) for event in events]
    counts = reduce(merged_counts, unwrapped, {})  # type: ignore[arg-type]  # objects all
    if case["shape"] == "gemini":
        usage = usage_from_gemini(counts, model=str(case["model"]))
    else:
        usage = READERS[str(case["shape"])](counts)
    assert usage is not None
    return usage


@pytest.mark.parametrize(
    "case", GOLDEN["cases"], ids=lambda case: f"{case['shape']}: {case['name']}"
)
def test_golden_usage_is_counted_and_priced_exactly(case: dict[str, object]) -> None:
    usage = counted(case)

    told = asdict(usage)
    stated = told.pop("cost_usd")
    assert told == case["usage"]
    assert stated == (Decimal(str(case["stated"])) if "stated" in case else None)
    cost = TABLE.cost(str(case["model"]), usage)
    assert cost is not None
    assert abs(cost - Decimal(str(case["cost"]))) < Decimal("1e-9")
    assert cost == Decimal(str(case["cost"]))


def test_golden_set_is_large_and_holds_every_shape() -> None:
    shapes = [case["shape"] for case in GOLDEN["cases"]]

    assert len(shapes) >= 80
    assert {shape: shapes.count(shape) >= 10 for shape in READERS} == dict.fromkeys(READERS, True)


@pytest.mark.parametrize(
    ("asked", "answered", "searches"),
    [
        ("", "", 1),
        ("gemini/gemini-2.5-pro", "", 1),
        ("vertex_ai/gemini-live-2.5-flash-native-audio", "", 1),
        ("gemini/gemini-3-pro-preview", "", 2),
        ("vertex_ai/gemini-3.1-flash-lite", "", 2),
        ("gemini/gemini-flash-latest", "", 2),
        ("gemini/gemini-flash-latest", "gemini-2.5-flash", 1),
        ("gemini/gemini-flash-latest", "scripted", 2),
        ("", "gemini-3-flash-preview", 2),
    ],
)
def test_searches_of_gemini_count_by_the_query_from_its_third_generation_on(
    asked: str, answered: str, searches: int
) -> None:
    found = {"groundingMetadata": {"webSearchQueries": ["a", "b", "a", ""]}}
    counts = {"promptTokenCount": 1, "totalTokenCount": 1}
    answer = {"candidates": [found], "usageMetadata": counts, "modelVersion": answered}

    usage = usage_from_gemini(answer, model=asked)
    assert usage is not None
    assert usage.web_searches == searches


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize(
    "payload",
    [{}, {"usage": None}, {"choices": []}, {"usage": "many"}, {"usageMetadata": []}],
    ids=str,
)
def test_event_without_usage_says_none(reader: object, payload: dict[str, object]) -> None:
    assert reader(payload) is None  # type: ignore[operator]  # one of the readers


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *(
                        "usage",
                        "message",
                        "response",
                        "metadata",
                        "usageMetadata",
                        "choices",
                        "cost",
                    ),
                    *("prompt_tokens", "completion_tokens", "total_tokens", "input_tokens"),
                    *("output_tokens", "prompt_tokens_details", "cached_tokens", "cache_creation"),
                    *("ephemeral_1h_input_tokens", "cacheDetails", "inputTokens", "outputTokens"),
                    *("promptTokenCount", "thoughtsTokenCount", "candidates", "output", "type"),
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
)


@given(st.sampled_from(sorted(READERS)), st.dictionaries(st.just("usage"), JSON) | JSON)
def test_no_payload_breaks_a_reader_or_gives_parts_above_the_whole(
    shape: str, payload: object
) -> None:
    if not isinstance(payload, dict):
        return
    usage = READERS[shape](payload)
    if usage is None:
        return
    assert usage.cached_input_tokens + usage.cache_write_tokens <= usage.input_tokens
    assert usage.reasoning_tokens <= usage.output_tokens
    assert usage.long_cache_write_tokens <= usage.cache_write_tokens
    assert min(asdict(usage)[name] for name in asdict(usage) if name != "cost_usd") >= 0


def test_packaged_table_prices_the_models_that_people_call() -> None:
    table = packaged_prices()

    assert len(table.version) == 12
    assert len(table) > 1000
    for model in (
        *("openai/gpt-4o", "openai/text-embedding-3-small", "anthropic/claude-sonnet-4-5"),
        *("gemini/gemini-2.5-pro", "bedrock/amazon.nova-pro-v1:0", "motadata/extractive"),
    ):
        assert model in table
        assert table.cost(model, Usage(1000, 10)) is not None
    assert table.cost("motadata/extractive", Usage(1000, 10)) == 0


def test_every_price_of_the_packaged_table_is_understood() -> None:
    table = packaged_prices()
    data = files("motadata.gateway.usage").joinpath("prices.json").read_text()
    models = json.loads(data)["models"]

    costs = [table.cost(model, Usage(1000, 10, None, 100, 100, 5, 1, 50)) for model in models]
    assert None not in costs
    assert min(cost for cost in costs if cost is not None) >= 0


@pytest.mark.parametrize(
    ("service", "expected"),
    [("standard", "3.0"), ("batch", "1.5"), ("flex", "2.1"), ("priority", "3.0")],
)
def test_terms_that_have_no_price_cost_the_usual(service: Service, expected: str) -> None:
    prices = {
        "input": "1",
        "output": "2",
        "batch": {"input": "0.5", "output": "1"},
        "flex": {"input": "0.1"},
    }
    table = PriceTable({"p/m": prices}, version="1")

    cost = table.cost("p/m", Usage(1_000_000, 1_000_000), service=service)
    assert cost == Decimal(expected)


def test_highest_threshold_that_is_passed_counts() -> None:
    above = {"128000": {"input": "2"}, "200000": {"input": "3"}, "1000000": {"input": "9"}}
    table = PriceTable({"p/m": {"input": "1", "above": above}}, version="1")

    costs = [table.cost("p/m", Usage(sent)) for sent in (128_000, 128_001, 200_000, 500_000)]
    assert costs == [Decimal(text) for text in ("0.128", "0.256002", "0.4", "1.5")]


@pytest.mark.parametrize(
    ("called", "listed"),
    [
        ("openai/gpt-4o-2031-01-31", "openai/gpt-4o"),
        ("anthropic/claude-x-20310131", "anthropic/claude-x"),
        ("anthropic/claude-x-latest", "anthropic/claude-x"),
        ("bedrock/eu.anthropic.claude-x", "bedrock/anthropic.claude-x"),
        ("openai/ft:gpt-4o:acme::a1b2", "openai/ft:gpt-4o"),
    ],
)
def test_names_that_say_more_find_the_same_price(called: str, listed: str) -> None:
    assert PriceTable({listed: {"input": "1"}}, version="1").cost(called, Usage(5)) is not None


@pytest.mark.parametrize(
    "called",
    ["openai/gpt-4o-mini", "azure/gpt-4o", "gpt-4o", "openai/gpt-4", "openai/gpt-4o-preview"],
)
def test_other_names_find_no_price(called: str) -> None:
    assert PriceTable({"openai/gpt-4o": {"input": "1"}}, version="1").cost(called, Usage(5)) is None


@pytest.mark.parametrize(
    "wrong", [{"input": "-1"}, {"input": "dear"}, {"inputs": "1"}, {"input": "NaN"}, []], ids=str
)
def test_prices_that_are_none_are_refused_with_their_place(wrong: object) -> None:
    with pytest.raises(ConfigurationError, match="'p/m'"):
        PriceTable({"p/m": wrong}, version="1").find("p/m")


@pytest.mark.parametrize("kind", [ModelPrices, TokenPrices])
@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"input": -1}, "input=-1"),
        ({"output": "much"}, "output='much'"),
        ({"per_token": 1}, "per_token=1"),
        ({"above": {0: TokenPrices()}}, "above.0"),
        ({"above": {200_000: {"cached": float("nan")}}}, "cached=nan"),
    ],
)
def test_prices_that_make_no_sense_are_refused_where_they_are_written(
    kind: type[TokenPrices], wrong: dict[str, object], named: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"{named}.*decimals of 0 or more"):
        kind(**wrong)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(ConfigurationError, match=named):
        kind.model_validate(wrong)


def test_table_of_ones_own_is_read_and_named_by_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "prices.json"
    path.write_text('{"models": {"p/m": {"input": "2"}}}')
    first = PriceTable.read(path)
    path.write_text('{"models": {"p/m": {"input": "3"}}}')

    assert first.cost("p/m", Usage(1_000_000)) == 2
    assert PriceTable.read(path).version != first.version
    for text in ("", "[]", '{"models": []}'):
        path.write_text(text)
        with pytest.raises(ConfigurationError, match="no price table"):
            PriceTable.read(path)


class Counting:
    """A database that counts queries, and whose cable can be pulled."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.down = False
        self.queries = 0
        self.answers = asyncio.Event()
        self.answers.set()

    async def execute_query(
        self, sql: str, *args: object, tenant_id: str | None = None, timeout: float | None = None
    ) -> list[Row]:
        self.queries += 1
        await self.answers.wait()
        if self.down:
            raise DatabaseConnectionError("The cable is pulled.")
        return await self._database.execute_query(sql, *args, tenant_id=tenant_id, timeout=timeout)


@pytest.fixture
def acme() -> str:
    return f"acme-{uuid4().hex}"


async def charged(
    pricing: Pricing, tenant: str, model: str = "p/m", usage: Usage | None = None
) -> tuple[Decimal | None, str]:
    async def proceed(call: Call[ChatRequest]) -> Completion:
        call.notes.model = call.request.model
        assert call.price is not None
        return Completion("", "m", usage=call.price(call.notes, usage or Usage(1_000_000)))

    request = ChatRequest(model, (), None, None, ())
    call = Call(request, NotImplemented, 1.0, tenant, None, "use")
    answer = await pricing.chat(call, proceed)
    return answer.usage.cost_usd, call.notes.price_version


def pricing_of(database: Counting, clock: ManualClock) -> Pricing:
    overrides = PriceOverrides(database)  # type: ignore[arg-type]  # all of it that they use
    return Pricing(
        PriceTable({"p/m": {"input": "4"}}, version="listed"), overrides=overrides, clock=clock
    )


async def test_tenants_own_price_counts_for_that_tenant_alone(
    database: Database, acme: str
) -> None:
    counting, clock = Counting(database), ManualClock()
    pricing = pricing_of(counting, clock)
    await PriceOverrides(database).put("p/m", ModelPrices(input=Decimal("1.5")), tenant_id=acme)

    cost, version = await charged(pricing, acme)
    assert (cost, version.startswith("own-")) == (Decimal("1.5"), True)
    assert await charged(pricing, f"{acme}-2") == (4, "listed")
    stated = Usage(1_000_000, cost_usd=Decimal(7))
    assert (await charged(pricing, acme, usage=stated))[0] == Decimal("1.5")
    assert await charged(pricing, f"{acme}-2", usage=stated) == (7, "stated")
    assert counting.queries == 2


async def test_changed_price_counts_within_a_minute(database: Database, acme: str) -> None:
    clock = ManualClock()
    pricing = pricing_of(Counting(database), clock)
    overrides = PriceOverrides(database)
    assert (await charged(pricing, acme))[0] == 4

    await overrides.put("p/m", ModelPrices(input=Decimal(1)), tenant_id=acme)
    await clock.advance(61)
    assert (await charged(pricing, acme))[0] == 1
    assert await overrides.drop("p/m", tenant_id=acme)
    assert not await overrides.drop("p/m", tenant_id=acme)
    await clock.advance(61)
    assert (await charged(pricing, acme))[0] == 4


async def test_price_that_cannot_be_read_is_the_one_known_before(
    database: Database, acme: str
) -> None:
    counting, clock = Counting(database), ManualClock()
    pricing = pricing_of(counting, clock)
    await PriceOverrides(database).put("p/m", ModelPrices(input=Decimal(1)), tenant_id=acme)
    await charged(pricing, acme)
    counting.down = True
    await clock.advance(61)

    assert (await charged(pricing, acme))[0] == 1
    assert (await charged(pricing, f"{acme}-2"))[0] == 4
    before = counting.queries
    assert (await charged(pricing, acme))[0] == 1
    assert counting.queries == before


async def test_cost_by_other_prices_than_the_unknown_own_ones_is_marked(
    database: Database, acme: str
) -> None:
    counting, clock = Counting(database), ManualClock()
    pricing = pricing_of(counting, clock)
    counting.down = True

    assert await charged(pricing, acme) == (4, "listed+own-unread")
    assert await charged(pricing, acme, "p/unlisted") == (None, "own-unread")
    stated = Usage(1_000_000, cost_usd=Decimal(7))
    assert await charged(pricing, acme, usage=stated) == (7, "stated+own-unread")


async def test_prices_known_before_an_outage_are_not_marked(database: Database, acme: str) -> None:
    counting, clock = Counting(database), ManualClock()
    pricing = pricing_of(counting, clock)
    await PriceOverrides(database).put("p/m", ModelPrices(input=Decimal(1)), tenant_id=acme)
    known = await charged(pricing, acme)
    listed = await charged(pricing, f"{acme}-2")
    counting.down = True
    await clock.advance(3600)

    assert await charged(pricing, acme) == known
    assert await charged(pricing, f"{acme}-2") == listed == (4, "listed")


async def test_own_prices_count_within_a_second_after_an_outage(
    database: Database, acme: str
) -> None:
    counting, clock = Counting(database), ManualClock()
    pricing = pricing_of(counting, clock)
    await PriceOverrides(database).put("p/m", ModelPrices(input=Decimal(1)), tenant_id=acme)
    counting.down = True
    await charged(pricing, acme)
    counting.down = False
    assert (await charged(pricing, acme))[0] == 4
    assert counting.queries == 1

    await clock.advance(0.5)
    assert (await charged(pricing, acme))[0] == 1
    assert await charged(pricing, f"{acme}-2") == (4, "listed")


async def test_one_call_at_a_time_asks_a_database_that_hangs(database: Database, acme: str) -> None:
    counting, clock = Counting(database), ManualClock()
    pricing = pricing_of(counting, clock)
    counting.down = True
    await charged(pricing, acme)
    await clock.advance(0.5)
    counting.answers.clear()
    probe = asyncio.create_task(charged(pricing, acme))
    await asyncio.sleep(0)

    for number in range(10):
        assert await charged(pricing, f"{acme}-{number}") == (4, "listed+own-unread")
    assert counting.queries == 2
    counting.answers.set()
    await probe


async def test_outage_long_ago_holds_nobodys_prices_back(database: Database, acme: str) -> None:
    counting, clock = Counting(database), ManualClock()
    pricing = pricing_of(counting, clock)
    counting.down = True
    await charged(pricing, acme)
    counting.down = False
    await clock.advance(5)

    found = await asyncio.gather(*(charged(pricing, f"{acme}-{number}") for number in range(5)))
    assert found == [(4, "listed")] * 5


async def test_own_prices_that_are_none_hold_up_nobody_elses(database: Database, acme: str) -> None:
    insert = "insert into motadata.gateway_price (tenant_id, model, prices) values ($1, $2, '[]')"
    async with database.transaction(acme) as transaction:
        await transaction.execute(insert, acme, "p/m")
    counting = Counting(database)
    pricing = pricing_of(counting, ManualClock())

    for _ in range(2):
        assert await charged(pricing, acme) == (4, "listed+own-unread")
    assert await charged(pricing, f"{acme}-2") == (4, "listed")
    assert counting.queries == 2


async def test_own_prices_are_listed_for_their_tenant_alone(database: Database, acme: str) -> None:
    overrides = PriceOverrides(database)
    prices = ModelPrices.model_validate({"input": "1.25", "above": {"200000": {"input": "2.5"}}})
    await overrides.put("p/m", prices, tenant_id=acme)

    assert await overrides.all(tenant_id=acme) == {"p/m": prices}
    assert await overrides.all(tenant_id=f"{acme}-2") == {}
    query = "select tenant_id from motadata.gateway_price"
    assert await database.execute_query(query, tenant_id=f"{acme}-2") == []


@pytest.mark.parametrize("prices", [5, None, {"input": 1}])
async def test_what_is_no_prices_is_not_stored(
    database: Database, acme: str, prices: ModelPrices
) -> None:
    overrides = PriceOverrides(database)

    with pytest.raises(ConfigurationError, match="ModelPrices"):
        await overrides.put("p/m", prices, tenant_id=acme)

    assert await overrides.all(tenant_id=acme) == {}


@pytest.mark.parametrize("model", ["", "gpt-4o", "p/" + "m" * 300, "p/\0", 5, None])
async def test_name_that_is_no_models_gets_no_price(
    database: Database, acme: str, model: str
) -> None:
    with pytest.raises(ConfigurationError, match="provider/model"):
        await PriceOverrides(database).put(model, ModelPrices(), tenant_id=acme)
