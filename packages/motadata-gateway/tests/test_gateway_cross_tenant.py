"""A storm of look-alike tenants: one floods, one is broken, and the others must not notice.

Everything that keeps something about tenants takes part: the cache, equal calls in one, batches,
limits, breakers, the usage log and log lines. All tenants ask the same, half of the calls are given
up in flight, and the answers say whose they are. Each call has a trace and a number of its own, by
which its row and its log lines are known. The clock of limits and breakers moves only when it is
told to, so that what a tenant may do does not depend on how fast the machine is.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

import pytest

from motadata.core.cache import create_memory_cache
from motadata.core.errors import ProviderError, SDKError
from motadata.core.models import Completion, CompletionChunk, Embeddings, Health, Usage
from motadata.core.observability import configure_observability, span
from motadata.core.observability._logging import output
from motadata.core.protocols import CachePolicy, Database, Row
from motadata.core.resilience import BreakerPolicy, RetryPolicy
from motadata.core.tenancy import current_tenant
from motadata.core.testing.manual_clock import ManualClock
from motadata.gateway import (
    Attribution,
    BatchPolicy,
    Call,
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
    Sharing,
    create_gateway,
)
from motadata.gateway.routing import Routing
from motadata.gateway.usage import UsageLog, UsagePolicy


MODEST: Final = ("acme", "Acme", "ACME", "acme_1", "acm", "acme-acme", "1acme")
"""Tenants that stay within their rate, and whose provider fails now and then: always served."""
FLOODING: Final = "acme1"
"""A tenant that asks for far more than its rate."""
WAVES_BROKEN: Final = 4
"""How many waves a broken tenant lives: acme-0, then acme-1, and so on."""
CALLS: Final = {"broken": 30, "flooding": 94, "modest": 18}
WAVE: Final = CALLS["broken"] + CALLS["flooding"] + len(MODEST) * CALLS["modest"]

RATE: Final = 40.0
"""Calls a second, and at once, of each tenant: more than a modest one makes in a wave."""
PROMPT: Final = "quokka"
"""A word that occurs in every prompt, and nowhere else."""
ANSWER: Final = "numbat"
"""Likewise in every answer."""
PROMPTS: Final = tuple(f"{PROMPT}{tail}" for tail in ("", " ", "?", " acme", " acme1", ":1", "|-1"))
PRICE: Final = Decimal("0.000001")


def direction(tenant: str, text: str) -> tuple[float, ...]:
    """Return a vector that nothing but this text of this tenant has."""
    digest = hashlib.sha256(f"{tenant}|{text}".encode()).digest()
    return tuple(float(byte) + 1.0 for byte in digest[:8])


def same_direction(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    scale = sum(value * value for value in other) ** 0.5
    return all(abs(mine - value / scale) < 1e-6 for mine, value in zip(one, other, strict=True))


class Telling:
    """A provider that says whose request it answers, keeps the bill by tenant, and fails by tenant.

    Attributes:
        broken: The tenant that it always fails.
        failed_once: What it failed in this wave, which it does once with each request.
    """

    name = "telling"
    revision = ""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._answers = 0
        self.broken = ""
        self.failed_once: set[tuple[str, str]] = set()
        self.bill: dict[str, Decimal] = {}
        self.failures: Counter[str] = Counter()
        self.busy = 0

    async def complete(self, request: ChatRequest) -> Completion:
        tenant = await self._worked(request)
        text = answer_to(tenant, request)
        return Completion(text, request.model, usage=self._charged(tenant, len(text)))

    async def stream(self, request: ChatRequest) -> AsyncIterator[CompletionChunk]:
        tenant = await self._worked(request, late=self._chance.random() < 0.5)
        text = answer_to(tenant, request)
        for piece in (text[:5], text[5:9], text[9:]):
            yield CompletionChunk(piece)
            await asyncio.sleep(0)
            self._fail_perhaps(tenant, request)
        yield CompletionChunk("", "stop", usage=self._charged(tenant, len(text)))

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        tenant = await self._worked(request)
        vectors = tuple(direction(tenant, text) for text in request.texts)
        return Embeddings(vectors, request.model, self._charged(tenant, len(vectors)))

    async def health(self) -> Health:
        return Health("ok")

    async def aclose(self) -> None:
        return None

    async def _worked(self, request: ChatRequest | EmbeddingRequest, *, late: bool = False) -> str:
        tenant = current_tenant()
        assert tenant is not None
        # A broken account is refused soon: before anybody else is answered, though not before all
        # of its calls of a wave are under way.
        turns = 1 if tenant == self.broken else self._chance.randrange(12)
        self.busy += 1
        try:
            for _ in range(turns):
                await asyncio.sleep(0)
        finally:
            self.busy -= 1
        if not late:
            self._fail_perhaps(tenant, request)
        return tenant

    def _fail_perhaps(self, tenant: str, request: ChatRequest | EmbeddingRequest) -> None:
        """Fail the broken one always, and others so rarely that it is no outage."""
        asked = (tenant, str(request))
        unlucky = self._answers >= 3 and self._chance.random() < 0.1
        if tenant == self.broken or (unlucky and asked not in self.failed_once):
            if tenant != self.broken:
                self.failed_once.add(asked)
                self._answers = 0
            self.failures[tenant] += 1
            raise ProviderError("It failed.", retryable=True)

    def _charged(self, tenant: str, tokens: int) -> Usage:
        self._answers += 1
        cost = tokens * PRICE
        self.bill[tenant] = self.bill.get(tenant, Decimal(0)) + cost
        return Usage(1, tokens, cost)


def answer_to(tenant: str, request: ChatRequest) -> str:
    return answer_for(tenant, request.options.seed, request.messages[-1].content)


def answer_for(tenant: str, seed: int | None, prompt: str) -> str:
    return f"{ANSWER} {tenant}|{seed}|{prompt}"


class Watched:
    """Limits, each of whose admissions is checked against a bucket of the tenant's own.

    Attributes:
        exceeded: How often a tenant got more than its rate and burst.
        waited: Tenants that ever had to wait for a turn.
    """

    def __init__(self, limits: Limits, clock: ManualClock) -> None:
        self._limits = limits
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}
        self.exceeded: Counter[str] = Counter()
        self.waited: Counter[str] = Counter()

    async def chat(
        self, call: Call[ChatRequest], proceed: Proceed[ChatRequest, Completion]
    ) -> Completion:
        came = self._clock.now()

        async def admitted(passed: Call[ChatRequest]) -> Completion:
            self._note(str(call.tenant_id), came)
            return await proceed(passed)

        return await self._limits.chat(call, admitted)

    async def embedding(
        self, call: Call[EmbeddingRequest], proceed: Proceed[EmbeddingRequest, Embeddings]
    ) -> Embeddings:
        came = self._clock.now()

        async def admitted(passed: Call[EmbeddingRequest]) -> Embeddings:
            self._note(str(call.tenant_id), came)
            return await proceed(passed)

        return await self._limits.embedding(call, admitted)

    async def __aenter__(self) -> Self:
        await self._limits.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._limits.__aexit__(kind, error, traceback)

    def _note(self, tenant: str, came: float) -> None:
        now = self._clock.now()
        level, at = self._buckets.get(tenant, (RATE, now))
        level = min(RATE, level + (now - at) * RATE) - 1.0
        self._buckets[tenant] = (level, now)
        self.exceeded[tenant] += level < -1e-6
        self.waited[tenant] += now > came


@dataclass(slots=True)
class Book:
    """What is known of the calls from outside.

    Attributes:
        run: What the numbers of its calls begin with.
        owners: Whose each call is, by its number.
        traces: The same, by its trace.
        told: What each call that came to its end was told: the code of an error, or nothing.
        wrong: What must not be.
    """

    run: str
    owners: dict[str, str] = field(default_factory=dict)
    traces: dict[str, str] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def codes(self, tenant: str) -> Counter[str]:
        return Counter(code for number, code in self.told.items() if self.owners[number] == tenant)


@dataclass(slots=True)
class Trial:
    """One call of the storm, and what may come of it."""

    gateway: LLMGateway
    chance: random.Random
    book: Book
    number: str
    tenant: str
    broken: bool
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        asks = [self._generate, self._stream]
        if not self.broken:  # who is broken has failed before anybody is answered
            asks.append(self._embed)
            for _ in range(self.chance.randrange(10)):
                await asyncio.sleep(0)
        # Few different things, so that calls are shared; or many, so that all of them are sent.
        seed = self.chance.randrange(3 if self.tenant in MODEST else 1_000_000)
        with span("trial") as around:
            self.book.owners[self.number] = self.book.traces[around.trace_id] = self.tenant
            self.begun.set()
            try:
                await self.chance.choice(asks)(self.chance.choice(PROMPTS), seed)
                self.book.told[self.number] = ""
            except SDKError as error:
                self.book.told[self.number] = error.code
                self._check_error(error)

    async def end_early(self, task: asyncio.Task[None]) -> None:
        """Give the call up at once, while it works, or while it waits for the clock."""
        await self.begun.wait()
        for _ in range(self.chance.randrange(self.chance.choice((1, 10, 10, 500)))):
            await asyncio.sleep(0)
        task.cancel()

    def _policy(self) -> CachePolicy:
        policies: tuple[CachePolicy, ...] = ("use", "use", "use", "use", "refresh", "bypass")
        return self.chance.choice(policies)

    @property
    def timeout(self) -> float:
        # Shorter than the shortest pause of a breaker: nobody waits for one to close.
        return 0.9 if self.broken else 60.0

    async def _generate(self, prompt: str, seed: int) -> None:
        answer = await self.gateway.generate_async(
            prompt,
            options=ChatOptions(seed=seed),
            timeout=self.timeout,
            cache=self._policy(),
            attribution=Attribution(user=self.number),
            tenant_id=self.tenant,
        )
        self._check(prompt, seed, answer.text)

    async def _stream(self, prompt: str, seed: int) -> None:
        chunks = self.gateway.stream(
            prompt,
            options=ChatOptions(seed=seed),
            timeout=self.timeout,
            cache=self._policy(),
            attribution=Attribution(user=self.number),
            tenant_id=self.tenant,
        )
        async with aclosing(chunks):  # type: ignore[type-var]  # an async generator
            text = "".join([chunk.text async for chunk in chunks])
        self._check(prompt, seed, text)

    async def _embed(self, prompt: str, seed: int) -> None:
        texts = [f"{prompt.strip()} {(seed + extra) % 40}" for extra in range(1 + seed % 7)]
        result = await self.gateway.embed(
            texts,
            timeout=self.timeout,
            cache=self._policy(),
            attribution=Attribution(user=self.number),
            tenant_id=self.tenant,
        )
        pairs = zip(texts, result.vectors, strict=True)
        if not all(same_direction(vector, direction(self.tenant, text)) for text, vector in pairs):
            self.book.wrong.append(f"{self.tenant} got another's vector")

    def _check(self, prompt: str, seed: int, text: str) -> None:
        if text != answer_for(self.tenant, seed, prompt):
            self.book.wrong.append(f"{self.tenant} got {text!r} for {prompt!r}")

    def _check_error(self, error: SDKError) -> None:
        """See that an error quotes nobody, and is this tenant's own."""
        if PROMPT in str(error) or ANSWER in str(error):
            self.book.wrong.append(f"{self.tenant} was told of a text in an error")
        of_trace = self.book.traces.get(error.trace_id or "", self.tenant)
        if error.tenant_id != self.tenant or of_trace != self.tenant:
            self.book.wrong.append(f"{self.tenant} got an error of {error.tenant_id}")


