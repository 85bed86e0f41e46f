"""The contract of a knowledge base as tests: subclass and give the fixture `knowledge_base`.

    class TestMine(KnowledgeBaseConformance):
        @pytest.fixture
        async def knowledge_base(self) -> AsyncIterator[KnowledgeBase]:
            async with create_mine() as mine:
                yield mine

The tests use the tenants `acme` and `globex`, which must be empty at the start of each.
"""

from __future__ import annotations

import asyncio

import pytest

from motadata.core.errors import (
    DocumentNotFoundError,
    DocumentProcessingError,
    InvalidIdentifierError,
    RetrievalError,
    TenantRequiredError,
)
from motadata.core.models import Document, Section
from motadata.core.protocols import KnowledgeBase
from motadata.core.tenancy import tenant_scope


_VPN = Document(
    text=(
        "Remote access\n\n"
        "The VPN token is reset in the self-service portal. Open it and choose Security.\n\n"
        "A locked account is unlocked by the service desk within one hour."
    ),
    source="articles/vpn.md",
    title="Reset a VPN token",
    document_id="vpn",
    sections=(Section(start=0, end=150, page=1, heading="Remote access"),),
    metadata={"team": "network"},
)
_PRINTER = Document(
    text="A paper jam is cleared by opening tray two of the printer.",
    source="articles/printer.md",
    title="Clear a paper jam",
    document_id="printer",
)
_VPN_QUESTION = "How is the VPN token reset?"


