"""Ask a platform questions with known answers, and say how often it is right.

    python tools/evaluate_questions.py tools/questions/samples.json samples/knowledge-base
    python tools/evaluate_questions.py Q1.json Q2.json DOCUMENTS… --minimum 18

Ends in 1 when fewer than `--minimum` questions have a right citation among the first three. A
citation is right when it names the expected source and the expected phrase is in its quote or in
the chunk that the quote was taken from. Without `--data` the platform starts on an empty folder.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, TypeAdapter

from motadata.core.models import Answer, Citation, RetrievedChunk
from motadata.core.platform import Platform, create_platform


_TENANT: Final = "evaluation"


class Question(BaseModel):
    """A question; one without a source is one that the documents do not answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    ask: str
    source: str | tuple[str, ...] = ()
    phrase: str = ""

    @property
    def sources(self) -> tuple[str, ...]:
        """The file names any of which will do."""
        return (self.source,) if isinstance(self.source, str) else self.source


class QuestionFile(BaseModel):
    """A file of questions as it lies in tools/questions/."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    about: str
    questions: tuple[Question, ...]
    unanswerable: tuple[Question, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one question.

    Attributes:
        rank: Place of the first right citation, from 1; None when there is none.
        retrieved: Place of the first right chunk that was found; tells whether searching or
            answering is to blame.
        answered: Whether the platform claimed an answer.
        seconds: How long the answer took, caches cold for it.
        cited: Source of the first citation, for the reader.
    """

    question: Question
    rank: int | None
    retrieved: int | None
    answered: bool
    seconds: float
    cited: str


def is_right(question: Question, citation: Citation, chunks: Sequence[RetrievedChunk]) -> bool:
    """Tell whether a citation holds what was expected."""
    if not citation.source.endswith(question.sources):
        return False
    texts = [citation.quote]
    texts += [
        chunk.text
        for chunk in chunks
        if chunk.document_id == citation.document_id
        and chunk.start <= citation.start
        and citation.end <= chunk.end
    ]
    return any(_folded(question.phrase) in _folded(text) for text in texts)


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()


def first_right(question: Question, answer: Answer, chunks: Sequence[RetrievedChunk]) -> int | None:
    """Return the rank of the first right citation of an answer, from 1."""
    for rank, citation in enumerate(answer.citations, 1):
        if is_right(question, citation, chunks):
            return rank
    return None


def first_retrieved(question: Question, chunks: Sequence[RetrievedChunk]) -> int | None:
    """Return the rank of the first right chunk of a search, from 1."""
    for rank, chunk in enumerate(chunks, 1):
        if chunk.source.endswith(question.sources) and _folded(question.phrase) in _folded(
            chunk.text
        ):
            return rank
    return None


async def ask(platform: Platform, question: Question) -> Verdict:
    """Ask one question and judge the answer."""
    started = time.perf_counter()
    answer = await platform.knowledge_base.query(question.ask, tenant_id=_TENANT)
    seconds = time.perf_counter() - started
    chunks = await platform.knowledge_base.retrieve(question.ask, limit=20, tenant_id=_TENANT)
    rank = first_right(question, answer, chunks) if question.sources and answer.answered else None
    retrieved = first_retrieved(question, chunks) if question.sources else None
    cited = answer.citations[0].source if answer.citations else ""
    return Verdict(question, rank, retrieved, answer.answered, seconds, cited)


async def evaluate(
    questions: Sequence[Question], documents: Sequence[Path], *, data_directory: Path
) -> list[Verdict]:
    """Ingest the documents and ask every question, one after the other."""
    environment = {**os.environ, "MOTADATA_DATA_DIRECTORY": str(data_directory)}
    async with create_platform(environment) as platform:
        for path in documents:
            started = time.perf_counter()
            report = await platform.ingestion.upload(path, tenant_id=_TENANT)
            seconds = time.perf_counter() - started
            print(f"{path}: {len(report.documents)} documents in {seconds:.1f} s", file=sys.stderr)
            for failure in report.failures:
                print(f"  not read: {failure.source}: {failure.error}", file=sys.stderr)
        return [await ask(platform, question) for question in questions]


def report(verdicts: Sequence[Verdict]) -> int:
    """Print the table and return how many questions have a right citation in the first three."""
    print(f"{'id':<8} {'verdict':<18} {'found':>5} {'ms':>6}  {'first citation':<34} question")
    for verdict in verdicts:
        cited = verdict.cited.rsplit("/", 1)[-1][:34] or "-"
        milliseconds = verdict.seconds * 1000
        name, short = verdict.question.id, verdict.question.ask[:60]
        found = verdict.retrieved or "-"
        print(
            f"{name:<8} {_word(verdict):<18} {found:>5} {milliseconds:>6.0f}  {cited:<34} {short}"
        )
    known = [verdict for verdict in verdicts if verdict.question.sources]
    unknown = [verdict for verdict in verdicts if not verdict.question.sources]
    hits = [verdict.rank for verdict in known if verdict.rank is not None]
    kept_silent = sum(not verdict.answered for verdict in unknown)
    in_three = sum(rank <= 3 for rank in hits)
    print()
    print(f"right in the first citation    {sum(rank == 1 for rank in hits)} of {len(known)}")
    print(f"right in the first three       {in_three} of {len(known)}")
    for word, most in (("three", 3), ("eight", 8)):
        found_in = sum(v.retrieved is not None and v.retrieved <= most for v in known)
        print(f"right chunk in the first {word} {found_in} of {len(known)}")
    print(f"abstained wrongly              {sum(not v.answered for v in known)} of {len(known)}")
    print(f"abstained rightly              {kept_silent} of {len(unknown)}")
    latencies = [verdict.seconds * 1000 for verdict in verdicts]
    print(f"time of an answer, p50         {statistics.median(latencies):.0f} ms")
    return in_three


def _word(verdict: Verdict) -> str:
    if not verdict.question.sources:
        return "ANSWERED WRONGLY" if verdict.answered else "abstained rightly"
    if not verdict.answered:
        return "ABSTAINED WRONGLY"
    return f"right at {verdict.rank}" if verdict.rank else "WRONG CITATIONS"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="+", type=Path, help="*.json: questions; others: documents")
    parser.add_argument("--minimum", type=int, default=0, help="right in the first three, at least")
    parser.add_argument("--data", type=Path, help="data directory to use and to keep")
    parser.add_argument("--json", type=Path, help="write the verdicts there as well")
    options = parser.parse_args()
    files = [
        QuestionFile.model_validate_json(path.read_bytes())
        for path in options.paths
        if path.suffix == ".json" and path.is_file()
    ]
    documents = [path for path in options.paths if path.is_dir() or path.suffix != ".json"]
    questions = [question for file in files for question in (*file.questions, *file.unanswerable)]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        data = options.data or Path(scratch)
        verdicts = asyncio.run(evaluate(questions, documents, data_directory=data))
    in_three = report(verdicts)
    if options.json:
        options.json.write_bytes(TypeAdapter(list[Verdict]).dump_json(verdicts, indent=1))
    return 0 if in_three >= options.minimum else 1


if __name__ == "__main__":
    sys.exit(main())
