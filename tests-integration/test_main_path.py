"""From files to cited answers through every component, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest

from motadata.core.embedded import EmbeddedPostgres
from motadata.core.errors import ConnectionError as DatabaseConnectionError
from motadata.core.errors import (
    DocumentNotFoundError,
    EmptyFileError,
    FileTooLargeError,
    InvalidIdentifierError,
    RetrievalError,
    SDKError,
    TenantRequiredError,
    UnreadableFileError,
    UnsupportedFormatError,
)
from motadata.core.models import Document
from motadata.core.platform import Platform, create_platform
from motadata.core.protocols import UploadProgress
from motadata.core.testing.plugin import DatabaseDsns


MANUAL = """# Access cards

A lost access card is blocked within 15 minutes after a call to extension 4711.

## Replacement

The replacement costs 20 euros and is printed at the reception in building C.
"""

PROGRAM = """
import asyncio, sys
from motadata.core.platform import create_platform

async def main():
    async with create_platform() as platform:
        print("open", flush=True)
        await platform.ingestion.upload(sys.argv[1], tenant_id=sys.argv[2])
        print("done", flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("name", "question", "fact"),
    [
        ("incidents/incident-priorities.md", "How quickly is a P1 incident resolved?", "4 hours"),
        ("changes/change-management-policy.pdf", "When does the CAB meet?", "Tuesday"),
        ("operations/disaster-recovery-plan.docx", "How much Tramline data may be lost?", "5 min"),
        ("operations/office-wifi.html", "How long does a guest voucher work?", "8 hours"),
    ],
)
async def test_a_file_of_each_format_is_cited_by_exact_place(
    platform: Platform, samples: Path, name: str, question: str, fact: str
) -> None:
    await platform.ingestion.upload(samples / name, tenant_id="formats")

    answer = await platform.knowledge_base.query(question, tenant_id="formats")

    assert answer.answered
    for citation in answer.citations:
        document = await platform.knowledge_base.get_document(
            citation.document_id, version=citation.version, tenant_id="formats"
        )
        assert document.text[citation.start : citation.end] == citation.quote
    chunks = await platform.knowledge_base.retrieve(question, limit=3, tenant_id="formats")
    assert any(fact in chunk.text for chunk in chunks)


async def test_a_folder_reports_progress_for_every_file(platform: Platform, samples: Path) -> None:
    steps: list[UploadProgress] = []

    report = await platform.ingestion.upload(
        samples / "problems", on_progress=steps.append, tenant_id="progress"
    )

    assert not report.failures
    done = {step.source for step in steps if step.stage == "done"}
    assert done == {file.source for file in report.files}
    assert {step.total for step in steps} >= {len(report.files)}


async def test_an_unchanged_document_is_left_alone_and_a_changed_one_replaces_its_answers(
    platform: Platform,
) -> None:
    base, tenant = platform.knowledge_base, "versions"
    question = "What does the replacement of an access card cost?"
    first = await base.ingest_document(Document(MANUAL, "cards.md"), tenant_id=tenant)
    assert "20 euros" in (await base.query(question, tenant_id=tenant)).answer

    again = await base.ingest_document(Document(MANUAL, "cards.md"), tenant_id=tenant)
    changed = await base.ingest_document(
        Document(MANUAL.replace("20 euros", "35 euros"), "cards.md"), tenant_id=tenant
    )
    answer = await base.query(question, tenant_id=tenant)

    assert (first.outcome, again.outcome, changed.outcome) == ("created", "unchanged", "updated")
    assert (again.version, changed.version) == (1, 2)
    assert "35 euros" in answer.answer
    assert "20 euros" not in answer.answer
    assert not answer.cached


async def test_the_same_question_is_answered_from_the_cache(platform: Platform) -> None:
    base = platform.knowledge_base
    await base.ingest_document(Document(MANUAL, "cards.md"), tenant_id="cached")

    first = await base.query("Where is a card printed?", tenant_id="cached")
    second = await base.query("Where is a card printed?", tenant_id="cached")

    assert (first.cached, second.cached) == (False, True)
    assert first.answer == second.answer


async def test_a_question_that_the_documents_do_not_answer_is_not_answered(
    platform: Platform,
) -> None:
    await platform.knowledge_base.ingest_document(Document(MANUAL, "cards.md"), tenant_id="unknown")

    answer = await platform.knowledge_base.query(
        "Which vaccine is recommended against yellow fever?", tenant_id="unknown"
    )

    assert not answer.answered
    assert not answer.citations