class KnowledgeBaseConformance:
    """What every implementation of `motadata.core.protocols.KnowledgeBase` must do."""

    @pytest.fixture
    def knowledge_base(self) -> KnowledgeBase:
        """Supply the implementation, entered and empty."""
        message = "A subclass supplies the fixture `knowledge_base`."
        raise NotImplementedError(message)

    async def test_new_document_is_created_with_version_one(
        self, knowledge_base: KnowledgeBase
    ) -> None:
        stored = await knowledge_base.ingest_document(_VPN, tenant_id="acme")

        assert (stored.document_id, stored.version, stored.outcome) == ("vpn", 1, "created")
        assert stored.chunks >= 1

    async def test_unchanged_document_stays_as_it_is(self, knowledge_base: KnowledgeBase) -> None:
        await knowledge_base.ingest_document(_VPN, tenant_id="acme")

        again = await knowledge_base.ingest_document(_VPN, tenant_id="acme")

        assert (again.version, again.outcome) == (1, "unchanged")

    @pytest.mark.parametrize(
        "changed",
        [
            Document(text=_VPN.text + " Call 4711.", source=_VPN.source, title=_VPN.title),
            Document(text=_VPN.text, source=_VPN.source, title="Another title"),
        ],
        ids=["text", "title"],
    )
    async def test_changed_document_becomes_a_new_version(
        self, knowledge_base: KnowledgeBase, changed: Document
    ) -> None:
        first = Document(text=_VPN.text, source=_VPN.source, title=_VPN.title)
        created = await knowledge_base.ingest_document(first, tenant_id="acme")

        updated = await knowledge_base.ingest_document(changed, tenant_id="acme")

        assert updated.document_id == created.document_id
        assert (updated.version, updated.outcome) == (2, "updated")

    async def test_id_is_derived_from_the_source_alone(self, knowledge_base: KnowledgeBase) -> None:
        one = await knowledge_base.ingest_document(
            Document(text="One.", source="folder/a b ü.txt"), tenant_id="acme"
        )
        two = await knowledge_base.ingest_document(
            Document(text="Two.", source="folder/a b ü.txt"), tenant_id="globex"
        )
        other = await knowledge_base.ingest_document(
            Document(text="One.", source="folder/other.txt"), tenant_id="acme"
        )

        assert one.document_id == two.document_id != other.document_id

    async def test_every_kept_version_can_be_read(self, knowledge_base: KnowledgeBase) -> None:
        await knowledge_base.ingest_document(_VPN, tenant_id="acme")
        changed = Document(text="Tokens are gone.", source=_VPN.source, document_id="vpn")
        await knowledge_base.ingest_document(changed, tenant_id="acme")

        first = await knowledge_base.get_document("vpn", version=1, tenant_id="acme")
        current = await knowledge_base.get_document("vpn", tenant_id="acme")

        assert first == _VPN
        assert current.text == "Tokens are gone."

    async def test_answer_cites_the_exact_place(self, knowledge_base: KnowledgeBase) -> None:
        await knowledge_base.ingest_document(_VPN, tenant_id="acme")
        await knowledge_base.ingest_document(_PRINTER, tenant_id="acme")

        answer = await knowledge_base.query(_VPN_QUESTION, tenant_id="acme")

        assert answer.answered
        assert "[1]" in answer.answer
        citation = answer.citations[0]
        assert (citation.document_id, citation.version) == ("vpn", 1)
        assert (citation.title, citation.source) == (_VPN.title, _VPN.source)
        assert citation.quote == _VPN.text[citation.start : citation.end]
        assert "VPN token" in citation.quote

    async def test_retrieved_chunks_are_exact_and_ordered(
        self, knowledge_base: KnowledgeBase
    ) -> None:
        await knowledge_base.ingest_document(_PRINTER, tenant_id="acme")
        await knowledge_base.ingest_document(_VPN, tenant_id="acme")

        chunks = await knowledge_base.retrieve(_VPN_QUESTION, tenant_id="acme")

        assert chunks[0].document_id == "vpn"
        assert [chunk.text for chunk in chunks if chunk.document_id == "vpn"] == [
            _VPN.text[chunk.start : chunk.end] for chunk in chunks if chunk.document_id == "vpn"
        ]
        scores = [chunk.score for chunk in chunks]
        assert scores == sorted(scores, reverse=True)
        assert all(0 <= score <= 1 for score in scores)

    async def test_chunks_know_page_and_heading(self, knowledge_base: KnowledgeBase) -> None:
        await knowledge_base.ingest_document(_VPN, tenant_id="acme")

        chunks = await knowledge_base.retrieve(_VPN_QUESTION, limit=1, tenant_id="acme")

        assert (chunks[0].page, chunks[0].heading) == (1, "Remote access")

    async def test_limit_and_document_ids_narrow_the_search(
        self, knowledge_base: KnowledgeBase
    ) -> None:
        await knowledge_base.ingest_document(_VPN, tenant_id="acme")
        await knowledge_base.ingest_document(_PRINTER, tenant_id="acme")
        question = "VPN token printer paper"

        one = await knowledge_base.retrieve(question, limit=1, tenant_id="acme")
        narrowed = await knowledge_base.retrieve(
            question, document_ids=["printer"], tenant_id="acme"
        )

        assert len(one) == 1
        assert {chunk.document_id for chunk in narrowed} == {"printer"}

    async def test_nothing_known_is_said_to_be_unknown(self, knowledge_base: KnowledgeBase) -> None:
        answer = await knowledge_base.query(_VPN_QUESTION, tenant_id="acme")

        assert not answer.answered
        assert answer.answer == "I don't know."
        assert answer.citations == ()

    async def test_changed_document_changes_the_answer(self, knowledge_base: KnowledgeBase) -> None:
        await knowledge_base.ingest_document(_VPN, tenant_id="acme")
        before = await knowledge_base.query(_VPN_QUESTION, tenant_id="acme")
        changed = Document(
            text="The VPN token is reset by calling 4711.", source=_VPN.source, document_id="vpn"
        )
        await knowledge_base.update_document(changed, tenant_id="acme")

        after = await knowledge_base.query(_VPN_QUESTION, tenant_id="acme")

        assert "4711" not in before.answer
        assert "4711" in after.answer
        assert after.citations[0].version == 2

    async def test_deleted_document_is_gone_everywhere(self, knowledge_base: KnowledgeBase) -> None:
        await knowledge_base.ingest_document(_VPN, tenant_id="acme")
        await knowledge_base.query(_VPN_QUESTION, tenant_id="acme")

        await knowledge_base.delete_document("vpn", tenant_id="acme")

        assert await knowledge_base.list_documents(tenant_id="acme") == []
        assert await knowledge_base.retrieve(_VPN_QUESTION, tenant_id="acme") == []
        assert not (await knowledge_base.query(_VPN_QUESTION, tenant_id="acme")).answered
        with pytest.raises(DocumentNotFoundError):
            await knowledge_base.get_document("vpn", tenant_id="acme")
        with pytest.raises(DocumentNotFoundError):
            await knowledge_base.get_document("vpn", version=1, tenant_id="acme")

    async def test_documents_are_listed_page_by_page(self, knowledge_base: KnowledgeBase) -> None:
        for name in ("c", "a", "b"):
            document = Document(text=f"Text {name}.", source=name, document_id=name)
            await knowledge_base.ingest_document(document, tenant_id="acme")

        first = await knowledge_base.list_documents(limit=2, tenant_id="acme")
        second = await knowledge_base.list_documents(limit=2, after="b", tenant_id="acme")

        assert [info.document_id for info in first] == ["a", "b"]
        assert [info.document_id for info in second] == ["c"]
        assert (first[0].version, first[0].characters) == (1, 7)

    async def test_unknown_documents_are_refused(self, knowledge_base: KnowledgeBase) -> None:
        await knowledge_base.ingest_document(_PRINTER, tenant_id="acme")

        with pytest.raises(DocumentNotFoundError):
            await knowledge_base.get_document("nowhere", tenant_id="acme")
        with pytest.raises(DocumentNotFoundError):
            await knowledge_base.get_document("printer", version=2, tenant_id="acme")
        with pytest.raises(DocumentNotFoundError):
            await knowledge_base.delete_document("nowhere", tenant_id="acme")
        with pytest.raises(DocumentNotFoundError):
            await knowledge_base.update_document(_VPN, tenant_id="acme")

    @pytest.mark.parametrize(
        "document",
        [
            Document(text="", source="a"),
            Document(text=" \n\t ", source="a"),
            Document(text="NUL \0 inside.", source="a"),
            Document(text="Half a pair \ud800.", source="a"),
            Document(text="Fine.", source=""),
            Document(text="Fine.", source="a" * 1_001),
            Document(text="Fine.", source="a", title="t" * 501),
            Document(text="Fine.", source="a", document_id="not/an:id"),
        ],
        ids=["empty", "blank", "nul", "surrogate", "no-source", "long-source", "long-title", "id"],
    )
    async def test_bad_document_is_refused_and_leaves_nothing(
        self, knowledge_base: KnowledgeBase, document: Document
    ) -> None:
        with pytest.raises(DocumentProcessingError):
            await knowledge_base.ingest_document(document, tenant_id="acme")

        assert await knowledge_base.list_documents(tenant_id="acme") == []

    @pytest.mark.parametrize("query", ["", "  \n", "x" * 1_000_000], ids=["empty", "blank", "huge"])
    async def test_bad_query_is_refused(self, knowledge_base: KnowledgeBase, query: str) -> None:
        with pytest.raises(RetrievalError):
            await knowledge_base.query(query, tenant_id="acme")
        with pytest.raises(RetrievalError):
            await knowledge_base.retrieve(query, tenant_id="acme")

    @pytest.mark.parametrize("limit", [0, -1, 1_000_000])
    async def test_bad_limit_is_refused(self, knowledge_base: KnowledgeBase, limit: int) -> None:
        with pytest.raises(RetrievalError):
            await knowledge_base.retrieve("token", limit=limit, tenant_id="acme")

    @pytest.mark.parametrize(
        "query", ["'; DROP TABLE x; --", "a & | ! b", "x:* <-> (y", "\\", "%_", "日本語 ?", "🙂"]
    )
    async def test_any_characters_may_be_asked(
        self, knowledge_base: KnowledgeBase, query: str
    ) -> None:
        await knowledge_base.ingest_document(_VPN, tenant_id="acme")

        await knowledge_base.retrieve(query, tenant_id="acme")

        assert len(await knowledge_base.list_documents(tenant_id="acme")) == 1

    async def test_same_document_sent_at_once_is_stored_once(
        self, knowledge_base: KnowledgeBase
    ) -> None:
        results = await asyncio.gather(
            *(knowledge_base.ingest_document(_VPN, tenant_id="acme") for _ in range(5))
        )

        assert {result.version for result in results} == {1}
        assert sorted(result.outcome for result in results) == ["created"] + ["unchanged"] * 4

    async def test_tenants_with_equal_documents_see_only_their_own(
        self, knowledge_base: KnowledgeBase
    ) -> None:
        for tenant in ("acme", "globex"):
            await knowledge_base.ingest_document(_VPN, tenant_id=tenant)
        await knowledge_base.query(_VPN_QUESTION, tenant_id="acme")
        await knowledge_base.query(_VPN_QUESTION, tenant_id="globex")

        changed = Document(text="The VPN token is void.", source=_VPN.source, document_id="vpn")
        await knowledge_base.update_document(changed, tenant_id="acme")

        other = await knowledge_base.query(_VPN_QUESTION, tenant_id="globex")
        assert "void" not in other.answer
        assert (await knowledge_base.get_document("vpn", tenant_id="globex")).text == _VPN.text
        await knowledge_base.delete_document("vpn", tenant_id="acme")
        assert len(await knowledge_base.list_documents(tenant_id="globex")) == 1
        assert await knowledge_base.retrieve(_VPN_QUESTION, tenant_id="globex")

    async def test_other_tenants_documents_do_not_exist(
        self, knowledge_base: KnowledgeBase
    ) -> None:
        await knowledge_base.ingest_document(_VPN, tenant_id="acme")

        assert await knowledge_base.list_documents(tenant_id="globex") == []
        assert await knowledge_base.retrieve(_VPN_QUESTION, tenant_id="globex") == []
        narrowed = await knowledge_base.retrieve(
            _VPN_QUESTION, document_ids=["vpn"], tenant_id="globex"
        )
        assert narrowed == []
        assert not (await knowledge_base.query(_VPN_QUESTION, tenant_id="globex")).answered
        with pytest.raises(DocumentNotFoundError):
            await knowledge_base.get_document("vpn", tenant_id="globex")
        with pytest.raises(DocumentNotFoundError):
            await knowledge_base.delete_document("vpn", tenant_id="globex")
        with pytest.raises(DocumentNotFoundError):
            await knowledge_base.update_document(_VPN, tenant_id="globex")

    async def test_every_operation_needs_a_tenant(self, knowledge_base: KnowledgeBase) -> None:
        for operation in (
            knowledge_base.ingest_document(_VPN),
            knowledge_base.update_document(_VPN),
            knowledge_base.delete_document("vpn"),
            knowledge_base.list_documents(),
            knowledge_base.get_document("vpn"),
            knowledge_base.retrieve(_VPN_QUESTION),
            knowledge_base.query(_VPN_QUESTION),
        ):
            with pytest.raises(TenantRequiredError):
                await operation

    async def test_tenant_of_the_scope_is_used(self, knowledge_base: KnowledgeBase) -> None:
        with tenant_scope("acme"):
            await knowledge_base.ingest_document(_VPN)

        assert len(await knowledge_base.list_documents(tenant_id="acme")) == 1

    async def test_malformed_tenant_is_refused(self, knowledge_base: KnowledgeBase) -> None:
        with pytest.raises(InvalidIdentifierError):
            await knowledge_base.query(_VPN_QUESTION, tenant_id="acme:*")

    async def test_health_says_that_it_serves(self, knowledge_base: KnowledgeBase) -> None:
        assert (await knowledge_base.health()).status in {"ok", "degraded"}
