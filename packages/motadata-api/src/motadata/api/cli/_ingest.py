"""`motadata ingest`: files and folders into a tenant's knowledge base, with progress."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from motadata.api._problems import operator_problem
from motadata.api.cli._output import errors_console, print_json, printable, results_console
from motadata.api.cli._run import EXIT_FAILED, EXIT_OK, open_platform
from motadata.api.schemas import FileBody, UploadResponse
from motadata.core.errors import DocumentProcessingError, IngestionError
from motadata.core.observability import span
from motadata.core.protocols import FileOutcome, IngestionService, UploadProgress
from motadata.core.tenancy import TenantId


_MAX_ROWS: Final = 30
_STYLES: Final = {"created": "green", "updated": "yellow", "unchanged": "dim", "failed": "red"}


async def ingest_paths(paths: Sequence[Path], *, tenant: str, as_json: bool) -> int:
    """Store files and folders and print what became of each.

    Raises:
        SDKError: Something failed that would fail for every file.
    """
    tenant_id = TenantId(tenant)
    started = time.perf_counter()
    outcomes: list[FileOutcome] = []
    async with open_platform(quiet=as_json) as platform:
        with span("cli.ingest", tenant_id=tenant_id) as current, _progress(quiet=as_json) as bar:
            for path in paths:
                outcomes += await _upload(platform.ingestion, path, tenant_id, bar)
        trace_id = current.trace_id
    bodies = [_body(outcome, trace_id) for outcome in outcomes]
    response = UploadResponse(files=bodies, trace_id=trace_id)
    if as_json:
        print_json(response)
    else:
        _print(response, seconds=time.perf_counter() - started)
    return EXIT_FAILED if response.failures else EXIT_OK


async def _upload(
    ingestion: IngestionService, path: Path, tenant_id: TenantId, bar: _Bar | None
) -> Sequence[FileOutcome]:
    on_progress = bar.of(path) if bar is not None else None
    try:
        report = await ingestion.upload(path, on_progress=on_progress, tenant_id=tenant_id)
    except (IngestionError, DocumentProcessingError) as error:
        # A file by itself raises; beside others it is one that failed. What would fail for every
        # file, such as a database that is away, goes on.
        return (FileOutcome(str(path), error=error),)
    return report.files


class _Bar:
    """Bars on the terminal, one a path."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[current]}", markup=False),
            console=errors_console(),
            transient=True,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def of(self, path: Path) -> _PathBar:
        """Return what moves the bar of one path."""
        task = self._progress.add_task(printable(path.name or str(path)), total=None, current="")
        return _PathBar(self._progress, task)


class _PathBar:
    """Moves one bar by the steps of an upload."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def __call__(self, step: UploadProgress) -> None:
        """Take one step."""
        self._progress.update(
            self._task,
            total=step.total,
            advance=1 if step.stage in ("done", "failed") else 0,
            current=f"{step.stage} {printable(step.source)[-50:]}",
        )


def _progress(*, quiet: bool) -> AbstractContextManager[_Bar | None]:
    return nullcontext() if quiet or not errors_console().is_terminal else _Bar()


def _body(outcome: FileOutcome, trace_id: str) -> FileBody:
    if outcome.document is not None:
        return FileBody.stored(outcome.document, source=outcome.source)
    assert outcome.error is not None, "a file is stored or has an error"
    detail = operator_problem(outcome.error).detail(outcome.error.trace_id or trace_id)
    return FileBody.failed(outcome.source, detail)


def _print(response: UploadResponse, *, seconds: float) -> None:
    console = results_console()
    stored = [file for file in response.files if file.outcome != "failed"]
    shown = [*stored[:_MAX_ROWS], *response.failures]
    if shown:
        table = Table(box=None, pad_edge=False)
        for title in ("outcome", "file", "version", "chunks", "document / reason"):
            table.add_column(title, overflow="fold")
        for file in shown:
            table.add_row(*_row(file))
        console.print(table)
    if len(stored) > _MAX_ROWS:
        console.print(f"… and {len(stored) - _MAX_ROWS} more that are stored")
    counts = Counter[str](file.outcome for file in response.files)
    parts = [f"{counts[kind]} {kind}" for kind in _STYLES if counts[kind]] or ["no files found"]
    console.print(f"{', '.join(parts)} in {seconds:.1f} s")


def _row(file: FileBody) -> tuple[Text, ...]:
    outcome = Text(file.outcome, style=_STYLES[file.outcome])
    source = Text(printable(file.source))
    if file.document is not None:
        lexical = "" if file.document.embedded else " (words only: no embedding model)"
        return (
            outcome,
            source,
            Text(str(file.document.version)),
            Text(str(file.document.chunks)),
            Text(file.document.document_id + lexical),
        )
    assert file.error is not None, "a file that failed has an error"
    reason = " ".join(part for part in (file.error.message, file.error.remedy) if part)
    return outcome, source, Text(""), Text(""), Text(f"{file.error.code}: {printable(reason)}")
