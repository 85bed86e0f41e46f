"""The contract of an ingestion service as tests: subclass and give the fixture `ingestion_service`.

    class TestMine(IngestionServiceConformance):
        @pytest.fixture
        async def ingestion_service(
            self, knowledge_base: KnowledgeBase
        ) -> AsyncIterator[IngestionService]:
            async with create_mine(knowledge_base) as mine:
                yield mine

The kit gives a knowledge base in memory that stores only while its gate is open. A service that
brings a knowledge base of its own gives the fixture `knowledge_base` too, and has it await
`gate.passage()` before it stores. The tests use the tenants `acme` and `globex`, which must be
empty at the start of each. Plain text and Markdown are all that a service must read to pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import ClassVar, Final

import pytest

from motadata.core.errors import (
    IngestionError,
    InvalidIdentifierError,
    SDKError,
    TenantRequiredError,
)
from motadata.core.models import Document, IngestedDocument
from motadata.core.protocols import IngestionService, KnowledgeBase, UploadProgress
from motadata.core.tenancy import tenant_scope
from motadata.core.testing.fake_knowledge_base import FakeKnowledgeBase
from motadata.core.testing.gate import Gate, cancel_at, outlast_deadline_at


_TOKENS: Final = b"The VPN token is reset by calling 4711."
_UNREADABLE: Final = (b"", b" \n\t\n ", b"\x00\x01\x02\x03" * 64 + b"Bluebird")


class GatedKnowledgeBase(FakeKnowledgeBase):
    """Stores only while its gate is open."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self._gate = gate

    async def ingest_document(
        self, document: Document, *, tenant_id: str | None = None
    ) -> IngestedDocument:
        """Wait at the gate, and store then."""
        await self._gate.passage()
        return await super().ingest_document(document, tenant_id=tenant_id)