async def test_two_tenants_with_the_same_documents_never_meet(platform: Platform) -> None:
    base = platform.knowledge_base
    for tenant in ("one", "other"):
        text = MANUAL.replace("4711", {"one": "1111", "other": "2222"}[tenant])
        await base.ingest_document(Document(text, "cards.md"), tenant_id=tenant)
    question = "Which extension blocks a lost access card?"

    for tenant, own, foreign in (("one", "1111", "2222"), ("other", "2222", "1111")):
        answer = await base.query(question, tenant_id=tenant)
        seen = [
            answer.answer,
            *(citation.quote for citation in answer.citations),
            *(chunk.text for chunk in await base.retrieve(question, limit=50, tenant_id=tenant)),
        ]
        assert any(own in text for text in seen)
        assert not any(foreign in text for text in seen)

    document_id = (await base.list_documents(tenant_id="one"))[0].document_id
    await base.delete_document(document_id, tenant_id="one")
    assert await base.list_documents(tenant_id="one") == []
    assert "2222" in (await base.query(question, tenant_id="other")).answer
    with pytest.raises(DocumentNotFoundError):
        await base.get_document(document_id, tenant_id="one")


async def test_sql_through_the_sdks_own_role_shows_one_tenant_or_nothing(
    platform: Platform,
    database_dsns: DatabaseDsns,
    all_rows: Callable[[], Awaitable[dict[str, list[str]]]],
) -> None:
    for tenant in ("acme", "beta"):
        await platform.knowledge_base.ingest_document(
            Document(MANUAL + tenant, "sql.md"), tenant_id=tenant
        )
    everything = await all_rows()
    filled = [name for name, rows in everything.items() if rows]
    assert {"document", "document_version", "chunk", "posting", "knowledge_state"} <= set(filled)

    bare = await asyncpg.connect(database_dsns.runtime)
    try:
        for table in everything:
            assert await bare.fetchval(f"select count(*) from motadata.{table}") == 0
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await bare.execute(
                "insert into motadata.knowledge_state values ('acme', 1, 1, 1)"
                " on conflict do nothing"
            )
    finally:
        await bare.close()
    for table in filled:
        rows = await platform.database.execute_query(
            f"select tenant_id from motadata.{table}", tenant_id="acme"
        )
        assert {row["tenant_id"] for row in rows} <= {"acme"}


Bad = Callable[[Platform, Path], Awaitable[object]]


async def _empty(platform: Platform, folder: Path) -> object:
    (folder / "empty.txt").write_bytes(b"")
    return await platform.ingestion.upload(folder / "empty.txt", tenant_id="bad")


async def _unknown(platform: Platform, folder: Path) -> object:
    return await platform.ingestion.upload(
        bytes(range(256)) * 40, source="firmware.bin", tenant_id="bad"
    )


async def _no_pdf(platform: Platform, folder: Path) -> object:
    return await platform.ingestion.upload(
        b"%PDF-1.7\nthis is not one\n%%EOF", source="plan.pdf", tenant_id="bad"
    )


async def _sparse(platform: Platform, folder: Path) -> object:
    with (folder / "sparse.txt").open("wb") as file:
        file.truncate(1 << 30)
    return await platform.ingestion.upload(folder / "sparse.txt", tenant_id="bad")


async def _no_tenant(platform: Platform, folder: Path) -> object:
    return await platform.ingestion.upload(b"Some text.", source="a.txt")


async def _bad_tenant(platform: Platform, folder: Path) -> object:
    return await platform.ingestion.upload(b"Some text.", source="a.txt", tenant_id="acme.>")


async def _empty_question(platform: Platform, folder: Path) -> object:
    return await platform.knowledge_base.query("  ", tenant_id="bad")


@pytest.mark.parametrize(
    ("attempt", "expected"),
    [
        (_empty, EmptyFileError),
        (_unknown, UnsupportedFormatError),
        (_no_pdf, UnreadableFileError),
        (_sparse, FileTooLargeError),
        (_no_tenant, TenantRequiredError),
        (_bad_tenant, InvalidIdentifierError),
        (_empty_question, RetrievalError),
    ],
)
async def test_bad_input_gets_a_typed_error_with_a_remedy_and_leaves_nothing_behind(
    platform: Platform,
    all_rows: Callable[[], Awaitable[dict[str, list[str]]]],
    tmp_path: Path,
    attempt: Bad,
    expected: type[SDKError],
) -> None:
    before = await all_rows()

    with pytest.raises(expected) as caught:
        await attempt(platform, tmp_path)

    assert type(caught.value) is expected
    assert caught.value.remedy
    assert await all_rows() == before


