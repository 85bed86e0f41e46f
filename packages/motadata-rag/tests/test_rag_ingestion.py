from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import uuid4

import pytest

from motadata.core.database import create_database
from motadata.core.errors import (
    DocumentNotFoundError,
    DocumentProcessingError,
    ProviderError,
    SDKError,
)
from motadata.core.models import Document, Embeddings, Section
from motadata.core.protocols import Database, Transaction
from motadata.core.testing.fake_gateway import FakeGateway
from motadata.core.testing.plugin import DatabaseDsns
from motadata.rag import RAGOptions, create_rag_system


_TEXT = "The VPN token is reset in the portal. " * 60
_DOCUMENT = Document(text=_TEXT, source="vpn.md", title="VPN", document_id="vpn")
_COUNTS = (
    "select (select count(*) from motadata.document) as documents,"
    " (select count(*) from motadata.document_version) as versions,"
    " (select count(*) from motadata.chunk) as chunks,"
    " (select count(*) from motadata.posting) as postings,"
    " coalesce((select generation from motadata.knowledge_state), 0) as generation,"
    " coalesce((select chunks from motadata.knowledge_state), 0) as counted_chunks,"
    " coalesce((select words from motadata.knowledge_state), 0) as words"
)


class _OtherModel(FakeGateway):
    """A gateway whose embedding model answers under another name."""

    async def embed(
        self,
        texts: Sequence[str],
        *,
        model: str | None = None,
        timeout: float | None = None,
        tenant_id: str | None = None,
    ) -> Embeddings:
        found = await super().embed(texts, model=model, timeout=timeout, tenant_id=tenant_id)
        return Embeddings(found.vectors, "fake/other", found.usage)