class IngestionServiceConformance:
    """What every implementation of `motadata.core.protocols.IngestionService` must do.

    Attributes:
        patience: Seconds after which what should have ended is taken to hang.
    """

    patience: ClassVar[float] = 60.0

    @pytest.fixture
    def ingestion_service(self) -> IngestionService:
        """Supply the implementation, entered."""
        message = "A subclass supplies the fixture `ingestion_service`."
        raise NotImplementedError(message)

    @pytest.fixture
    def knowledge_base(self, gate: Gate) -> KnowledgeBase:
        """Give the knowledge base into which the service stores."""
        return GatedKnowledgeBase(gate)

    @pytest.fixture
    def gate(self) -> Iterator[Gate]:
        """Give the gate at which the knowledge base waits when it is closed."""
        gate = Gate()
        yield gate
        gate.open()

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """Return a folder with two good files, one of them within a folder, and an empty one."""
        folder = tmp_path / "manual"
        (folder / "network").mkdir(parents=True)
        (folder / "network" / "vpn.md").write_bytes(_TOKENS)
        (folder / "empty.txt").write_bytes(b"")
        (folder / "paper.txt").write_bytes(b"A paper jam is cleared in tray two.")
        return folder

    async def test_file_is_stored_under_its_own_name(
        self, ingestion_service: IngestionService, knowledge_base: KnowledgeBase, tmp_path: Path
    ) -> None:
        path = tmp_path / "vpn.md"
        path.write_bytes(_TOKENS)

        report = await ingestion_service.upload(path, tenant_id="acme")

        (document,) = report.documents
        assert (document.source, document.version, document.outcome) == ("vpn.md", 1, "created")
        assert report.failures == ()
        assert await _stored(knowledge_base, "acme") == {"vpn.md": _TOKENS.decode()}

    async def test_bytes_and_paths_of_either_kind_give_the_same_document(
        self, ingestion_service: IngestionService, knowledge_base: KnowledgeBase, tmp_path: Path
    ) -> None:
        path = tmp_path / "vpn.txt"
        path.write_bytes(_TOKENS)

        outcomes = []
        for content in (_TOKENS, path, str(path)):
            report = await ingestion_service.upload(content, source="tokens", tenant_id="acme")
            outcomes += [document.outcome for document in report.documents]

        assert outcomes == ["created", "unchanged", "unchanged"]
        assert await _stored(knowledge_base, "acme") == {"tokens": _TOKENS.decode()}

    async def test_changed_file_becomes_a_new_version(
        self, ingestion_service: IngestionService, knowledge_base: KnowledgeBase
    ) -> None:
        await ingestion_service.upload(_TOKENS, source="vpn.txt", tenant_id="acme")

        report = await ingestion_service.upload(b"No tokens.", source="vpn.txt", tenant_id="acme")

        (document,) = report.documents
        assert (document.version, document.outcome) == (2, "updated")
        assert await _stored(knowledge_base, "acme") == {"vpn.txt": "No tokens."}

    async def test_files_of_a_folder_are_named_by_their_way_from_it(
        self, ingestion_service: IngestionService, knowledge_base: KnowledgeBase, folder: Path
    ) -> None:
        await ingestion_service.upload(folder, tenant_id="acme")

        assert await _stored(knowledge_base, "acme") == {
            "manual/network/vpn.md": _TOKENS.decode(),
            "manual/paper.txt": "A paper jam is cleared in tray two.",
        }

    async def test_file_that_fails_in_a_folder_keeps_none_of_the_others(
        self, ingestion_service: IngestionService, folder: Path
    ) -> None:
        report = await ingestion_service.upload(folder, tenant_id="acme")

        (failure,) = report.failures
        assert failure.source == "manual/empty.txt"
        assert isinstance(failure.error, IngestionError)
        assert {each.source for each in report.documents} == {
            "manual/network/vpn.md",
            "manual/paper.txt",
        }
        assert all((each.document is None) != (each.error is None) for each in report.files)

    async def test_folder_that_is_uploaded_again_changes_nothing(
        self, ingestion_service: IngestionService, folder: Path
    ) -> None:
        await ingestion_service.upload(folder, tenant_id="acme")

        report = await ingestion_service.upload(folder, tenant_id="acme")

        assert [document.outcome for document in report.documents] == ["unchanged"] * 2

    async def test_progress_leads_each_file_to_its_end_in_the_order_of_the_report(
        self, ingestion_service: IngestionService, folder: Path
    ) -> None:
        seen: list[UploadProgress] = []

        def listen(progress: UploadProgress) -> None:
            asyncio.get_running_loop()  # raises in any other thread
            seen.append(progress)

        report = await ingestion_service.upload(folder, on_progress=listen, tenant_id="acme")

        for position, file in enumerate(report.files, start=1):
            steps = [step for step in seen if step.source == file.source]
            end = ["loading", "failed"] if file.error else ["loading", "storing", "done"]
            assert [step.stage for step in steps] == ["queued", *end]
            assert {(step.position, step.total) for step in steps} == {(position, 3)}

    @pytest.mark.parametrize("content", _UNREADABLE, ids=["empty", "blank", "binary"])
    async def test_single_file_that_cannot_be_read_raises_and_leaves_nothing(
        self, ingestion_service: IngestionService, knowledge_base: KnowledgeBase, content: bytes
    ) -> None:
        seen: list[UploadProgress] = []

        with pytest.raises(IngestionError) as caught:
            await ingestion_service.upload(
                content, source="upload.bin", on_progress=seen.append, tenant_id="acme"
            )

        assert "Bluebird" not in str(caught.value)
        assert seen[-1].stage == "failed"
        assert await _stored(knowledge_base, "acme") == {}

    async def test_path_that_does_not_exist_and_bytes_without_a_name_are_refused(
        self, ingestion_service: IngestionService, knowledge_base: KnowledgeBase, tmp_path: Path
    ) -> None:
        with pytest.raises(IngestionError, match="nowhere"):
            await ingestion_service.upload(tmp_path / "nowhere", tenant_id="acme")
        with pytest.raises(IngestionError):
            await ingestion_service.upload("nul \0 byte", tenant_id="acme")
        with pytest.raises(IngestionError):
            await ingestion_service.upload(_TOKENS, tenant_id="acme")

        assert await _stored(knowledge_base, "acme") == {}

    @pytest.mark.parametrize("source", ["", " ", "a\0b", "half \ud800", "x" * 1_001], ids=ascii)
    async def test_name_that_cannot_be_kept_is_refused(
        self, ingestion_service: IngestionService, knowledge_base: KnowledgeBase, source: str
    ) -> None:
        with pytest.raises(SDKError):
            await ingestion_service.upload(_TOKENS, source=source, tenant_id="acme")

        assert await _stored(knowledge_base, "acme") == {}

    async def test_tenants_who_upload_at_once_get_their_own(
        self, ingestion_service: IngestionService, knowledge_base: KnowledgeBase
    ) -> None:
        await asyncio.gather(
            *(
                ingestion_service.upload(
                    f"File {number} of {tenant}.".encode(), source=f"{number}", tenant_id=tenant
                )
                for number in range(5)
                for tenant in ("acme", "globex")
            )
        )

        for tenant in ("acme", "globex"):
            expected = {f"{number}": f"File {number} of {tenant}." for number in range(5)}
            assert await _stored(knowledge_base, tenant) == expected

    async def test_nothing_begins_without_a_tenant(
        self, ingestion_service: IngestionService, folder: Path
    ) -> None:
        seen: list[UploadProgress] = []

        with pytest.raises(TenantRequiredError):
            await ingestion_service.upload(folder, on_progress=seen.append)
        with pytest.raises(TenantRequiredError):
            await ingestion_service.upload(_TOKENS, source="a", on_progress=seen.append)

        assert seen == []

    @pytest.mark.parametrize("tenant", ["", "a:b", "*", "x" * 65])
    async def test_malformed_tenant_is_refused(
        self, ingestion_service: IngestionService, knowledge_base: KnowledgeBase, tenant: str
    ) -> None:
        with tenant_scope("acme"), pytest.raises(InvalidIdentifierError):
            await ingestion_service.upload(_TOKENS, source="a", tenant_id=tenant)

        assert await _stored(knowledge_base, "acme") == {}

    async def test_tenant_of_the_scope_is_taken_unless_another_is_given(
        self, ingestion_service: IngestionService, knowledge_base: KnowledgeBase
    ) -> None:
        with tenant_scope("acme"):
            await ingestion_service.upload(_TOKENS, source="scoped")
            await ingestion_service.upload(_TOKENS, source="given", tenant_id="globex")

        assert set(await _stored(knowledge_base, "acme")) == {"scoped"}
        assert set(await _stored(knowledge_base, "globex")) == {"given"}

    async def test_cancelled_upload_stops_and_stores_nothing_more(
        self,
        ingestion_service: IngestionService,
        knowledge_base: KnowledgeBase,
        folder: Path,
        gate: Gate,
    ) -> None:
        for content in (folder, folder / "paper.txt"):

            def upload(content: Path = content) -> Awaitable[object]:
                return ingestion_service.upload(content, tenant_id="acme")

            await cancel_at(gate, upload, patience=self.patience)

        assert await _stored(knowledge_base, "acme") == {}
        await ingestion_service.upload(_TOKENS, source="next", tenant_id="acme")
        assert set(await _stored(knowledge_base, "acme")) == {"next"}

    async def test_upload_ends_with_the_deadline_of_its_caller(
        self,
        ingestion_service: IngestionService,
        knowledge_base: KnowledgeBase,
        folder: Path,
        gate: Gate,
    ) -> None:
        for content in (folder, folder / "paper.txt"):

            def upload(content: Path = content) -> Awaitable[object]:
                return ingestion_service.upload(content, tenant_id="acme")

            await outlast_deadline_at(gate, upload, patience=self.patience)

        assert await _stored(knowledge_base, "acme") == {}
        await ingestion_service.upload(_TOKENS, source="next", tenant_id="acme")
        assert set(await _stored(knowledge_base, "acme")) == {"next"}

    async def test_health_says_that_files_can_be_read(
        self, ingestion_service: IngestionService
    ) -> None:
        assert (await ingestion_service.health()).status in {"ok", "degraded"}


async def _stored(knowledge_base: KnowledgeBase, tenant: str) -> dict[str, str]:
    """Return the text of every document of a tenant, by source."""
    found = {}
    for info in await knowledge_base.list_documents(limit=100, tenant_id=tenant):
        document = await knowledge_base.get_document(info.document_id, tenant_id=tenant)
        found[info.source] = document.text
    return found
