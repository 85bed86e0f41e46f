"""Answers to questions that mean the same, on a real PostgreSQL; never across tenants."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from uuid import uuid4

import pytest

from motadata.core.errors import ConfigurationError, ProviderError
from motadata.core.models import (
    Completion,
    CompletionChunk,
    Embeddings,
    Health,
    Message,
    Passage,
    ToolDefinition,
    Usage,
)
from motadata.core.protocols import Database
from motadata.gateway import (
    ChatRequest,
    EmbeddingRequest,
    Governance,
    LLMGateway,
    SemanticCache,
    SemanticPolicy,
    create_gateway,
)


class Oracle:
    """Answers every question with its number."""

    name = "oracle"
    revision = ""

    def __init__(self) -> None:
        self.calls = 0
        self.finish = "stop"

    async def complete(self, request: ChatRequest) -> Completion:
        self.calls += 1
        return Completion(f"answer {self.calls}", request.model, self.finish)  # type: ignore[arg-type]  # a test's own

    async def stream(self, request: ChatRequest) -> AsyncIterator[CompletionChunk]:
        answer = await self.complete(request)
        yield CompletionChunk(answer.text)
        yield CompletionChunk("", answer.finish_reason, usage=Usage())

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        raise NotImplementedError

    async def health(self) -> Health:
        return Health("ok")

    async def aclose(self) -> None:
        return None


class Themes:
    """Embeds by theme: questions about printers mean the same, and so do those about tokens."""

    def __init__(self) -> None:
        self.fails = False

    async def embed(
        self, texts: Sequence[str], *, model: str | None = None, tenant_id: str | None = None
    ) -> Embeddings:
        if self.fails:
            raise ProviderError("The embedder is down.")
        vectors = tuple((1.0, 0.0) if "printer" in text else (0.0, 1.0) for text in texts)
        return Embeddings(vectors, "themes")


@pytest.fixture
def oracle() -> Oracle:
    return Oracle()


@pytest.fixture
def themes() -> Themes:
    return Themes()


@pytest.fixture
def acme() -> str:
    return f"acme-{uuid4().hex}"


@pytest.fixture
async def gateway(database: Database, oracle: Oracle, themes: Themes) -> AsyncIterator[LLMGateway]:
    policy = SemanticPolicy(most_answers=3)
    governance = Governance(semantic_cache=SemanticCache(database, themes, policy))
    async with create_gateway([oracle], "oracle/m", governance=governance) as made:
        yield made


async def test_question_that_means_the_same_gets_the_same_answer_for_nothing(
    gateway: LLMGateway, acme: str
) -> None:
    first = await gateway.generate_async("How is the printer mended?", tenant_id=acme)
    second = await gateway.generate_async("What mends a printer?", tenant_id=acme)

    assert second.text == first.text
    assert (first.cached, second.cached) == (False, True)


async def test_question_that_means_something_else_is_asked(
    gateway: LLMGateway, oracle: Oracle, acme: str
) -> None:
    await gateway.generate_async("How is the printer mended?", tenant_id=acme)
    await gateway.generate_async("How is the token reset?", tenant_id=acme)

    assert oracle.calls == 2


async def test_another_tenant_is_never_answered_from_it(
    gateway: LLMGateway, oracle: Oracle, acme: str
) -> None:
    for tenant in (acme, f"{acme}-2", acme.upper()):
        await gateway.generate_async("How is the printer mended?", tenant_id=tenant)

    assert oracle.calls == 3


async def test_store_itself_shows_a_tenant_its_own_answers_only(
    gateway: LLMGateway, database: Database, acme: str
) -> None:
    await gateway.generate_async("How is the printer mended?", tenant_id=acme)

    query = "select count(*) as n from motadata.semantic_answer"
    assert (await database.execute_query(query, tenant_id=acme))[0]["n"] == 1
    assert (await database.execute_query(query, tenant_id=f"{acme}-2"))[0]["n"] == 0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Mend the printer of user 4711", "Mend the printer of user 4712"),
        ("Mend the printer PRN-1", "Mend the printer PRN-2"),
        ("Should the printer be on?", "Should the printer not be on?"),
        ("Is the 'red' printer on?", "Is the 'blue' printer on?"),
        ("Is the HR printer on?", "Is the IT printer on?"),
        ("Mail printer@acme.example", "Mail printer@globex.example"),
    ],
)
async def test_questions_that_differ_in_something_specific_are_different(
    gateway: LLMGateway, oracle: Oracle, acme: str, one: str, other: str
) -> None:
    await gateway.generate_async(one, tenant_id=acme)
    await gateway.generate_async(other, tenant_id=acme)

    assert oracle.calls == 2


async def test_another_instruction_or_model_is_another_context(
    gateway: LLMGateway, oracle: Oracle, acme: str
) -> None:
    question = Message("user", "How is the printer mended?")
    await gateway.generate_async([question], tenant_id=acme)
    await gateway.generate_async([Message("system", "Be brief."), question], tenant_id=acme)
    await gateway.generate_async([question], model="oracle/other", tenant_id=acme)

    assert oracle.calls == 3


async def test_calls_that_it_cannot_answer_pass_it_by(
    gateway: LLMGateway, oracle: Oracle, acme: str
) -> None:
    tool = ToolDefinition("mend", "Mends.")
    read = Message("user", "the printer?", passages=(Passage(1, "It is on."),))
    for _ in range(2):
        await gateway.generate_async("the printer?", tools=[tool], tenant_id=acme)
        await gateway.generate_async("the printer?", temperature=0.9, tenant_id=acme)
        await gateway.generate_async("the printer?", cache="bypass", tenant_id=acme)
        await gateway.generate_async([read], tenant_id=acme)

    assert oracle.calls == 8


async def test_refresh_asks_and_keeps_the_new_answer(gateway: LLMGateway, acme: str) -> None:
    await gateway.generate_async("How is the printer mended?", tenant_id=acme)
    fresh = await gateway.generate_async("Mend the printer", cache="refresh", tenant_id=acme)

    assert fresh.text == "answer 2"


async def test_answer_that_was_cut_off_is_not_kept(
    gateway: LLMGateway, oracle: Oracle, acme: str
) -> None:
    oracle.finish = "length"
    for _ in range(2):
        await gateway.generate_async("How is the printer mended?", tenant_id=acme)

    assert oracle.calls == 2


async def test_oldest_answers_go_when_there_are_too_many(
    gateway: LLMGateway, database: Database, acme: str
) -> None:
    for number in range(6):
        await gateway.generate_async(f"printer {number}", tenant_id=acme)

    rows = await database.execute_query(
        "select count(*) as n from motadata.semantic_answer", tenant_id=acme
    )
    assert rows[0]["n"] == 3


async def test_stream_says_a_kept_answer_in_one_piece(gateway: LLMGateway, acme: str) -> None:
    await gateway.generate_async("How is the printer mended?", tenant_id=acme)

    chunks = [chunk async for chunk in gateway.stream("Mend the printer", tenant_id=acme)]

    assert [chunk.text for chunk in chunks] == ["answer 1", ""]


async def test_embedder_that_fails_is_a_miss(
    gateway: LLMGateway, oracle: Oracle, themes: Themes, acme: str
) -> None:
    themes.fails = True

    answer = await gateway.generate_async("How is the printer mended?", tenant_id=acme)

    assert (answer.text, oracle.calls) == ("answer 1", 1)


@pytest.mark.parametrize(
    "wrong", [{"threshold": 0.2}, {"threshold": 1.5}, {"ttl": 0.0}, {"most_answers": 0}], ids=str
)
def test_policy_refuses_numbers_that_cannot_work(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        SemanticPolicy(**wrong)  # type: ignore[arg-type]  # the names are the policy's own