class _Meeting(FakeGateway):
    """A gateway at which two callers wait for each other before they get their vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.barrier = asyncio.Barrier(2)
        self.reached = asyncio.Event()

    async def embed(
        self,
        texts: Sequence[str],
        *,
        model: str | None = None,
        timeout: float | None = None,
        tenant_id: str | None = None,
    ) -> Embeddings:
        self.reached.set()
        await self.barrier.wait()
        return await super().embed(texts, model=model, timeout=timeout, tenant_id=tenant_id)


class _FailingLate:
    """A database whose storing transaction breaks at the n-th statement, as a crash would."""

    def __init__(self, database: Database, statement: int) -> None:
        self._database = database
        self._statement = statement

    @asynccontextmanager
    async def transaction(
        self, tenant_id: str | None = None, *, timeout: float | None = None
    ) -> AsyncIterator[Transaction]:
        async with self._database.transaction(tenant_id, timeout=timeout) as transaction:
            yield _Countdown(transaction, self._statement) if timeout else transaction

    def __getattr__(self, name: str) -> object:
        return getattr(self._database, name)


class _Countdown:
    def __init__(self, transaction: Transaction, statement: int) -> None:
        self._transaction = transaction
        self._left = statement

    def __getattr__(self, name: str) -> object:
        self._left -= 1
        if self._left < 0:
            raise asyncio.CancelledError
        return getattr(self._transaction, name)


@pytest.fixture
def tenant() -> str:
    return f"t-{uuid4().hex}"


async def _state(database: Database, tenant: str) -> dict[str, object]:
    rows = await database.execute_query(_COUNTS, tenant_id=tenant)
    return dict(rows[0])


async def test_unchanged_document_is_neither_embedded_nor_stored_again(
    database: Database, tenant: str
) -> None:
    gateway = FakeGateway()
    await create_rag_system(database, gateway).ingest_document(_DOCUMENT, tenant_id=tenant)
    calls, before = len(gateway.calls), await _state(database, tenant)

    again = await create_rag_system(database, gateway).ingest_document(_DOCUMENT, tenant_id=tenant)

    assert again.outcome == "unchanged"
    assert len(gateway.calls) == calls
    assert await _state(database, tenant) == before


@pytest.mark.parametrize(
    "change",
    [
        {"text": _TEXT + "More."},
        {"title": "Other"},
        {"sections": (Section(0, 10, heading="A"),)},
        {"metadata": {"team": "network"}},
        {"source": "moved.md"},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_each_kind_of_change_makes_a_new_version(
    database: Database, tenant: str, change: dict[str, object]
) -> None:
    system = create_rag_system(database, FakeGateway())
    await system.ingest_document(_DOCUMENT, tenant_id=tenant)
    changed = replace(_DOCUMENT, **change)  # type: ignore[arg-type]  # fields of a Document

    stored = await system.ingest_document(changed, tenant_id=tenant)

    assert (stored.version, stored.outcome) == (2, "updated")
    assert await system.get_document("vpn", tenant_id=tenant) == changed


async def test_a_new_version_replaces_everything_that_is_searched(
    database: Database, tenant: str
) -> None:
    system = create_rag_system(database, FakeGateway())
    await system.ingest_document(_DOCUMENT, tenant_id=tenant)
    short = Document(text="Short now.", source="vpn.md", document_id="vpn")

    await system.ingest_document(short, tenant_id=tenant)

    state = await _state(database, tenant)
    assert (state["chunks"], state["counted_chunks"], state["words"]) == (1, 1, 2)
    assert (state["versions"], state["generation"]) == (2, 2)
    assert (await system.retrieve("VPN token", tenant_id=tenant))[0].version == 2


async def test_totals_return_to_zero_when_all_is_deleted(database: Database, tenant: str) -> None:
    system = create_rag_system(database, FakeGateway())
    await system.ingest_document(_DOCUMENT, tenant_id=tenant)

    await system.delete_document("vpn", tenant_id=tenant)

    state = await _state(database, tenant)
    assert state.pop("generation") == 2
    assert set(state.values()) == {0}


async def test_only_the_last_versions_are_kept(database: Database, tenant: str) -> None:
    system = create_rag_system(database, FakeGateway(), options=RAGOptions(kept_versions=2))
    for number in range(1, 5):
        document = Document(text=f"Text {number}.", source="a", document_id="a")
        await system.ingest_document(document, tenant_id=tenant)

    assert (await system.get_document("a", version=3, tenant_id=tenant)).text == "Text 3."
    with pytest.raises(DocumentNotFoundError):
        await system.get_document("a", version=2, tenant_id=tenant)


async def test_two_instances_with_one_document_make_one_version(
    database: Database, database_dsns: DatabaseDsns, tenant: str
) -> None:
    gateway = _Meeting()
    async with create_database(database_dsns.runtime) as other:
        results = await asyncio.gather(
            *(
                create_rag_system(db, gateway).ingest_document(_DOCUMENT, tenant_id=tenant)
                for db in (database, other)
            )
        )

    assert sorted(result.outcome for result in results) == ["created", "unchanged"]
    state = await _state(database, tenant)
    assert (state["versions"], state["generation"]) == (1, 1)
    assert state["chunks"] == state["counted_chunks"] == results[0].chunks


async def test_many_documents_at_once_lose_no_count(database: Database, tenant: str) -> None:
    system = create_rag_system(database, FakeGateway())
    documents = [Document(text=f"Text of {i}.", source=str(i)) for i in range(20)]

    async with asyncio.TaskGroup() as group:
        for document in documents:
            group.create_task(system.ingest_document(document, tenant_id=tenant))

    state = await _state(database, tenant)
    assert (state["chunks"], state["counted_chunks"], state["generation"]) == (20, 20, 20)


@pytest.mark.parametrize("statement", range(11))
async def test_a_crash_at_any_statement_leaves_the_old_version(
    database: Database, tenant: str, statement: int
) -> None:
    system = create_rag_system(database, FakeGateway())
    await system.ingest_document(_DOCUMENT, tenant_id=tenant)
    before = await _state(database, tenant)
    changed = Document(text="All is new. " * 200, source="vpn.md", document_id="vpn")
    crashing = create_rag_system(_FailingLate(database, statement), FakeGateway())  # type: ignore[arg-type]  # passes the rest on

    if statement < 10:
        with pytest.raises(asyncio.CancelledError):
            await crashing.ingest_document(changed, tenant_id=tenant)
        assert await _state(database, tenant) == before
    retried = await crashing.ingest_document(changed, tenant_id=tenant) if statement == 10 else None
    retried = retried or await system.ingest_document(changed, tenant_id=tenant)

    assert (retried.version, retried.outcome) == (2, "updated")


async def test_cancelled_between_embedding_and_commit_nothing_is_stored(
    database: Database, tenant: str
) -> None:
    gateway = _Meeting()
    system = create_rag_system(database, gateway)
    task = asyncio.create_task(system.ingest_document(_DOCUMENT, tenant_id=tenant))
    await gateway.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert set((await _state(database, tenant)).values()) == {0}


async def test_a_failing_provider_leaves_nothing(database: Database, tenant: str) -> None:
    gateway = FakeGateway()
    gateway.fail_next(ProviderError("The provider is down.", retryable=True))
    system = create_rag_system(database, gateway)

    with pytest.raises(DocumentProcessingError) as caught:
        await system.ingest_document(_DOCUMENT, tenant_id=tenant)

    assert caught.value.retryable
    assert "VPN token" not in str(caught.value)
    assert set((await _state(database, tenant)).values()) == {0}


async def test_without_an_embedding_model_documents_are_found_by_words(
    database: Database, tenant: str
) -> None:
    system = create_rag_system(database, FakeGateway(embeddings=False))

    stored = await system.ingest_document(_DOCUMENT, tenant_id=tenant)
    chunks = await system.retrieve("portal", tenant_id=tenant)
    health = await system.health()

    assert not stored.embedded
    assert chunks[0].similarity is None
    assert chunks[0].lexical
    assert health.status == "degraded"
    assert "pip install" in health.detail


async def test_vectors_follow_once_an_embedding_model_is_there(
    database: Database, tenant: str
) -> None:
    words_only = create_rag_system(database, FakeGateway(embeddings=False))
    await words_only.ingest_document(_DOCUMENT, tenant_id=tenant)
    again = await words_only.ingest_document(_DOCUMENT, tenant_id=tenant)
    system = create_rag_system(database, FakeGateway())

    embedded = await system.ingest_document(_DOCUMENT, tenant_id=tenant)

    assert again.outcome == "unchanged"
    assert (embedded.outcome, embedded.embedded) == ("updated", True)
    assert (await system.retrieve("portal", tenant_id=tenant))[0].similarity is not None


async def test_another_embedding_model_embeds_anew_and_old_vectors_are_not_compared(
    database: Database, tenant: str
) -> None:
    await create_rag_system(database, FakeGateway()).ingest_document(_DOCUMENT, tenant_id=tenant)
    system = create_rag_system(database, _OtherModel())
    before = await system.retrieve("portal", tenant_id=tenant)
    await system.ingest_document(Document(text="Other.", source="other"), tenant_id=tenant)

    again = await system.ingest_document(_DOCUMENT, tenant_id=tenant)
    after = await system.retrieve("portal", tenant_id=tenant)

    assert before[0].similarity is None
    assert again.outcome == "updated"
    assert after[0].similarity is not None


async def test_a_long_document_is_stored_whole(database: Database, tenant: str) -> None:
    text = "".join(f"Sentence {i} about host-{i} and its disks. " for i in range(9_000))
    system = create_rag_system(database, FakeGateway(embeddings=False))

    stored = await system.ingest_document(Document(text=text, source="long"), tenant_id=tenant)
    found = await system.retrieve("host-8765", limit=3, tenant_id=tenant)

    assert stored.chunks > 500
    assert "host-8765 " in found[0].text
    assert found[0].text == text[found[0].start : found[0].end]


async def test_sections_out_of_order_are_refused(database: Database, tenant: str) -> None:
    system = create_rag_system(database, FakeGateway())
    for sections in (
        (Section(0, 9), Section(5, 12)),
        (Section(0, 10_000),),
        (Section(9, 3),),
        (Section(0, 3, page=0),),
    ):
        document = Document(text="A text of few words.", source="a", sections=sections)
        with pytest.raises(DocumentProcessingError):
            await system.ingest_document(document, tenant_id=tenant)


async def test_a_database_out_of_reach_is_said_to_be_so(
    database_dsns: DatabaseDsns, tenant: str
) -> None:
    async with create_database(database_dsns.runtime) as database:
        system = create_rag_system(database, FakeGateway())
        await database.execute_query("select 1", tenant_id=tenant)
    # Closed now, as a stopped server's would be for every statement.
    with pytest.raises(SDKError):
        await system.ingest_document(_DOCUMENT, tenant_id=tenant)
    assert (await system.health()).status == "down"
