"""The service that takes files, reads them apart, and stores them in a knowledge base."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from motadata.core.errors import (
    ConfigurationError,
    DeadlineExceededError,
    IngestionError,
    SDKError,
)
from motadata.core.errors import ConnectionError as DatabaseConnectionError
from motadata.core.models import Health, IngestedDocument
from motadata.core.observability import get_logger, span
from motadata.core.protocols import (
    DocumentLoader,
    FileOutcome,
    KnowledgeBase,
    Stage,
    UploadProgress,
    UploadReport,
)
from motadata.core.resilience import time_limit
from motadata.core.tenancy import TenantId, resolve_tenant, tenant_scope
from motadata.ingest._files import access_error
from motadata.ingest._folders import FoundFile, check_source, folder_name, list_files, readable
from motadata.ingest._loader import IsolatedLoader
from motadata.ingest.limits import Limits


ProgressCallback = Callable[[UploadProgress], None]
_ANNOUNCED_AT_ONCE: Final = 500
_log = get_logger("ingest")


class FileIngestionService:
    """The `IngestionService` of this distribution. Built by `create_ingestion_service`."""

    def __init__(
        self, rag: KnowledgeBase, *, loader: DocumentLoader, limits: Limits, concurrency: int
    ) -> None:
        self._rag = rag
        self._loader = loader
        self._limits = limits
        self._concurrency = concurrency

    async def __aenter__(self) -> Self:
        """Start the process that reads files.

        Raises:
            LoaderCrashedError: It cannot be started.
        """
        if isinstance(self._loader, IsolatedLoader):
            await self._loader.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End every process that it started."""
        if isinstance(self._loader, IsolatedLoader):
            await self._loader.__aexit__(kind, error, traceback)

    async def upload(
        self,
        content: str | PathLike[str] | bytes,
        *,
        source: str | None = None,
        on_progress: ProgressCallback | None = None,
        tenant_id: str | None = None,
    ) -> UploadReport:
        """Read and store one file, or every file of a folder.

        A single file that fails raises; in a folder it becomes a failure in the report and the
        other files go on. Cancelling it stops at once; what is stored by then stays.

        Args:
            content: Path of a file or folder, or the bytes of one file.
            source: Name of the document; required for bytes. A path's default is its own name; the
                files of a folder are named `folder/inner/file.md`.
            on_progress: Called on the event loop for each step of each file; what it raises ends
                the upload.
            tenant_id: None means the tenant of the scope.

        Raises:
            TenantRequiredError: No tenant is given and none is in scope.
            IngestionError: A single file cannot be read, or the path does not exist.
            DeadlineExceededError: The deadline of the caller ended it; what is stored stays.
        """
        tenant = resolve_tenant(tenant_id)
        async with time_limit(None, what="an upload"):
            return await self._upload(content, source, tenant, on_progress)

    async def health(self) -> Health:
        """Say whether files can be read, and in what isolation."""
        if isinstance(self._loader, IsolatedLoader):
            return await self._loader.health()
        return Health("ok")

    async def _upload(
        self,
        content: str | PathLike[str] | bytes,
        source: str | None,
        tenant: TenantId,
        on_progress: ProgressCallback | None,
    ) -> UploadReport:
        if isinstance(content, bytes):
            if source is None:
                message = "Bytes were uploaded without a name."
                raise IngestionError(message, remedy="Pass source='report.pdf'.")
            return await self._upload_one(content, check_source(source), tenant, on_progress)
        try:
            is_folder = await asyncio.to_thread(Path(content).is_dir)
            name = source if source is not None else _own_name(content)
        except (ValueError, OSError) as error:
            raise access_error(content, error) from error
        if is_folder:
            name = check_source(name.rstrip("/")) if name.rstrip("/") else ""
            return await self._upload_folder(content, name, tenant, on_progress)
        return await self._upload_one(Path(content), check_source(name), tenant, on_progress)

    async def _upload_one(
        self,
        content: bytes | PathLike[str],
        source: str,
        tenant: TenantId,
        on_progress: ProgressCallback | None,
    ) -> UploadReport:
        tell = _Teller(on_progress, total=1)
        tell(source, "queued", 1)
        document = await self._take_in(content, source, tenant, position=1, tell=tell)
        return UploadReport((FileOutcome(source, document=document),))

    async def _upload_folder(
        self,
        folder: str | PathLike[str],
        name: str,
        tenant: TenantId,
        on_progress: ProgressCallback | None,
    ) -> UploadReport:
        files = await list_files(folder, name=name, limits=self._limits)
        tell = _Teller(on_progress, total=len(files))
        for position, file in enumerate(files, start=1):
            tell(file.source, "queued", position)
            if position % _ANNOUNCED_AT_ONCE == 0:
                await asyncio.sleep(0)
        outcomes: list[FileOutcome] = [FileOutcome(file.source) for file in files]
        rest = iter(list(enumerate(files)))
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._concurrency, len(files))):
                    group.create_task(self._work_off(rest, outcomes, tenant, tell))
        except BaseExceptionGroup as error:
            # What fails every file ends the group, as do a defect and the callback's own errors;
            # callers should see what it was.
            raise error.exceptions[0] from None
        return UploadReport(tuple(outcomes))

    async def _work_off(
        self,
        rest: Iterator[tuple[int, FoundFile]],
        outcomes: list[FileOutcome],
        tenant: TenantId,
        tell: _Teller,
    ) -> None:
        for index, file in rest:
            try:
                document = await self._take_in_found(file, tenant, position=index + 1, tell=tell)
                outcomes[index] = FileOutcome(file.source, document=document)
            except (DatabaseConnectionError, ConfigurationError, DeadlineExceededError):
                # No file would fare better; those that are stored cost nothing the next time.
                raise
            except SDKError as error:
                outcomes[index] = FileOutcome(file.source, error=error)

    async def _take_in_found(
        self, file: FoundFile, tenant: TenantId, *, position: int, tell: _Teller
    ) -> IngestedDocument:
        try:
            if file.error is not None:
                raise file.error
            source = check_source(file.source)
        except IngestionError:
            tell(file.source, "failed", position)
            raise
        return await self._take_in(Path(file.path), source, tenant, position=position, tell=tell)

    async def _take_in(
        self,
        content: bytes | PathLike[str],
        source: str,
        tenant: TenantId,
        *,
        position: int,
        tell: _Teller,
    ) -> IngestedDocument:
        """Read one file and store it, or nothing of it."""
        with span("ingest.file", tenant_id=tenant) as current, tenant_scope(tenant):
            try:
                tell(source, "loading", position)
                document = await self._loader.load(content, source=source)
                current.set_attribute("media_type", document.media_type)
                tell(source, "storing", position)
                stored = await self._rag.ingest_document(document, tenant_id=tenant)
            except SDKError as error:
                error.tenant_id = error.tenant_id or tenant
                _log.info("file_refused", code=error.code, component=error.component)
                tell(source, "failed", position)
                raise
            tell(source, "done", position)
            return stored


