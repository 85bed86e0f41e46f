"""The main job, from nothing: documents in, cited answers out, the page left open.

    python tools/demo.py [FOLDER] [--serve 0|1] [--port PORT]

Starts the embedded PostgreSQL, ingests a folder for the tenant `demo`, asks three questions and
prints the cited answers, then serves the page until interrupted. Data is kept in `.motadata/`, so a
second run finds its documents unchanged.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from motadata.core.errors import SDKError
from motadata.core.models import Answer
from motadata.core.platform import Platform, create_platform
from motadata.core.protocols import UploadProgress, UploadReport
from motadata.core.tenancy import tenant_scope


TENANT = "demo"
SAMPLES = Path(__file__).resolve().parent.parent / "samples" / "knowledge-base"
SAMPLE_QUESTIONS = (
    "How quickly must a P1 incident be resolved?",
    "Who has to agree to an emergency change?",
    "How does the service desk check who is calling before it resets a password?",
)

console = Console()


def main() -> int:
    """Run the demo that the command line asks for."""
    parser = argparse.ArgumentParser(description="Ingest a folder, ask questions, serve the page.")
    parser.add_argument("folder", type=Path, nargs="?", default=SAMPLES)
    parser.add_argument("--serve", choices=("0", "1"), default="1")
    parser.add_argument("--port", type=int, default=8080)
    arguments = parser.parse_args()
    os.environ.setdefault("MOTADATA_DATA_DIRECTORY", str(Path(".motadata").absolute()))
    # One text a core: several cores on one text cost a third more processor time.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("MOTADATA_GATEWAY_EMBEDDING_THREADS", str(min(os.cpu_count() or 1, 4)))
    try:
        complete = asyncio.run(show(arguments.folder.resolve()))
    except SDKError as error:
        console.print(f"[red]{error.code}[/] {escape(str(error))}")
        return 1
    except KeyboardInterrupt:
        return 130
    if arguments.serve == "1":
        sys.stdout.flush()
        command = [sys.executable, "-m", "motadata.api.cli", "serve", "--tenant", TENANT]
        command += ["--with-key", "--port", str(arguments.port)]
        os.execv(sys.executable, command)  # noqa: S606 - our own command
    return 0 if complete else 1


async def show(folder: Path) -> bool:
    """Ingest the folder, ask three questions, and tell whether all of it went well.

    A folder of the user's may hold what nothing reads or answers; ours may not.
    """
    started = time.perf_counter()
    async with AsyncExitStack() as stack:
        with console.status("Starting PostgreSQL with pgvector from its wheel …"):
            platform = await stack.enter_async_context(create_platform())
        seconds = time.perf_counter() - started
        roles = ", ".join(platform.roles)
        console.print(f"[green]✓[/] Components {roles} ready in {seconds:.1f} s")
        with tenant_scope(TENANT):
            report = await ingest(platform, folder)
            questions = await questions_for(platform, folder)
            answers = [await ask(platform, question) for question in questions]
    if folder == SAMPLES:
        return not report.failures and all(answer.answered for answer in answers)
    return bool(report.documents)


async def ingest(platform: Platform, folder: Path) -> UploadReport:
    """Upload the folder with a progress bar and say what became of it."""
    columns = (
        TextColumn("Ingesting"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[source]}", style="dim"),
    )
    started = time.perf_counter()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("files", total=None, source="")

        def advance(step: UploadProgress) -> None:
            finished = step.stage in {"done", "failed"}
            progress.update(task, total=step.total, advance=int(finished), source=step.source)

        report = await platform.ingestion.upload(folder, on_progress=advance)
    seconds = time.perf_counter() - started
    outcomes = [document.outcome for document in report.documents]
    counts = ", ".join(f"{outcomes.count(kind)} {kind}" for kind in sorted(set(outcomes)))
    chunks = sum(document.chunks for document in report.documents)
    console.print(
        f"[green]✓[/] {len(report.documents)} documents ({counts}; {chunks} chunks) of"
        f" {escape(str(folder))} in {seconds:.1f} s, for the tenant {TENANT!r} alone"
    )
    for failure in report.failures:
        console.print(f"[red]✗[/] {escape(failure.source)}: {escape(str(failure.error))}")
    return report


async def questions_for(platform: Platform, folder: Path) -> tuple[str, ...]:
    """Return three questions: ours about the samples, about the titles of any other folder."""
    if folder == SAMPLES:
        return SAMPLE_QUESTIONS
    documents = await platform.knowledge_base.list_documents(limit=3)
    return tuple(f"What should I know about {document.title}?" for document in documents)


async def ask(platform: Platform, question: str) -> Answer:
    """Ask one question and print the answer with its citations."""
    started = time.perf_counter()
    answer = await platform.knowledge_base.query(question)
    seconds = time.perf_counter() - started
    title = f"[bold]{escape(question)}[/]"
    subtitle = f"[dim]{seconds * 1000:.0f} ms · {escape(answer.model)}[/]"
    console.print(Panel(_body(answer), title=title, subtitle=subtitle, title_align="left"))
    return answer


def _body(answer: Answer) -> str:
    lines = [escape(answer.answer)]
    for number, citation in enumerate(answer.citations, start=1):
        place = f"page {citation.page}" if citation.page else citation.heading or ""
        spot = f"{citation.source}, version {citation.version}, {place}"
        span = f"characters {citation.start}-{citation.end}"
        lines.append(f"[dim]{escape(f'[{number}] {spot}, {span}')}[/]")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
