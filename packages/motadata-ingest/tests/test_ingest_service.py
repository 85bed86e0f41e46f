"""Uploads: one file, folders, progress, tenants, failures."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from motadata.core.errors import ConnectionError as DatabaseConnectionError
from motadata.core.errors import (
    DocumentProcessingError,
    EmptyFileError,
    FileTooLargeError,
    IngestionError,
    InvalidIdentifierError,
    TenantRequiredError,
    UnsupportedFormatError,
)
from motadata.core.models import Document, IngestedDocument
from motadata.core.protocols import IngestionService, KnowledgeBase, UploadProgress
from motadata.core.tenancy import current_tenant, tenant_scope
from motadata.core.testing.fake_knowledge_base import FakeKnowledgeBase
from motadata.ingest import FileIngestionService, Limits, create_ingestion_service, upload


def write(folder: Path, **files: str) -> None:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


async def stored(knowledge_base: KnowledgeBase, tenant: str) -> dict[str, str]:
    found = {}
    for info in await knowledge_base.list_documents(limit=100, tenant_id=tenant):
        document = await knowledge_base.get_document(info.document_id, tenant_id=tenant)
        found[info.source] = document.text
    return found


async def test_file_is_stored_under_its_own_name(
    service: FileIngestionService, knowledge_base: FakeKnowledgeBase, tmp_path: Path
):
    write(tmp_path, vpn_dot_md="# VPN\n\nReset it.")

    report = await service.upload(tmp_path / "vpn.md", tenant_id="acme")

    (document,) = report.documents
    assert (document.source, document.title, document.outcome) == ("vpn.md", "VPN", "created")
    assert await stored(knowledge_base, "acme") == {"vpn.md": "# VPN\n\nReset it."}


async def test_bytes_and_strings_are_taken(
    service: FileIngestionService, knowledge_base: FakeKnowledgeBase, tmp_path: Path
):
    write(tmp_path, a_dot_txt="From a path.")

    await service.upload(b"From bytes.", source="b.txt", tenant_id="acme")
    await service.upload(str(tmp_path / "a.txt"), source="renamed.txt", tenant_id="acme")

    assert await stored(knowledge_base, "acme") == {
        "b.txt": "From bytes.",
        "renamed.txt": "From a path.",
    }


async def test_second_upload_of_the_same_file_changes_nothing(
    service: FileIngestionService, tmp_path: Path
):
    write(tmp_path, a_dot_txt="Same.")
    await service.upload(tmp_path / "a.txt", tenant_id="acme")

    report = await service.upload(tmp_path / "a.txt", tenant_id="acme")

    assert [document.outcome for document in report.documents] == ["unchanged"]


async def test_folder_is_taken_recursively_in_order(
    service: FileIngestionService, knowledge_base: FakeKnowledgeBase, tmp_path: Path
):
    folder = tmp_path / "runbooks"
    write(folder, b_dot_txt="B.", a_dot_txt="A.", inner__c_dot_txt="C.")
    write(folder, _dot_hidden="no", _dot_git__config="no")

    report = await service.upload(folder, tenant_id="acme")

    assert [file.source for file in report.files] == [
        "runbooks/a.txt",
        "runbooks/b.txt",
        "runbooks/inner/c.txt",
    ]
    assert set(await stored(knowledge_base, "acme")) == {file.source for file in report.files}


async def test_failure_in_a_folder_is_reported_and_the_rest_goes_on(
    service: FileIngestionService, knowledge_base: FakeKnowledgeBase, tmp_path: Path
):
    folder = tmp_path / "mixed"
    write(folder, a_dot_txt="A.", empty_dot_txt="", z_dot_txt="Z.")
    (folder / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    os.mkfifo(folder / "pipe")

    report = await service.upload(folder, tenant_id="acme")

    assert {file.source: type(file.error) for file in report.failures} == {
        "mixed/empty.txt": EmptyFileError,
        "mixed/image.png": UnsupportedFormatError,
        "mixed/pipe": UnsupportedFormatError,
    }
    assert all(file.error.tenant_id == "acme" for file in report.failures if file.error)
    assert set(await stored(knowledge_base, "acme")) == {"mixed/a.txt", "mixed/z.txt"}


async def test_links_out_of_a_folder_are_not_followed(
    service: FileIngestionService, knowledge_base: FakeKnowledgeBase, tmp_path: Path
):
    secret = tmp_path / "secret.txt"
    secret.write_text("Outside.")
    folder = tmp_path / "folder"
    write(folder, a_dot_txt="Inside.")
    (folder / "out.txt").symlink_to(secret)
    (folder / "again.txt").symlink_to(folder / "a.txt")
    (folder / "loop").symlink_to(folder)
    (folder / "parent").symlink_to(tmp_path)

    report = await service.upload(folder, tenant_id="acme")

    assert [file.source for file in report.failures] == ["folder/out.txt", "folder/parent"]
    assert await stored(knowledge_base, "acme") == {"folder/a.txt": "Inside."}


async def test_undecodable_file_names_are_readable_and_distinct(
    service: FileIngestionService, tmp_path: Path
):
    write(tmp_path / "odd", **{os.fsdecode(name): "Text." for name in (b"\xff", b"\xfe")})

    report = await service.upload(tmp_path / "odd", tenant_id="acme")

    assert [file.source for file in report.files] == [r"odd/\xfe", r"odd/\xff"]
    assert len(report.documents) == 2


async def test_empty_folder_gives_an_empty_report(service: FileIngestionService, tmp_path: Path):
    assert (await service.upload(tmp_path, tenant_id="acme")).files == ()


async def test_folder_with_too_many_files_is_refused(
    knowledge_base: FakeKnowledgeBase, tmp_path: Path
):
    write(tmp_path, **{f"{at}_dot_txt": "x" for at in range(5)})

    async with create_ingestion_service(knowledge_base, limits=Limits(files=4)) as service:
        with pytest.raises(FileTooLargeError, match="more than 4 files"):
            await service.upload(tmp_path, tenant_id="acme")

    assert await stored(knowledge_base, "acme") == {}


async def test_progress_tells_each_step_of_each_file(service: FileIngestionService, tmp_path: Path):
    folder = tmp_path / "f"
    write(folder, a_dot_txt="A.", b_dot_txt="")
    seen: list[UploadProgress] = []

    await service.upload(folder, on_progress=seen.append, tenant_id="acme")

    steps = {
        source: [step.stage for step in seen if step.source == source]
        for source in ("f/a.txt", "f/b.txt")
    }
    assert steps == {
        "f/a.txt": ["queued", "loading", "storing", "done"],
        "f/b.txt": ["queued", "loading", "failed"],
    }
    assert {(step.position, step.total) for step in seen} == {(1, 2), (2, 2)}


async def test_error_of_the_callback_ends_the_upload(service: FileIngestionService, tmp_path: Path):
    write(tmp_path, a_dot_txt="A.")

    def refuse(progress: UploadProgress) -> None:
        if progress.stage == "loading":
            message = "stop"
            raise KeyboardError(message)

    with pytest.raises(KeyboardError):
        await service.upload(tmp_path, on_progress=refuse, tenant_id="acme")


class KeyboardError(Exception):
    """A callback's own."""