async def storm(
    gateway: LLMGateway,
    provider: Telling,
    clock: ManualClock,
    chance: random.Random,
    calls: int,
) -> Book:
    """Make calls in waves, giving up half of them in flight, and return what became of them."""
    run = uuid4().hex
    book = Book(run)
    for wave in range(calls // WAVE):
        provider.broken = f"acme-{wave // WAVES_BROKEN}"
        provider.failed_once.clear()
        others = [FLOODING] * CALLS["flooding"] + [*MODEST] * CALLS["modest"]
        chance.shuffle(others)
        tenants = [provider.broken] * CALLS["broken"] + others
        trials = [
            Trial(gateway, chance, book, f"{run}-{wave}-{place}", tenant, place < CALLS["broken"])
            for place, tenant in enumerate(tenants)
        ]
        await clock.advance(1.0)  # whatever was used before has come back
        tasks = [asyncio.create_task(trial.run()) for trial in trials]
        pairs = list(zip(trials, tasks, strict=True))
        enders = [
            asyncio.create_task(trial.end_early(task))
            for trial, task in chance.sample(pairs, len(pairs) // 2)
        ]
        while not all(task.done() for task in (*tasks, *enders)):
            await clock.advance(0.02)
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                book.wrong.append(repr(result))
    return book


@pytest.fixture
def lines() -> Iterator[list[dict[str, object]]]:
    """Log lines of every level, as they leave the process."""
    taken: list[dict[str, object]] = []
    configure_observability(level="DEBUG", sink=lambda line: taken.append(dict(line)))
    yield taken
    output.configure()


@dataclass(slots=True)
class Rows:
    """What the usage log says, as each tenant sees it."""

    by_number: dict[str, Row] = field(default_factory=dict)
    spent: dict[str, Decimal] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    @classmethod
    async def read(cls, database: Database, book: Book) -> Self:
        rows = cls()
        for tenant in sorted(set(book.owners.values())):
            # No tenant here: the database itself says what each of them sees.
            query = "select * from motadata.gateway_call where user_id like $1"
            for row in await database.execute_query(query, f"{book.run}-%", tenant_id=tenant):
                rows._take(row, tenant, book)
        return rows

    def _take(self, row: Row, tenant: str, book: Book) -> None:
        number, trace = str(row["user_id"]), str(row["trace_id"])
        owners = {row["tenant_id"], book.owners.get(number), book.traces.get(trace)}
        if owners != {tenant}:
            self.wrong.append(f"{tenant} sees a row of {owners}")
        if number in self.by_number:
            self.wrong.append(f"{tenant} has two rows of one call")
        if row["error"] != book.told.get(number, row["error"]):  # a reader may leave at the end
            self.wrong.append(f"{tenant} has a row that ended with {row['error']!r}")
        self.by_number[number] = row
        if row["cost_usd"]:
            cost = Decimal(str(row["cost_usd"]))
            self.spent[tenant] = self.spent.get(tenant, Decimal(0)) + cost

    def count(self, name: str, value: object) -> int:
        return sum(row[name] == value for row in self.by_number.values())


def wrong_lines(lines: list[dict[str, object]], book: Book) -> list[object]:
    """Return the log lines that hold a text, or another tenant than that of their call."""
    return [
        line
        for line in lines
        if PROMPT in str(line)
        or ANSWER in str(line)
        or line.get("tenant") != book.traces.get(str(line.get("trace_id")), line.get("tenant"))
    ]


@pytest.mark.parametrize(
    "calls",
    [2_000, pytest.param(100_000, marks=[pytest.mark.soak, pytest.mark.timeout(1_200)])],
)
async def test_storm_of_look_alike_tenants_leaks_nothing_and_holds_nobody_up(
    calls: int,
    database: Database,
    tmp_path: Path,
    lines: list[dict[str, object]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    chance, clock = random.Random(calls), ManualClock()
    provider = Telling(chance)
    rate = Rate(requests=RATE * 60, request_burst=RATE)
    limits = Watched(Limits(rate, longest_wait=0.5, sharing=Sharing(clock=clock)), clock)
    log = UsageLog(database, tmp_path, UsagePolicy(interval=0.05, most_queued=calls))
    governance = Governance(
        usage=log,
        deduplication=Deduplication(),
        limits=limits,
        batches=EmbeddingBatches(BatchPolicy(most_texts=8, most_in_flight=2, linger=0.001)),
        routing=Routing(
            retry=RetryPolicy(attempts=4, base=0.05),
            breaker=BreakerPolicy(minimum_calls=10, failure_ratio=0.8),
            retry_ratio=1.0,
            clock=clock,
            chance=chance.random,
        ),
    )
    before = asyncio.all_tasks()
    async with create_gateway(
        [provider],
        "telling/m",
        default_embedding_model="telling/e",
        # Small, so that it is a mixture of hits, misses and evictions.
        cache=create_memory_cache(max_size=200),
        governance=governance,
    ) as gateway:
        book = await storm(gateway, provider, clock, chance, calls)
        async with asyncio.timeout(60):
            await log.flush()
        rows = await Rows.read(database, book)
        assert (await log.health()).status == "ok"
        assert provider.busy == 0
    assert asyncio.all_tasks() == before

    # Nobody got what is another's, not in an answer, an error, a row or a log line.
    assert not book.wrong, book.wrong[:5]
    assert not rows.wrong, rows.wrong[:5]
    assert not wrong_lines(lines, book), wrong_lines(lines, book)[:5]
    assert PROMPT not in caplog.text
    assert ANSWER not in caplog.text

    # Every call has its row, and each tenant pays what it was charged.
    assert set(rows.by_number) == set(book.owners)
    assert rows.spent == provider.bill

    # Who stays within the rate waits for nobody, and is served whatever befalls the others.
    told = {tenant: book.codes(tenant) for tenant in set(book.owners.values())}
    assert {tenant: set(told[tenant]) for tenant in MODEST} == {tenant: {""} for tenant in MODEST}
    assert not +limits.exceeded
    assert not any(limits.waited[tenant] for tenant in MODEST)
    refusals = Counter(
        (line["tenant"], line["code"]) for line in lines if line["event"] == "model_failed"
    )
    # By the provider, as often as it did; by no breaker, which a call that has time would sit out.
    assert {key: count for key, count in refusals.items() if key[0] in MODEST} == {
        (tenant, ProviderError.code): provider.failures[tenant]
        for tenant in MODEST
        if tenant in provider.failures
    }

    # All of it took place.
    assert set(told[FLOODING]) >= {"", "rate_limited"}
    assert limits.waited[FLOODING]
    for tenant in set(told) - {FLOODING, *MODEST}:
        assert set(told[tenant]) == {"circuit_open", "provider_error"}
    assert sum(provider.failures[tenant] for tenant in MODEST) > calls / 200
    assert rows.count("shared", True) > calls / 100
    assert rows.count("cached", "exact") > calls / 100
    assert rows.count("error", "cancelled") > calls / 5
