"""Budgets on a real PostgreSQL: nobody overspends, whatever runs at once, dies, or is cancelled."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal
from uuid import uuid4

import pytest

from motadata.core.database import create_database
from motadata.core.errors import (
    BudgetExceededError,
    ConfigurationError,
    DatabaseError,
    ProviderError,
)
from motadata.core.errors import ConnectionError as DatabaseConnectionError
from motadata.core.models import Completion, CompletionChunk, Embeddings, Health, Usage
from motadata.core.protocols import Database
from motadata.core.testing.manual_clock import ManualClock
from motadata.core.testing.plugin import DatabaseDsns
from motadata.gateway import (
    Call,
    CallNotes,
    ChatRequest,
    EmbeddingRequest,
    Governance,
    LLMGateway,
    Proceed,
    create_gateway,
)
from motadata.gateway.budgets import Budget, Budgets, SoftLimitReached
from motadata.gateway.usage import PriceOverrides, PriceTable, Pricing


PRICES = {"shop/large": Decimal("0.01"), "shop/small": Decimal("0.001")}
"""US dollars a token."""


class Shop:
    """Answers with a hundred tokens, ten of them the prompt's."""

    name = "shop"
    revision = ""

    def __init__(self) -> None:
        self.served = 0
        self.fails: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.asked = asyncio.Event()

    async def complete(self, request: ChatRequest) -> Completion:
        self.served += 1
        self.asked.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.fails is not None:
            raise self.fails
        return Completion("answer", request.model, usage=Usage(10, 90))

    async def stream(self, request: ChatRequest) -> AsyncIterator[CompletionChunk]:
        answer = await self.complete(request)
        yield CompletionChunk(answer.text)
        yield CompletionChunk("", "stop", usage=answer.usage)

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        return Embeddings(tuple((1.0,) for _ in request.texts), request.model, Usage(100, 0))

    async def health(self) -> Health:
        return Health("ok")

    async def aclose(self) -> None:
        return None


class Till:
    """A part that knows prices by heart."""

    async def chat(
        self, call: Call[ChatRequest], proceed: Proceed[ChatRequest, Completion]
    ) -> Completion:
        return await proceed(replace(call, price=_price))

    async def embedding(
        self, call: Call[EmbeddingRequest], proceed: Proceed[EmbeddingRequest, Embeddings]
    ) -> Embeddings:
        return await proceed(replace(call, price=_price))


def _price(notes: CallNotes, usage: Usage) -> Usage:
    price = PRICES.get(notes.model)
    if price is None:
        return usage
    return replace(usage, cost_usd=price * (usage.input_tokens + usage.output_tokens))


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def tenant() -> str:
    return f"t-{uuid4().hex[:12]}"


def opened(shop: Shop, budgets: Budgets) -> LLMGateway:
    governance = Governance(prices=Till(), budgets=budgets)
    return create_gateway([shop], "shop/large", governance=governance)


async def ask(gateway: LLMGateway, tenant: str, **options: object) -> Completion:
    return await gateway.generate_async("Hi", max_tokens=90, tenant_id=tenant, **options)  # type: ignore[arg-type]  # a test's own


async def spent(budgets: Budgets, tenant: str) -> tuple[Decimal, int]:
    await budgets.report()
    state = (await budgets.state(tenant_id=tenant))[0]
    return state.spent.usd, state.spent.tokens


async def test_call_is_counted_with_what_it_cost(
    database: Database, shop: Shop, tenant: str
) -> None:
    budgets = Budgets(database, [Budget(name="month", usd=Decimal(100), tokens=10_000)])
    async with opened(shop, budgets) as gateway:
        await ask(gateway, tenant)
        assert await spent(budgets, tenant) == (Decimal("1.00"), 100)


