"""The kit for ingestion services passes an honest one, and finds the mistakes of others."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from motadata.core.errors import EmptyFileError, IngestionError, SDKError, UnreadableFileError
from motadata.core.identifiers import new_id_text
from motadata.core.models import Document, Health, IngestedDocument
from motadata.core.protocols import (
    FileOutcome,
    IngestionService,
    KnowledgeBase,
    Stage,
    UploadProgress,
    UploadReport,
)
from motadata.core.resilience import context_without_deadline, time_limit
from motadata.core.tenancy import resolve_tenant
from motadata.core.testing.gate import Gate
from motadata.core.testing.ingestion_service import (
    GatedKnowledgeBase,
    IngestionServiceConformance,
)


Content = str | os.PathLike[str] | bytes
Listener = Callable[[UploadProgress], None]
Tell = Callable[[str, Stage, int], None]


class Complaint(Protocol):
    async def __call__(self, kit: object, test: str, **fixtures: object) -> str: ...


class TextIngestion:
    """Takes files of text, one after the other."""

    def __init__(self, knowledge_base: KnowledgeBase) -> None:
        self._knowledge_base = knowledge_base

    async def upload(
        self,
        content: Content,
        *,
        source: str | None = None,
        on_progress: Listener | None = None,
        tenant_id: str | None = None,
    ) -> UploadReport:
        tenant = self.tenant_of(tenant_id)
        async with time_limit(None, what="an upload"):
            files = await asyncio.to_thread(self.files_of, content, source)
            tell = self.teller(on_progress, len(files))
            for position, (name, _) in enumerate(files, start=1):
                tell(name, "queued", position)
            single = isinstance(content, bytes) or await asyncio.to_thread(Path(content).is_file)
            return await self.take_all(files, tenant, tell, single=single)

    async def health(self) -> Health:
        return Health("ok")

    def tenant_of(self, tenant_id: str | None) -> str:
        return resolve_tenant(tenant_id)

    def files_of(self, content: Content, source: str | None) -> Sequence[tuple[str, bytes]]:
        if isinstance(content, bytes):
            if source is None:
                message = "Bytes were uploaded without a name."
                raise IngestionError(message)
            return [(source, content)]
        path = Path(content)
        try:
            if path.is_dir():
                files = sorted(file for file in path.rglob("*") if file.is_file())
                return [(self.name_of(file, path), file.read_bytes()) for file in files]
            return [(path.name if source is None else source, path.read_bytes())]
        except (OSError, ValueError) as error:
            message = f"{os.fspath(content)!r} cannot be read."
            raise IngestionError(message) from error

    def name_of(self, file: Path, folder: Path) -> str:
        return file.relative_to(folder.parent).as_posix()

    def teller(self, on_progress: Listener | None, total: int) -> Tell:
        def tell(source: str, stage: Stage, position: int) -> None:
            if on_progress is not None:
                on_progress(UploadProgress(source, stage, position, total))

        return tell

    async def take_all(
        self, files: Sequence[tuple[str, bytes]], tenant: str, tell: Tell, *, single: bool
    ) -> UploadReport:
        outcomes = []
        for position, (source, content) in enumerate(files, start=1):
            try:
                document = await self.take(source, content, tenant, tell, position)
                outcomes.append(FileOutcome(source, document))
            except SDKError as error:
                tell(source, "failed", position)
                if single:
                    raise
                outcomes.append(FileOutcome(source, error=error))
        return UploadReport(tuple(outcomes))

    async def take(
        self, source: str, content: bytes, tenant: str, tell: Tell, position: int
    ) -> IngestedDocument:
        tell(source, "loading", position)
        document = Document(text=self.text_of(content), source=source)
        tell(source, "storing", position)
        stored = await self.store(document, tenant)
        tell(source, "done", position)
        return stored

    def text_of(self, content: bytes) -> str:
        if b"\0" in content:
            message = "The file is no text."
            raise UnreadableFileError(message)
        if not content.strip():
            message = "The file is empty."
            raise EmptyFileError(message)
        return content.decode()

    async def store(self, document: Document, tenant: str) -> IngestedDocument:
        return await self._knowledge_base.ingest_document(document, tenant_id=tenant)


class MixingTenants(TextIngestion):
    def tenant_of(self, tenant_id: str | None) -> str:
        super().tenant_of(tenant_id)
        return "acme"


class WithoutNeedOfATenant(TextIngestion):
    def tenant_of(self, tenant_id: str | None) -> str:
        return resolve_tenant(tenant_id or "default")


class LateInAskingForTheTenant(TextIngestion):
    def tenant_of(self, tenant_id: str | None) -> str:
        return tenant_id or ""

    async def store(self, document: Document, tenant: str) -> IngestedDocument:
        return await super().store(document, resolve_tenant(tenant or None))


class PreferringTheScope(TextIngestion):
    def tenant_of(self, tenant_id: str | None) -> str:
        try:
            return resolve_tenant(None)
        except SDKError:
            return resolve_tenant(tenant_id)


class GivingUpTheFolder(TextIngestion):
    async def take_all(
        self, files: Sequence[tuple[str, bytes]], tenant: str, tell: Tell, *, single: bool
    ) -> UploadReport:
        return await super().take_all(files, tenant, tell, single=True)


class NeverRaising(TextIngestion):
    async def take_all(
        self, files: Sequence[tuple[str, bytes]], tenant: str, tell: Tell, *, single: bool
    ) -> UploadReport:
        return await super().take_all(files, tenant, tell, single=False)


class SilentOnFailures(TextIngestion):
    async def take_all(
        self, files: Sequence[tuple[str, bytes]], tenant: str, tell: Tell, *, single: bool
    ) -> UploadReport:
        report = await super().take_all(files, tenant, tell, single=single)
        return UploadReport(tuple(file for file in report.files if file.error is None))


class ReportingWhatIsDoneFirst(TextIngestion):
    async def take_all(
        self, files: Sequence[tuple[str, bytes]], tenant: str, tell: Tell, *, single: bool
    ) -> UploadReport:
        report = await super().take_all(files, tenant, tell, single=single)
        return UploadReport((*report.files[1:], report.files[0]))


class ForgettingTheFolder(TextIngestion):
    def name_of(self, file: Path, folder: Path) -> str:
        return file.name


class StoringAnew(TextIngestion):
    async def store(self, document: Document, tenant: str) -> IngestedDocument:
        return await super().store(replace(document, document_id=new_id_text()), tenant)


class FailingInItsOwnWay(TextIngestion):
    def files_of(self, content: Content, source: str | None) -> Sequence[tuple[str, bytes]]:
        if isinstance(content, bytes):
            return [(source or "unnamed", content)]
        return super().files_of(content, source)

    def text_of(self, content: bytes) -> str:
        return content.decode()


class Indiscreet(TextIngestion):
    def text_of(self, content: bytes) -> str:
        try:
            return super().text_of(content)
        except IngestionError as error:
            message = f"This is no text: {content!r}"
            raise IngestionError(message) from error


class TellingOnlyTheEnd(TextIngestion):
    def teller(self, on_progress: Listener | None, total: int) -> Tell:
        tell = super().teller(on_progress, total)
        ends = {"done", "failed"}
        return lambda source, stage, at: tell(source, stage, at) if stage in ends else None


class WorkingOnWhenCancelled(TextIngestion):
    async def store(self, document: Document, tenant: str) -> IngestedDocument:
        return await asyncio.shield(asyncio.ensure_future(super().store(document, tenant)))


class ReportingWhenCancelled(TextIngestion):
    async def take_all(
        self, files: Sequence[tuple[str, bytes]], tenant: str, tell: Tell, *, single: bool
    ) -> UploadReport:
        try:
            return await super().take_all(files, tenant, tell, single=single)
        except asyncio.CancelledError:
            return UploadReport(())


class DeafToDeadlines(TextIngestion):
    async def upload(
        self,
        content: Content,
        *,
        source: str | None = None,
        on_progress: Listener | None = None,
        tenant_id: str | None = None,
    ) -> UploadReport:
        work = super().upload(content, source=source, on_progress=on_progress, tenant_id=tenant_id)
        return await asyncio.create_task(work, context=context_without_deadline())


class TestTextIngestion(IngestionServiceConformance):
    @pytest.fixture
    def ingestion_service(self, knowledge_base: KnowledgeBase) -> IngestionService:
        return TextIngestion(knowledge_base)


class Hasty(IngestionServiceConformance):
    """Loses its patience early, for implementations that hang."""

    patience = 0.3


@pytest.mark.parametrize(
    ("mistaken", "test"),
    [
        (MixingTenants, "test_tenants_who_upload_at_once_get_their_own"),
        (WithoutNeedOfATenant, "test_nothing_begins_without_a_tenant"),
        (LateInAskingForTheTenant, "test_nothing_begins_without_a_tenant"),
        (LateInAskingForTheTenant, "test_malformed_tenant_is_refused"),
        (PreferringTheScope, "test_tenant_of_the_scope_is_taken_unless_another_is_given"),
        (GivingUpTheFolder, "test_file_that_fails_in_a_folder_keeps_none_of_the_others"),
        (SilentOnFailures, "test_file_that_fails_in_a_folder_keeps_none_of_the_others"),
        (NeverRaising, "test_single_file_that_cannot_be_read_raises_and_leaves_nothing"),
        (FailingInItsOwnWay, "test_single_file_that_cannot_be_read_raises_and_leaves_nothing"),
        (Indiscreet, "test_single_file_that_cannot_be_read_raises_and_leaves_nothing"),
        (FailingInItsOwnWay, "test_path_that_does_not_exist_and_bytes_without_a_name_are_refused"),
        (
            ReportingWhatIsDoneFirst,
            "test_progress_leads_each_file_to_its_end_in_the_order_of_the_report",
        ),
        (TellingOnlyTheEnd, "test_progress_leads_each_file_to_its_end_in_the_order_of_the_report"),
        (ForgettingTheFolder, "test_files_of_a_folder_are_named_by_their_way_from_it"),
        (StoringAnew, "test_folder_that_is_uploaded_again_changes_nothing"),
        (StoringAnew, "test_changed_file_becomes_a_new_version"),
        (WorkingOnWhenCancelled, "test_cancelled_upload_stops_and_stores_nothing_more"),
        (ReportingWhenCancelled, "test_cancelled_upload_stops_and_stores_nothing_more"),
        (DeafToDeadlines, "test_upload_ends_with_the_deadline_of_its_caller"),
    ],
)
async def test_kit_finds(
    mistaken: type[TextIngestion], test: str, complaint: Complaint, tmp_path: Path
):
    folder = tmp_path / "manual"
    (folder / "network").mkdir(parents=True)
    (folder / "network" / "vpn.md").write_bytes(b"The VPN token is reset by calling 4711.")
    (folder / "empty.txt").write_bytes(b"")
    (folder / "paper.txt").write_bytes(b"A paper jam is cleared in tray two.")

    def fixtures(kind: type[TextIngestion]) -> dict[str, object]:
        gate = Gate()
        knowledge_base = GatedKnowledgeBase(gate)
        return {
            "ingestion_service": kind(knowledge_base),
            "knowledge_base": knowledge_base,
            "gate": gate,
            "folder": folder,
            "tmp_path": tmp_path,
            "content": b"\x00\x01 Bluebird",
            "tenant": "",
        }

    assert not await complaint(IngestionServiceConformance(), test, **fixtures(TextIngestion))
    assert await complaint(Hasty(), test, **fixtures(mistaken))