async def test_single_failure_is_raised_and_nothing_is_stored(
    service: FileIngestionService, knowledge_base: FakeKnowledgeBase, tmp_path: Path
):
    write(tmp_path, empty_dot_txt="")
    seen: list[UploadProgress] = []

    with pytest.raises(EmptyFileError) as caught:
        await service.upload(tmp_path / "empty.txt", on_progress=seen.append, tenant_id="acme")

    assert caught.value.tenant_id == "acme"
    assert seen[-1].stage == "failed"
    assert await stored(knowledge_base, "acme") == {}


async def test_tenants_get_their_own_documents_only(
    service: FileIngestionService, knowledge_base: FakeKnowledgeBase, tmp_path: Path
):
    folder = tmp_path / "docs"
    write(folder, a_dot_txt="The token of both.")

    await service.upload(folder, tenant_id="acme")
    with tenant_scope("globex"):
        await service.upload(b"Only globex.", source="g.txt")

    assert set(await stored(knowledge_base, "acme")) == {"docs/a.txt"}
    assert set(await stored(knowledge_base, "globex")) == {"g.txt"}


async def test_upload_without_a_tenant_is_refused(service: FileIngestionService, tmp_path: Path):
    with pytest.raises(TenantRequiredError):
        await service.upload(tmp_path)
    with pytest.raises(TenantRequiredError):
        await upload(tmp_path, rag=FakeKnowledgeBase())
    with pytest.raises(InvalidIdentifierError):
        await service.upload(tmp_path, tenant_id="a:b")