async def test_burst_on_three_instances_never_overspends(
    database: Database, shop: Shop, tenant: str
) -> None:
    all_budgets = [Budgets(database, [Budget(name="month", usd=Decimal(20))]) for _ in range(3)]
    gateways = [opened(shop, budgets) for budgets in all_budgets]
    for gateway in gateways:
        await gateway.__aenter__()
    calls = (ask(gateway, tenant) for _ in range(30) for gateway in gateways)
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    for gateway in gateways:
        await gateway.aclose()

    served = [outcome for outcome in outcomes if isinstance(outcome, Completion)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, BudgetExceededError)]
    assert len(served) + len(refused) == 90
    assert shop.served == len(served)
    usd, _ = await spent(all_budgets[0], tenant)
    assert usd == len(served) <= 20
    assert len(served) >= 15


async def test_refusal_names_the_budget_and_when_it_resets(
    database: Database, shop: Shop, tenant: str
) -> None:
    now = datetime(2031, 12, 15, 12, tzinfo=UTC)
    budget = Budget(name="team-month", tokens=50)
    async with opened(shop, Budgets(database, [budget], now=lambda: now)) as gateway:
        with pytest.raises(BudgetExceededError, match="team-month") as caught:
            await ask(gateway, tenant)
    assert caught.value.budget == "team-month"
    assert caught.value.resets_at == datetime(2032, 1, 1, tzinfo=UTC)
    assert shop.served == 0


async def test_next_period_begins_with_nothing_spent(
    database: Database, shop: Shop, tenant: str
) -> None:
    now = datetime(2031, 5, 31, 23, 59, tzinfo=UTC)
    budget = Budget(name="daily", period="day", tokens=110)
    budgets = Budgets(database, [budget], now=lambda: now)
    async with opened(shop, budgets) as gateway:
        await ask(gateway, tenant)
        with pytest.raises(BudgetExceededError):
            await ask(gateway, tenant)
        now = datetime(2031, 6, 1, tzinfo=UTC)
        await ask(gateway, tenant)


async def test_one_tenant_spends_nothing_of_anothers(
    database: Database, shop: Shop, tenant: str
) -> None:
    budgets = Budgets(database, [Budget(name="month", tokens=110)])
    other = f"{tenant}-other"
    async with opened(shop, budgets) as gateway:
        await ask(gateway, tenant)
        with pytest.raises(BudgetExceededError):
            await ask(gateway, tenant)
        await ask(gateway, other)
        await budgets.report()
        rows = await database.execute_query(
            "select distinct tenant_id from motadata.budget_share", tenant_id=tenant
        )
        periods = await database.execute_query(
            "select distinct tenant_id from motadata.budget_period", tenant_id=other
        )
    assert [row["tenant_id"] for row in rows] == [tenant]
    assert [row["tenant_id"] for row in periods] == [other]


async def test_refused_request_costs_nothing_and_a_lost_answer_costs_its_estimate(
    database: Database, shop: Shop, tenant: str
) -> None:
    budgets = Budgets(database, [Budget(name="month", tokens=10_000)])
    async with opened(shop, budgets) as gateway:
        shop.fails = ProviderError("Busy.", status=503, retryable=True)
        with pytest.raises(ProviderError):
            await ask(gateway, tenant)
        assert await spent(budgets, tenant) == (Decimal(0), 0)
        shop.fails = ProviderError("Cut off.", retryable=True)
        with pytest.raises(ProviderError):
            await ask(gateway, tenant)
        assert (await spent(budgets, tenant))[1] >= 90


async def test_cancelled_call_holds_nothing(database: Database, shop: Shop, tenant: str) -> None:
    budgets = Budgets(database, [Budget(name="month", tokens=250)])
    shop.gate = asyncio.Event()
    async with opened(shop, budgets) as gateway:
        call = asyncio.create_task(ask(gateway, tenant))
        await shop.asked.wait()
        call.cancel()
        await asyncio.wait({call})
        shop.gate.set()
        await ask(gateway, tenant)  # 95 of the cancelled one, 100 of this one
        await budgets.report()
        state = (await budgets.state(tenant_id=tenant))[0]
    assert state.spent.tokens + state.held.tokens <= 250


