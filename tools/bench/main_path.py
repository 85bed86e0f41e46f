"""Measure the main path: documents in, cited answers out, and where the time goes.

    python tools/bench/main_path.py [FOLDER] [--queries 40] [--json FILE]

Ingests a folder through a platform on an embedded PostgreSQL, asks questions taken from the stored
documents, first with cold caches and then again, and prints throughput, latency and the time of
each span. In the same run and on the same server the bare driver stores and searches the same
vectors: that is the floor to which the SDK's storing and searching are compared.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import asyncpg
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pgvector.asyncpg import register_vector

from motadata.core.embedded import EmbeddedPostgres
from motadata.core.platform import Platform, create_platform


_TENANT: Final = "bench"
_SAMPLES: Final = Path(__file__).resolve().parents[2] / "samples" / "knowledge-base"
_WORDS_OF_A_QUERY: Final = 10
_FLOOR_SEARCH: Final = "select document, ordinal, text from floor order by embedding <=> $1 limit 8"

Vectors = list[tuple[str, int, str, list[float]]]
"""Document, ordinal, text and vector of each stored chunk."""


@dataclass(slots=True)
class Figures:
    """What one run measured; times in seconds, latencies in milliseconds."""

    start: float = 0.0
    documents: int = 0
    failures: int = 0
    chunks: int = 0
    megabytes: float = 0.0
    ingest: float = 0.0
    cold: list[float] = field(default_factory=list)
    cached: list[float] = field(default_factory=list)
    answered: int = 0
    floor_store: float = 0.0
    floor_search: list[float] = field(default_factory=list)
    sdk_store: float = 0.0
    sdk_search: list[float] = field(default_factory=list)


class SpanTable:
    """Adds up the spans of one phase by name."""

    def __init__(self, spans: Sequence[ReadableSpan]) -> None:
        inside: dict[int, float] = defaultdict(float)
        self.rows: dict[str, tuple[int, float, float]] = {}
        for span in spans:
            if span.parent is not None:
                inside[span.parent.span_id] += _seconds(span)
        for span in spans:
            context = span.get_span_context()
            seconds = _seconds(span)
            # Children of one span may run side by side, and then last longer than it in sum.
            own = max(seconds - inside[context.span_id], 0.0) if context else seconds
            count, total, alone = self.rows.get(span.name, (0, 0.0, 0.0))
            self.rows[span.name] = (count + 1, total + seconds, alone + own)

    def print(self, title: str) -> None:
        """Print the spans, the one with most time of its own first."""
        everything = sum(own for _, _, own in self.rows.values()) or 1.0
        print(f"\n{title}")
        print(f"  {'span':<20} {'count':>6} {'total s':>9} {'own s':>9} {'share':>7}")
        ordered = sorted(self.rows.items(), key=lambda row: -row[1][2])
        for name, (count, total, own) in ordered:
            share = own / everything
            print(f"  {name:<20} {count:>6} {total:>9.3f} {own:>9.3f} {share:>7.1%}")


def _seconds(span: ReadableSpan) -> float:
    return ((span.end_time or 0) - (span.start_time or 0)) / 1e9


def _durations(spans: Iterable[ReadableSpan], name: str) -> list[float]:
    return [_seconds(span) for span in spans if span.name == name]


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` of the values lie; not a number without values."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else float("nan")


async def measure(
    folder: Path, queries: int, directory: Path, spans: InMemorySpanExporter
) -> Figures:
    """Run all phases against one server, printing the spans of each."""
    figures = Figures()
    started = time.perf_counter()
    async with EmbeddedPostgres(directory / "postgres") as server:
        environment = {
            **os.environ,
            "MOTADATA_DATABASE_URL": server.runtime_dsn,
            "MOTADATA_DATABASE_OWNER_URL": server.owner_dsn,
        }
        async with create_platform(environment) as platform:
            # The first call reads the weights of the embedding model: part of the start.
            await platform.gateway.embed(["warm up"], tenant_id=_TENANT)
            figures.start = time.perf_counter() - started
            spans.clear()
            await _ingest(platform, folder, figures)
            finished = spans.get_finished_spans()
            figures.sdk_store = sum(_durations(finished, "rag.store"))
            SpanTable(finished).print("Ingestion, by span")
            spans.clear()
            asked = await _ask(platform, queries, figures)
            finished = spans.get_finished_spans()
            figures.sdk_search = [s * 1000 for s in _durations(finished, "rag.search")]
            SpanTable(finished).print("Queries with cold caches, by span")
            await _ask_again(platform, asked, figures)
            vectors = await _stored_vectors(platform)
        await _floor(server.administrator_dsn, vectors, queries, figures)
    return figures


async def _ingest(platform: Platform, folder: Path, figures: Figures) -> None:
    figures.megabytes = await asyncio.to_thread(_size, folder) / 1e6
    started = time.perf_counter()
    report = await platform.ingestion.upload(folder, tenant_id=_TENANT)
    figures.ingest = time.perf_counter() - started
    figures.documents = len(report.documents)
    figures.failures = len(report.failures)
    figures.chunks = sum(document.chunks for document in report.documents)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


async def _ask(platform: Platform, queries: int, figures: Figures) -> list[str]:
    asked = await _queries_from(platform, queries)
    for query in asked:
        started = time.perf_counter()
        answer = await platform.knowledge_base.query(query, tenant_id=_TENANT)
        figures.cold.append((time.perf_counter() - started) * 1000)
        figures.answered += answer.answered
    return asked


async def _ask_again(platform: Platform, asked: Sequence[str], figures: Figures) -> None:
    for query in [*asked, *asked, *asked]:
        started = time.perf_counter()
        answer = await platform.knowledge_base.query(query, tenant_id=_TENANT)
        if answer.cached:
            figures.cached.append((time.perf_counter() - started) * 1000)


async def _queries_from(platform: Platform, count: int) -> list[str]:
    """Return runs of words from the stored documents, the same ones for the same documents."""
    chance = random.Random(7)  # noqa: S311 - repeatable, not secret
    known = await platform.knowledge_base.list_documents(limit=100, tenant_id=_TENANT)
    texts = [
        (await platform.knowledge_base.get_document(one.document_id, tenant_id=_TENANT)).text
        for one in known
    ]
    words = [text.split() for text in texts]
    words = [one for one in words if len(one) > _WORDS_OF_A_QUERY]
    found: dict[str, None] = {}
    while words and len(found) < count:
        one = chance.choice(words)
        first = chance.randrange(len(one) - _WORDS_OF_A_QUERY)
        found[" ".join(one[first : first + _WORDS_OF_A_QUERY])] = None
    return list(found)


async def _stored_vectors(platform: Platform) -> Vectors:
    rows = await platform.database.execute_query(
        "select document_id, ordinal, text, embedding from motadata.chunk"
        " where tenant_id = $1 and embedding is not null order by document_id, ordinal",
        _TENANT,
        tenant_id=_TENANT,
    )
    return [_vector_row(row) for row in rows]


def _vector_row(row: Mapping[str, object]) -> tuple[str, int, str, list[float]]:
    vector, ordinal = row["embedding"], row["ordinal"]
    if not isinstance(vector, Iterable) or not isinstance(ordinal, int):
        message = "The table motadata.chunk holds something else than vectors."
        raise TypeError(message)
    return str(row["document_id"]), ordinal, str(row["text"]), [float(item) for item in vector]


async def _floor(dsn: str, vectors: Vectors, queries: int, figures: Figures) -> None:
    """Store and search the same vectors with the driver alone: one transaction a document."""
    if not vectors:
        return
    connection = await asyncpg.connect(dsn, timeout=30, command_timeout=120)
    try:
        await register_vector(connection, schema=await _vector_schema(connection))
        await connection.execute(
            "create table floor (document text, ordinal int, text text, embedding vector,"
            " primary key (document, ordinal))"
        )
        documents: dict[str, list[tuple[str, int, str, list[float]]]] = defaultdict(list)
        for row in vectors:
            documents[row[0]].append(row)
        started = time.perf_counter()
        await _insert_all(connection, documents.values())
        figures.floor_store = time.perf_counter() - started
        for _, _, _, vector in vectors[:: max(len(vectors) // queries, 1)][:queries]:
            started = time.perf_counter()
            await connection.fetch(_FLOOR_SEARCH, vector)
            figures.floor_search.append((time.perf_counter() - started) * 1000)
    finally:
        await connection.close()


async def _vector_schema(connection: asyncpg.Connection) -> str:
    found = await connection.fetchval(
        "select nspname from pg_extension join pg_namespace on pg_namespace.oid = extnamespace"
        " where extname = 'vector'"
    )
    return str(found)


async def _insert_all(
    connection: asyncpg.Connection, documents: Iterable[Sequence[tuple[object, ...]]]
) -> None:
    for rows in documents:
        async with connection.transaction():
            await connection.executemany("insert into floor values ($1, $2, $3, $4)", rows)


def report(folder: Path, figures: Figures) -> None:
    """Print the figures and their ratio to the floor."""
    per_second = 1 / figures.ingest if figures.ingest else 0.0
    print(f"\n{folder}: {figures.megabytes:.2f} MB, {figures.failures} files not read")
    print(f"  start of server, platform and model   {figures.start:8.1f} s")
    print(f"  ingested                              {figures.documents:8} documents")
    print(
        f"                                        {figures.documents * per_second:8.1f} documents/s"
    )
    print(f"                                        {figures.chunks * per_second:8.1f} chunks/s")
    print(f"                                        {figures.megabytes * per_second:8.2f} MB/s")
    print(f"  questions answered                    {figures.answered:8} of {len(figures.cold)}")
    for name, values in (
        ("query, cold caches", figures.cold),
        ("query, cache hit", figures.cached),
        ("search of the SDK, hybrid", figures.sdk_search),
        ("search of the bare driver, vectors", figures.floor_search),
    ):
        fifty, ninety_five = percentile(values, 0.5), percentile(values, 0.95)
        print(f"  {name:<37} {fifty:8.2f} ms p50 {ninety_five:9.2f} ms p95   n={len(values)}")
    if figures.floor_store and figures.floor_search:
        store = figures.sdk_store / figures.floor_store
        search = percentile(figures.sdk_search, 0.5) / percentile(figures.floor_search, 0.5)
        print(f"  storing, SDK : bare driver            {store:8.1f}")
        print(f"  searching, SDK : bare driver          {search:8.1f}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", default=_SAMPLES)
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    options = parser.parse_args()
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(provider)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        # The server may run under an account of its own, which must be able to pass through.
        Path(scratch).chmod(0o711)
        figures = asyncio.run(measure(options.folder, options.queries, Path(scratch), spans))
    report(options.folder, figures)
    if options.json:
        options.json.write_text(json.dumps(asdict(figures), indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