async def test_missing_path_and_nameless_bytes_are_refused(
    service: FileIngestionService, tmp_path: Path
):
    with pytest.raises(IngestionError, match=r"no file or folder '.*nowhere'"):
        await service.upload(tmp_path / "nowhere", tenant_id="acme")
    with pytest.raises(IngestionError, match="without a name"):
        await service.upload(b"text", tenant_id="acme")
    for source in ("", "a\nb", "x" * 1_001):
        with pytest.raises(IngestionError, match="source"):
            await service.upload(b"text", source=source, tenant_id="acme")
    with pytest.raises(IngestionError):
        await service.upload("a\0b", tenant_id="acme")


class RefusingKnowledgeBase(FakeKnowledgeBase):
    """Stores nothing whose source holds `bad`."""

    async def ingest_document(
        self, document: Document, *, tenant_id: str | None = None
    ) -> IngestedDocument:
        if "bad" in document.source:
            message = "Refused."
            raise DocumentProcessingError(message)
        return await super().ingest_document(document, tenant_id=tenant_id)


async def test_document_that_cannot_be_stored_is_a_failure_of_its_file(tmp_path: Path):
    folder = tmp_path / "f"
    write(folder, bad_dot_txt="Bad.", good_dot_txt="Good.")

    async with create_ingestion_service(RefusingKnowledgeBase()) as service:
        report = await service.upload(folder, tenant_id="acme")
        with pytest.raises(DocumentProcessingError):
            await service.upload(folder / "bad.txt", tenant_id="acme")

    assert [file.source for file in report.failures] == ["f/bad.txt"]
    assert [document.source for document in report.documents] == ["f/good.txt"]


class AbsentKnowledgeBase(FakeKnowledgeBase):
    """Loses its database after two documents."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def ingest_document(
        self, document: Document, *, tenant_id: str | None = None
    ) -> IngestedDocument:
        self.asked += 1
        if self.asked > 2:
            message = "The database is away."
            raise DatabaseConnectionError(message)
        return await super().ingest_document(document, tenant_id=tenant_id)


async def test_folder_is_given_up_when_the_database_is_away(tmp_path: Path):
    write(tmp_path, **{f"{at:02}_dot_txt": f"Text {at}." for at in range(40)})
    knowledge_base = AbsentKnowledgeBase()

    async with create_ingestion_service(knowledge_base, concurrency=2) as service:
        with pytest.raises(DatabaseConnectionError):
            await service.upload(tmp_path, tenant_id="acme")

    assert knowledge_base.asked <= 4
    assert len(await stored(knowledge_base, "acme")) == 2


class CountingLoader:
    """A loader of the user's own, which notes how many files it has at once, and for whom."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.tenants: set[str | None] = set()
        self.under_way = asyncio.Event()

    async def load(self, content: bytes | os.PathLike[str], *, source: str) -> Document:
        self.now += 1
        self.most = max(self.most, self.now)
        self.tenants.add(current_tenant())
        if "10" in source:
            self.under_way.set()
        for _ in range(5):
            await asyncio.sleep(0)
        self.now -= 1
        return Document(text=f"Text of {source}", source=source)


async def test_folder_keeps_to_its_concurrency_with_a_loader_of_ones_own(
    knowledge_base: FakeKnowledgeBase, tmp_path: Path
):
    write(tmp_path, **{f"{at:02}_dot_txt": "x" for at in range(30)})
    loader = CountingLoader()

    async with create_ingestion_service(knowledge_base, loader=loader, concurrency=3) as service:
        report = await service.upload(tmp_path, tenant_id="acme")

    assert len(report.documents) == 30
    assert loader.most == 3
    assert loader.tenants == {"acme"}


async def test_cancelled_upload_stores_nothing_more(
    knowledge_base: FakeKnowledgeBase, tmp_path: Path
):
    write(tmp_path, **{f"{at:02}_dot_txt": "x" for at in range(30)})
    loader = CountingLoader()

    async with create_ingestion_service(knowledge_base, loader=loader) as service:
        task = asyncio.create_task(service.upload(tmp_path, tenant_id="acme"))
        await loader.under_way.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        left = await stored(knowledge_base, "acme")
        for _ in range(50):
            await asyncio.sleep(0)

    assert await stored(knowledge_base, "acme") == left
    assert 0 < len(left) < 30


async def test_one_line_upload_works_without_a_service(
    knowledge_base: FakeKnowledgeBase, tmp_path: Path
):
    write(tmp_path, a_dot_txt="One line.")

    report = await upload(tmp_path / "a.txt", rag=knowledge_base, tenant_id="acme")

    assert len(report.documents) == 1


def test_service_fits_the_protocol(knowledge_base: FakeKnowledgeBase):
    fitting: IngestionService = create_ingestion_service(knowledge_base)

    assert fitting