async def test_what_a_dead_instance_held_is_free_when_its_lease_ends(
    database: Database, shop: Shop, tenant: str
) -> None:
    budget = Budget(name="month", tokens=110)
    dead = Budgets(database, [budget], lease=0.3, report_every=0.1)
    shop.gate = asyncio.Event()
    gateway = opened(shop, dead)
    call = asyncio.create_task(ask(gateway, tenant))
    await shop.asked.wait()
    reporter = next(task for task in asyncio.all_tasks() if task.get_name() == "gateway-budgets")
    reporter.cancel()  # the process is gone: nobody renews what it held
    shop.gate = None
    async with opened(shop, Budgets(database, [budget])) as alive:
        with pytest.raises(BudgetExceededError):
            await ask(alive, tenant)
        async with asyncio.timeout(10):
            while True:
                try:
                    await ask(alive, tenant)
                    break
                except BudgetExceededError:
                    await asyncio.sleep(0.05)
    call.cancel()
    await asyncio.wait({call})


async def test_soft_limit_is_told_once_by_all_instances(
    database: Database, shop: Shop, tenant: str
) -> None:
    told: list[SoftLimitReached] = []

    async def tell(reached: SoftLimitReached) -> None:
        told.append(reached)

    budget = Budget(name="month", soft_tokens=150)
    first = Budgets(database, [budget], on_soft_limit=tell)
    second = Budgets(database, [budget], on_soft_limit=tell)
    async with opened(shop, first) as one, opened(shop, second) as two:
        for gateway in (one, two, one, two):
            await ask(gateway, tenant)
        await first.report()
        await second.report()
    assert [(reached.tenant_id, reached.budget.name) for reached in told] == [(tenant, "month")]


async def test_cheaper_model_answers_beyond_a_soft_limit(
    database: Database, shop: Shop, tenant: str
) -> None:
    budget = Budget(
        name="month", usd=Decimal(50), soft_usd=Decimal("0.5"), cheaper_model="shop/small"
    )
    async with opened(shop, Budgets(database, [budget])) as gateway:
        first, second = await ask(gateway, tenant), await ask(gateway, tenant)
    assert (first.model, first.fallback_from) == ("shop/large", None)
    assert (second.model, second.fallback_from) == ("shop/small", "shop/large")
    assert second.usage.cost_usd == Decimal("0.100")


async def test_model_without_a_price_is_refused_by_a_budget_of_money(
    database: Database, shop: Shop, tenant: str
) -> None:
    async with opened(shop, Budgets(database, [Budget(name="month", usd=Decimal(9))])) as gateway:
        with pytest.raises(ConfigurationError, match="shop/unknown"):
            await ask(gateway, tenant, model="shop/unknown")
    assert shop.served == 0


class Away:
    """A database that is away."""

    async def execute_query(self, *_arguments: object, **_options: object) -> None:
        raise DatabaseConnectionError("The database is away.")


@pytest.mark.parametrize("without_database", ["refuse", "allow"])
async def test_own_prices_that_cannot_be_read_are_told_as_such_by_a_budget_of_money(
    database: Database, shop: Shop, tenant: str, without_database: Literal["refuse", "allow"]
) -> None:
    budget = Budget(name="month", usd=Decimal(9))
    budgets = Budgets(database, [budget], without_database=without_database)
    overrides = PriceOverrides(Away())  # type: ignore[arg-type]  # all of it that they use
    prices = Pricing(PriceTable({}, version="listed"), overrides=overrides)
    governance = Governance(prices=prices, budgets=budgets)
    async with create_gateway([shop], "shop/large", governance=governance) as gateway:
        if without_database == "allow":
            assert (await ask(gateway, tenant)).usage.cost_usd is None
            assert await spent(budgets, tenant) == (0, 100)
        else:
            with pytest.raises(DatabaseConnectionError, match="prices of the tenant") as caught:
                await ask(gateway, tenant)
            assert (caught.value.retryable, shop.served) == (True, 0)


async def test_report_that_is_repeated_counts_once(
    database: Database, shop: Shop, tenant: str
) -> None:
    budgets = Budgets(database, [Budget(name="month", tokens=10_000)])
    async with opened(shop, budgets) as gateway:
        await ask(gateway, tenant)
        await budgets.report()
        await budgets.report()
        assert await spent(budgets, tenant) == (Decimal("1.00"), 100)