class _Teller:
    """Says where each file is, if anybody listens."""

    def __init__(self, callback: ProgressCallback | None, *, total: int) -> None:
        self._callback = callback
        self._total = total

    def __call__(self, source: str, stage: Stage, position: int) -> None:
        if self._callback is not None:
            self._callback(UploadProgress(source, stage, position, self._total))


def create_ingestion_service(
    rag: KnowledgeBase,
    *,
    loader: DocumentLoader | None = None,
    limits: Limits | None = None,
    workers: int = 2,
    concurrency: int = 4,
) -> FileIngestionService:
    """Build the service that takes files into a knowledge base.

    Use it as an async context manager, which starts the reading process and ends it.

    Args:
        rag: Where documents go.
        loader: What reads files; None means processes of their own, sandboxed.
        limits: What one file and one folder may cost; None means the defaults.
        workers: How many files are read at once.
        concurrency: How many files of one folder are under way at once.

    Raises:
        ConfigurationError: A number is not positive.
    """
    if concurrency < 1:
        message = f"concurrency={concurrency!r} must be positive."
        raise ConfigurationError(message, remedy="Leave it out to get 4.")
    bounds = limits or Limits()
    return FileIngestionService(
        rag,
        loader=loader or IsolatedLoader(limits=bounds, workers=workers),
        limits=bounds,
        concurrency=concurrency,
    )


async def upload(
    content: str | PathLike[str] | bytes,
    *,
    rag: KnowledgeBase,
    source: str | None = None,
    on_progress: ProgressCallback | None = None,
    tenant_id: str | None = None,
) -> UploadReport:
    """Read and store one file or folder, in one line.

    It starts a reading process and ends it again; keep a service from `create_ingestion_service`
    for more than an upload now and then.

    Raises:
        TenantRequiredError: No tenant is given and none is in scope.
        IngestionError: A single file cannot be read, or the path does not exist.
    """
    tenant = resolve_tenant(tenant_id)
    async with create_ingestion_service(rag) as service:
        return await service.upload(
            content, source=source, on_progress=on_progress, tenant_id=tenant
        )


def _own_name(path: str | PathLike[str]) -> str:
    return folder_name(path) if Path(path).is_dir() else readable(Path(path).name)