async def test_a_stopped_database_is_a_typed_error_and_its_return_is_noticed(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    directory = tmp_path_factory.mktemp("stopped")
    server = EmbeddedPostgres(directory / "postgres", durable=False)
    async with server, create_platform({"MOTADATA_DATA_DIRECTORY": str(directory)}) as platform:
        base = platform.knowledge_base
        await base.ingest_document(Document(MANUAL, "cards.md"), tenant_id="acme")
        await server.stop()

        with pytest.raises(DatabaseConnectionError) as caught:
            await base.query("Where is a card printed?", tenant_id="acme")
        health = await platform.health()
        await server.start()
        answer = await base.query("Where is a card printed?", tenant_id="acme")

    assert caught.value.retryable
    assert caught.value.remedy
    assert health.components["database"].status == "down"
    assert "building C" in answer.answer


async def test_what_was_acknowledged_is_there_after_a_restart(
    environment: dict[str, str],
) -> None:
    async with create_platform(environment) as platform:
        await platform.knowledge_base.ingest_document(
            Document(MANUAL, "cards.md"), tenant_id="restart"
        )

    async with create_platform(environment) as platform:
        answer = await platform.knowledge_base.query(
            "Where is a card printed?", tenant_id="restart"
        )

    assert "building C" in answer.answer


async def _consistent(dsns: DatabaseDsns, tenant: str) -> int:
    """Check that every document of a tenant is whole, and return how many there are."""
    connection = await asyncpg.connect(dsns.administrator)
    try:
        torn = await connection.fetch(
            "select d.document_id from motadata.document d where tenant_id = $1 and"
            " (d.chunks <> (select count(*) from motadata.chunk c where"
            "   (c.tenant_id, c.document_id, c.version)"
            "   = (d.tenant_id, d.document_id, d.version))"
            "  or not exists (select from motadata.document_version v where"
            "   (v.tenant_id, v.document_id, v.version)"
            "   = (d.tenant_id, d.document_id, d.version)))",
            tenant,
        )
        assert torn == []
        totals = await connection.fetchrow(
            "select coalesce(sum(chunks), 0) = coalesce((select chunks from"
            " motadata.knowledge_state s where s.tenant_id = $1), 0) as equal,"
            " count(*) as documents from motadata.document where tenant_id = $1",
            tenant,
        )
        assert totals["equal"]
        return int(totals["documents"])
    finally:
        await connection.close()


async def test_a_process_killed_in_the_middle_leaves_whole_documents_and_a_rerun_completes_them(
    environment: dict[str, str], database_dsns: DatabaseDsns, samples: Path
) -> None:
    folder, tenant = samples / "incidents", "killed"
    expected = sum(path.is_file() for path in folder.rglob("*"))
    command = [sys.executable, "-c", PROGRAM, str(folder), tenant]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, env={**os.environ, **environment}
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"open\n"
    async with asyncio.timeout(60):
        stored = 0
        while not stored:
            await asyncio.sleep(0.02)
            stored = await _consistent(database_dsns, tenant)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    survived = await _consistent(database_dsns, tenant)

    async with create_platform(environment) as platform:
        report = await platform.ingestion.upload(folder, tenant_id=tenant)

    outcomes = [document.outcome for document in report.documents]
    assert outcomes.count("unchanged") == survived
    assert await _consistent(database_dsns, tenant) == expected
    assert {document.version for document in report.documents} == {1}


async def test_two_instances_that_ingest_the_same_folder_store_each_document_once(
    environment: dict[str, str], database_dsns: DatabaseDsns, samples: Path
) -> None:
    folder = samples / "problems"
    async with create_platform(environment) as one, create_platform(environment) as two:
        reports = await asyncio.gather(
            *(each.ingestion.upload(folder, tenant_id="twins") for each in (one, two))
        )

    assert not any(report.failures for report in reports)
    for first, second in zip(reports[0].documents, reports[1].documents, strict=True):
        assert {first.outcome, second.outcome} == {"created", "unchanged"}
        assert first.version == second.version == 1
    assert await _consistent(database_dsns, "twins") == len(reports[0].documents)
