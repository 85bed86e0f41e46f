from __future__ import annotations

from uuid import uuid4

import pytest

from motadata.core.cache import create_memory_cache
from motadata.core.errors import DocumentNotFoundError, QueryError
from motadata.core.models import Document
from motadata.core.protocols import Database
from motadata.core.testing.fake_gateway import FakeGateway
from motadata.rag import RAGSystem, create_rag_system, quick_rag_query


_TABLES = ("document", "document_version", "chunk", "posting", "knowledge_state")
_ACME = Document(text="The acme token is reset in the portal.", source="a", document_id="doc")
_GLOBEX = Document(text="The globex token is reset in the portal.", source="a", document_id="doc")
_QUESTION = "Where is the token reset?"


@pytest.fixture
def acme() -> str:
    return f"acme-{uuid4().hex}"


@pytest.fixture
def globex() -> str:
    return f"globex-{uuid4().hex}"


@pytest.fixture
async def system(database: Database, acme: str, globex: str) -> RAGSystem:
    """Two tenants with a document of the same id and nearly the same words."""
    made = create_rag_system(database, FakeGateway(), cache=create_memory_cache())
    await made.ingest_document(_ACME, tenant_id=acme)
    await made.ingest_document(_GLOBEX, tenant_id=globex)
    return made


async def test_each_method_shows_a_tenant_its_own_document_only(
    system: RAGSystem, acme: str, globex: str
) -> None:
    for tenant, other in ((acme, "globex"), (globex, "acme"), (acme, "globex")):
        answer = await system.query(_QUESTION, tenant_id=tenant)
        chunks = await system.retrieve(_QUESTION, tenant_id=tenant)
        narrowed = await system.retrieve(_QUESTION, document_ids=["doc"], tenant_id=tenant)
        listed = await system.list_documents(tenant_id=tenant)
        text = (await system.get_document("doc", tenant_id=tenant)).text

        assert answer.answered
        assert other not in answer.answer + text + "".join(c.text for c in [*chunks, *narrowed])
        assert (len(chunks), len(narrowed), len(listed)) == (1, 1, 1)


async def test_one_tenants_changes_leave_the_others_cached_answers(
    system: RAGSystem, acme: str, globex: str
) -> None:
    await system.query(_QUESTION, tenant_id=globex)
    await system.delete_document("doc", tenant_id=acme)

    kept = await system.query(_QUESTION, tenant_id=globex)

    assert kept.cached
    with pytest.raises(DocumentNotFoundError):
        await system.get_document("doc", tenant_id=acme)
    assert (await system.get_document("doc", tenant_id=globex)).text == _GLOBEX.text


@pytest.mark.parametrize("table", _TABLES)
async def test_sql_through_the_runtime_role_sees_one_tenants_rows(
    system: RAGSystem, database: Database, acme: str, globex: str, table: str
) -> None:
    own = await database.execute_query(
        f"select distinct tenant_id from motadata.{table}", tenant_id=acme
    )
    named = await database.execute_query(
        f"select 1 from motadata.{table} where tenant_id = $1", globex, tenant_id=acme
    )

    assert [row["tenant_id"] for row in own] == [acme]
    assert named == []


@pytest.mark.parametrize("table", _TABLES)
async def test_sql_through_the_runtime_role_changes_one_tenants_rows(
    system: RAGSystem, database: Database, acme: str, globex: str, table: str
) -> None:
    with pytest.raises(QueryError):
        await database.execute_query(
            f"update motadata.{table} set tenant_id = $1", globex, tenant_id=acme
        )
    await database.execute_query(f"delete from motadata.{table}", tenant_id=acme)

    rows = await database.execute_query(f"select 1 from motadata.{table}", tenant_id=globex)
    assert rows


@pytest.mark.parametrize("table", _TABLES)
async def test_the_tenant_comes_first_in_each_primary_key(database: Database, table: str) -> None:
    rows = await database.execute_query(
        "select a.attname from pg_index i join pg_attribute a"
        " on a.attrelid = i.indrelid and a.attnum = i.indkey[0]"
        f" where i.indrelid = 'motadata.{table}'::regclass and i.indisprimary",
        tenant_id="anyone",
    )

    assert [row["attname"] for row in rows] == ["tenant_id"]


async def test_a_quick_query_asks_only_the_documents_that_it_brings(
    system: RAGSystem, database: Database, acme: str
) -> None:
    answer = await quick_rag_query(
        _QUESTION,
        ["The badge token is reset at the reception.", _GLOBEX],
        db=database,
        gateway=FakeGateway(),
        tenant_id=acme,
    )
    only = await quick_rag_query(
        _QUESTION,
        ["The badge token is reset at the reception."],
        db=database,
        gateway=FakeGateway(),
        tenant_id=acme,
    )

    assert answer.answered
    assert {citation.document_id for citation in only.citations} != {"doc"}
    assert "reception" in only.answer
    assert "portal" not in only.answer