async def test_many_calls_ask_the_database_rarely(
    database: Database, shop: Shop, tenant: str
) -> None:
    asked = 0
    budgets = Budgets(database, [Budget(name="month", tokens=1_000_000)], clock=ManualClock())
    run = database.run_transaction

    async def counted(*arguments: object, **options: object) -> object:
        nonlocal asked
        asked += 1
        return await run(*arguments, **options)  # type: ignore[arg-type]  # passed on as they are

    database.run_transaction = counted  # type: ignore[method-assign, assignment]  # watched
    async with opened(shop, budgets) as gateway:
        for _ in range(150):
            await ask(gateway, tenant)
        assert asked <= 3


async def test_calls_are_refused_while_the_database_is_away_unless_it_is_allowed(
    database: Database, shop: Shop, tenant: str
) -> None:
    budget = Budget(name="month", tokens=1_000)
    strict = Budgets(database, [budget])
    lax = Budgets(database, [budget], without_database="allow")

    async def away(*_arguments: object, **_options: object) -> None:
        raise DatabaseError("The database is away.")

    database.run_transaction = away  # type: ignore[method-assign, assignment]  # as when it is
    gateway = opened(shop, strict)
    with pytest.raises(DatabaseError):
        await ask(gateway, tenant)
    await gateway.aclose()
    gateway = opened(shop, lax)
    assert (await ask(gateway, tenant)).text == "answer"
    await gateway.aclose()


class Stalled:
    """Makes the transactions of a database wait, as when its server hangs.

    Args:
        database: It is changed.
        resists: Whether transactions do not end when they are cancelled, but go on.
    """

    def __init__(self, database: Database, *, resists: bool = False) -> None:
        self._resists = resists
        self._run = database.run_transaction
        self.asked = asyncio.Event()
        self.back = asyncio.Event()
        self.tries = 0
        database.run_transaction = self.run  # type: ignore[method-assign, assignment]  # as when it hangs

    async def run(self, *arguments: object, **options: object) -> object:
        self.tries += 1
        self.asked.set()
        try:
            await self.back.wait()
        except asyncio.CancelledError:
            if not self._resists:
                raise
            await self.back.wait()
        return await self._run(*arguments, **options)  # type: ignore[arg-type]  # passed on as they are


class Watch(Till):
    """A part behind the budgets that sees how much time is left to calls."""

    def __init__(self) -> None:
        self.timeouts: list[float] = []

    async def chat(
        self, call: Call[ChatRequest], proceed: Proceed[ChatRequest, Completion]
    ) -> Completion:
        self.timeouts.append(call.timeout)
        return await proceed(call)


async def test_calls_end_within_their_time_while_the_server_hangs_and_pass_when_it_is_back(
    database: Database,  # its tables are there
    database_dsns: DatabaseDsns,
    shop: Shop,
    tenant: str,
) -> None:
    async with create_database(database_dsns.runtime, max_connections=1) as own:
        budgets = Budgets(own, [Budget(name="month", tokens=1_000_000)])
        rows = await own.execute_query("select pg_backend_pid() as pid", tenant_id=tenant)
        backend = int(str(rows[0]["pid"]))
        async with opened(shop, budgets) as gateway:
            os.kill(backend, signal.SIGSTOP)
            try:
                began = time.monotonic()
                calls = (ask(gateway, tenant, timeout=0.5, cache="bypass") for _ in range(100))
                outcomes = await asyncio.gather(*calls, return_exceptions=True)
                took = time.monotonic() - began
            finally:
                os.kill(backend, signal.SIGCONT)
            kinds = {(type(each), getattr(each, "retryable", None)) for each in outcomes}
            # On a busy machine the end of the whole call may come first.
            assert kinds <= {(DatabaseConnectionError, True), (ProviderError, True)}
            assert shop.served == 0
            assert took < 2.5  # one time limit; the machine may be busy

            assert (await ask(gateway, tenant)).text == "answer"
            assert await spent(budgets, tenant) == (Decimal("1.00"), 100)


