"""Files on their way from a request into ingestion: to disk first, a few at a time per tenant."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, Final

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from motadata.api._problems import Problem, ProblemError, problem_of
from motadata.api.schemas import FileBody, UploadResponse
from motadata.api.settings import ApiSettings
from motadata.core.errors import ConfigurationError, RateLimitError, SDKError
from motadata.core.errors import ConnectionError as DatabaseConnectionError
from motadata.core.observability import current_trace_id, get_logger
from motadata.core.protocols import IngestionService, UploadProgress
from motadata.core.tenancy import TenantId


NDJSON: Final = "application/x-ndjson"
_MAX_FIELDS: Final = 10
_MAX_NAME: Final = 1000
_COPY_BYTES: Final = 1024 * 1024

OnProgress = Callable[[UploadProgress], None]
UploadWork = Callable[[OnProgress], Awaitable[UploadResponse]]

_log = get_logger("api")


class UploadSlots:
    """How many uploads run: bounded over all tenants, and for each so that the others get on."""

    def __init__(self, settings: ApiSettings) -> None:
        self._most = settings.max_uploads
        self._most_per_tenant = settings.max_uploads_per_tenant
        self._running: Counter[TenantId] = Counter()

    @contextmanager
    def take(self, tenant_id: TenantId) -> Iterator[None]:
        """Hold a slot for the length of the block.

        Raises:
            RateLimitError: All slots are taken.
        """
        if self._running[tenant_id] >= self._most_per_tenant or self._running.total() >= self._most:
            own = self._running[tenant_id]
            message = f"{own} uploads of this tenant and {self._running.total() - own} others run."
            raise RateLimitError(
                message,
                retry_after=2.0,
                remedy="Send the next one when one of them is done.",
                tenant_id=tenant_id,
            )
        self._running[tenant_id] += 1
        try:
            yield
        finally:
            self._running[tenant_id] -= 1
            if not self._running[tenant_id]:
                del self._running[tenant_id]


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """A file of a request, on disk."""

    source: str
    path: Path


@asynccontextmanager
async def received_files(
    request: Request, settings: ApiSettings
) -> AsyncIterator[list[ReceivedFile]]:
    """Take the files of a multipart body to a folder that goes with the block.

    Raises:
        ProblemError: The body holds no file, or one without a name.
    """
    async with AsyncExitStack() as stack:
        form = await stack.enter_async_context(
            request.form(max_files=settings.max_files, max_fields=_MAX_FIELDS)
        )
        uploads = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        if not uploads:
            raise _no_file()
        folder = TemporaryDirectory(prefix="motadata-upload-", ignore_cleanup_errors=True)
        stack.push_async_callback(asyncio.to_thread, folder.cleanup)
        files = []
        for number, upload in enumerate(uploads):
            path = Path(folder.name, str(number))
            await _finish(asyncio.to_thread(_copy, upload.file, path))
            files.append(ReceivedFile(_source_of(upload), path))
        yield files


async def ingest_files(
    ingestion: IngestionService,
    files: list[ReceivedFile],
    *,
    tenant_id: TenantId,
    on_progress: OnProgress | None = None,
) -> UploadResponse:
    """Store file after file; one that fails becomes a failure in the answer, the others go on.

    Raises:
        SDKError: The only file of the upload failed, or the database is away.
    """
    outcomes: list[FileBody] = []
    for number, file in enumerate(files, start=1):

        def report(step: UploadProgress, number: int = number, source: str = file.source) -> None:
            if on_progress is not None:
                on_progress(UploadProgress(source, step.stage, number, len(files)))

        try:
            stored = await ingestion.upload(
                file.path, source=file.source, on_progress=report, tenant_id=tenant_id
            )
            bodies = [FileBody.stored(document) for document in stored.documents]
        except SDKError as error:
            # Without its database no file would fare better; those that are stored cost nothing
            # when they are sent again.
            hopeless = isinstance(error, DatabaseConnectionError | ConfigurationError)
            if len(files) == 1 or hopeless:
                raise
            detail = problem_of(error).detail(current_trace_id())
            bodies = [FileBody.failed(file.source, detail)]
        outcomes += bodies
    return UploadResponse(files=outcomes, trace_id=current_trace_id())


class UploadStream(Response):
    """Tells the steps of an upload as they happen, one JSON object a line.

    `{"type": "progress", "source", "stage", "position", "total"}` for each step, and at the end
    `{"type": "done", "files": …}`, which is the plain answer, or `{"type": "error", "error": …}`.

    Args:
        work: Stores the files; it is given what takes their progress.
        cleanup: Closed when the response is through, however it ends.
    """

    media_type = NDJSON

    def __init__(self, work: UploadWork, cleanup: AsyncExitStack) -> None:
        super().__init__()
        del self.headers["content-length"]
        self.headers["x-accel-buffering"] = (
            "no"  # a proxy that keeps lines back keeps progress back
        )
        self._work = work
        self._cleanup = cleanup

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send the lines; when the caller goes, the work is cancelled."""
        # At most five lines a file: the number of files bounds it.
        lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        async with self._cleanup:
            work = asyncio.create_task(self._run(lines))
            try:
                await send(
                    {
                        "type": "http.response.start",
                        "status": self.status_code,
                        "headers": self.raw_headers,
                    }
                )
                while (line := await lines.get()) is not None:
                    await send({"type": "http.response.body", "body": line, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
            finally:
                work.cancel()
                await asyncio.wait({work})

    async def _run(self, lines: asyncio.Queue[bytes | None]) -> None:
        def on_progress(step: UploadProgress) -> None:
            lines.put_nowait(_line("progress", step.to_dict()))

        try:
            done = await self._work(on_progress)
            lines.put_nowait(_line("done", done.model_dump(mode="json")))
        except Exception as error:  # noqa: BLE001 - told in the stream: its status is sent already
            problem = problem_of(error)
            _log.warning("upload_failed", code=problem.code, kind=type(error).__qualname__)
            body = problem.body(current_trace_id())
            lines.put_nowait(_line("error", body.model_dump(mode="json")))
        finally:
            lines.put_nowait(None)


def _line(kind: str, fields: Mapping[str, object]) -> bytes:
    return json.dumps({"type": kind, **fields}, ensure_ascii=False).encode() + b"\n"


async def _finish(work: Coroutine[None, None, None]) -> None:
    """Wait for work in a thread to its end, even when cancelled: it uses what goes next."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    finally:
        await asyncio.wait({task})


def _copy(source: BinaryIO, path: Path) -> None:
    with path.open("xb") as target:
        shutil.copyfileobj(source, target, _COPY_BYTES)


def _source_of(upload: UploadFile) -> str:
    """Return the name of a file as its document's source: relative, printable, never empty."""
    name = "".join(c for c in (upload.filename or "") if c.isprintable())
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    if not parts:
        raise _no_file()
    return "/".join(parts)[-_MAX_NAME:]


def _no_file() -> ProblemError:
    return ProblemError(
        Problem(
            status=422,
            code="invalid_request",
            message="The body holds no file, or one without a name.",
            remedy="Send each file as a part with its name: curl -F files=@guide.pdf.",
        )
    )