@pytest.mark.parametrize("resists", [False, True])
async def test_question_that_fails_is_everybodys_failure_for_a_second(
    database: Database, shop: Shop, tenant: str, *, resists: bool
) -> None:
    stalled, clock = Stalled(database, resists=resists), ManualClock()
    budgets = Budgets(database, [Budget(name="month", tokens=1_000_000)], timeout=0.2, clock=clock)
    async with opened(shop, budgets) as gateway:
        began = time.monotonic()
        calls = (ask(gateway, tenant) for _ in range(100))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(each) for each in outcomes} == {DatabaseConnectionError}
        assert time.monotonic() - began < 5  # not 100 times 0.2 seconds
        stalled.back.set()
        with pytest.raises(DatabaseConnectionError, match="did not answer in time"):
            await ask(gateway, tenant)
        assert stalled.tries == 1

        await clock.advance(1)
        assert (await ask(gateway, tenant)).text == "answer"


async def test_caller_who_leaves_takes_neither_the_answer_nor_the_money_from_the_next(
    database: Database, shop: Shop, tenant: str
) -> None:
    stalled = Stalled(database)
    budgets = Budgets(database, [Budget(name="month", tokens=110)])
    async with opened(shop, budgets) as gateway:
        first = asyncio.create_task(ask(gateway, tenant, timeout=0.05))
        await stalled.asked.wait()
        second = asyncio.create_task(ask(gateway, tenant, timeout=30))
        with pytest.raises(DatabaseConnectionError, match="in the time that the call has"):
            await first
        stalled.back.set()
        assert (await second).text == "answer"
        assert stalled.tries == 1


async def test_wait_for_the_record_counts_towards_the_calls_time(
    database: Database, shop: Shop, tenant: str
) -> None:
    stalled, watch = Stalled(database), Watch()
    budgets = Budgets(database, [Budget(name="month", tokens=1_000)])
    governance = Governance(budgets=budgets, limits=watch)
    async with create_gateway([shop], "shop/large", governance=governance) as gateway:
        call = asyncio.create_task(ask(gateway, tenant, timeout=30))
        await stalled.asked.wait()
        await asyncio.sleep(0.05)
        stalled.back.set()
        await call
    assert watch.timeouts[0] < 30 - 0.04


async def test_calls_that_go_on_alone_do_not_stand_in_line_for_a_server_that_hangs(
    database: Database, shop: Shop, tenant: str
) -> None:
    stalled = Stalled(database)
    budgets = Budgets(
        database,
        [Budget(name="month", tokens=1_000_000)],
        without_database="allow",
        timeout=0.5,
        clock=ManualClock(),
    )
    async with opened(shop, budgets) as gateway:
        began = time.monotonic()
        await asyncio.gather(*(ask(gateway, tenant, timeout=1) for _ in range(50)))
        await asyncio.gather(*(ask(gateway, tenant) for _ in range(50)))
        assert time.monotonic() - began < 5  # not 100 times half a second
        assert stalled.tries == 1
        stalled.back.set()
        assert await spent(budgets, tenant) == (Decimal("100.00"), 10_000)


async def test_gateway_closes_while_the_server_hangs(
    database: Database, shop: Shop, tenant: str
) -> None:
    Stalled(database)
    budgets = Budgets(database, [Budget(name="month", tokens=1_000)], timeout=0.1)
    gateway = opened(shop, budgets)
    await gateway.__aenter__()
    with pytest.raises(DatabaseConnectionError):
        await ask(gateway, tenant, timeout=0.01)
    async with asyncio.timeout(10):
        await gateway.aclose()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "gateway-budget"]


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"tokens": 0},
        {"usd": Decimal(-1)},
        {"tokens": 5, "period": "week"},
        {"usd": Decimal("NaN")},
        {"usd": Decimal("sNaN")},
        {"usd": Decimal("Infinity")},
        {"usd": float("nan")},
        {"usd": float("inf")},
        {"usd": "dear"},
        {"usd": True},
        {"usd": []},
        {"usd": Decimal(10) ** 30},
        {"soft_usd": 0.0},
        {"tokens": 1.5},
        {"tokens": "5"},
        {"tokens": True},
        {"tokens": 10**30},
        {"usd": 5, "soft_usd": 6},
        {"tokens": 5, "soft_tokens": 6},
        {"usd": 5, "cheaper_model": "shop/small"},
        {"soft_usd": 5, "cheaper_model": ""},
        {"soft_usd": 5, "cheaper_model": 5},
    ],
    ids=str,
)
def test_budget_that_limits_nothing_or_cannot_be_meant_is_refused(
    broken: dict[str, object],
) -> None:
    with pytest.raises(ConfigurationError):
        Budget(name="month", **broken)  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize("given", [Decimal("0.1"), "0.1", 0.1], ids=repr)
def test_money_of_a_budget_is_what_is_written(given: Decimal | str | float) -> None:
    budget = Budget(name="month", usd=given, soft_usd=given)

    assert (budget.usd, budget.soft_usd) == (Decimal("0.1"), Decimal("0.1"))
    assert budget == Budget(name="month", usd=Decimal("0.1"), soft_usd=Decimal("0.1"))


async def test_budget_of_a_float_counts_exactly(
    database: Database, shop: Shop, tenant: str
) -> None:
    budgets = Budgets(database, [Budget(name="month", usd=1.5)])
    async with opened(shop, budgets) as gateway:
        await ask(gateway, tenant)
        assert await spent(budgets, tenant) == (Decimal("1.00"), 100)
        with pytest.raises(BudgetExceededError):
            await ask(gateway, tenant)


MONTH, TWICE = Budget(name="month", tokens=1_000), Budget(name="month", period="day", tokens=10)


async def asynchronous(_tenant: str) -> list[Budget]:
    return [MONTH]


class Asynchronous:
    async def __call__(self, _tenant: str) -> list[Budget]:
        return [MONTH]


@pytest.mark.parametrize(
    ("budgets", "options"),
    [
        ([MONTH, TWICE], {}),
        (MONTH, {}),
        (None, {}),
        (["month"], {}),
        (asynchronous, {}),
        (Asynchronous(), {}),
        ([MONTH], {"on_soft_limit": "tell"}),
        ([MONTH], {"without_database": "alow"}),
        ([MONTH], {"lease": float("nan")}),
        ([MONTH], {"lease": float("inf")}),
        ([MONTH], {"timeout": "5"}),
    ],
)
def test_budgets_that_cannot_work_are_refused_when_they_are_given(
    database: Database, budgets: object, options: dict[str, object]
) -> None:
    with pytest.raises(ConfigurationError):
        Budgets(database, budgets, **options)  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize("found", [[MONTH, TWICE], MONTH, None], ids=["twice", "one", "none"])
async def test_function_that_gives_no_budgets_refuses_calls_with_an_error_that_says_so(
    database: Database, shop: Shop, tenant: str, found: object
) -> None:
    budgets = Budgets(database, lambda _tenant: found)  # type: ignore[arg-type, return-value]  # that is the point
    async with opened(shop, budgets) as gateway:
        with pytest.raises(ConfigurationError, match="budgets"):
            await ask(gateway, tenant)
    assert shop.served == 0


async def test_lambda_that_is_async_in_truth_is_refused_by_the_call(
    database: Database, shop: Shop, tenant: str
) -> None:
    budgets = Budgets(database, lambda tenant: asynchronous(tenant))  # type: ignore[arg-type, return-value]  # noqa: PLW0108 - that is the point
    async with opened(shop, budgets) as gateway:
        with pytest.raises(ConfigurationError, match="coroutine"):
            await ask(gateway, tenant)


async def test_soft_limit_is_told_to_a_plain_function_too(
    database: Database, shop: Shop, tenant: str
) -> None:
    told: list[SoftLimitReached] = []
    budget = Budget(name="month", soft_tokens=50)
    budgets = Budgets(database, [budget], on_soft_limit=told.append)
    async with opened(shop, budgets) as gateway:
        await ask(gateway, tenant)
        await budgets.report()
    assert [reached.tenant_id for reached in told] == [tenant]
