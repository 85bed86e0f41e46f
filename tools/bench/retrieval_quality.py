"""Measure how well retrieval finds what people judged relevant: nDCG@10 by words, by meaning, both.

    python tools/bench/retrieval_quality.py DIRECTORY [--weights 0.5,0.6] [--data FOLDER]

DIRECTORY holds `corpus.jsonl.gz` (`_id`, `title`, `text`), `queries.jsonl` (`_id`, `text`) and
`qrels.tsv` (query, document, grade). Each document is ingested into the embedded PostgreSQL with
the offline embedding model; a document counts where its best chunk stands. With `--data` the
server's data is kept, so that a second run only searches.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import gzip
import json
import math
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from motadata.core.database import apply_migrations, create_database
from motadata.core.embedded import EmbeddedPostgres
from motadata.core.models import Document
from motadata.core.protocols import Database, Gateway
from motadata.gateway import create_gateway
from motadata.rag import RAGOptions, create_rag_system


DEPTH = 10
CHUNKS = 40

Grades = Mapping[str, Mapping[str, int]]


def read_corpus(directory: Path) -> list[Document]:
    with gzip.open(directory / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [
        Document(
            text=f"{row.get('title', '')}\n\n{row['text']}".strip() or "(empty)",
            title=row.get("title", "")[:500],
            source=row["_id"],
            document_id=row["_id"],
        )
        for row in rows
    ]


def read_queries(directory: Path) -> dict[str, str]:
    with (directory / "queries.jsonl").open(encoding="utf-8") as lines:
        return {row["_id"]: row["text"] for row in map(json.loads, lines)}


def read_grades(directory: Path) -> Grades:
    grades: defaultdict[str, dict[str, int]] = defaultdict(dict)
    with (directory / "qrels.tsv").open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            grades[row["query-id"]][row["corpus-id"]] = int(row["score"])
    return grades


def ndcg(ranking: Sequence[str], grades: Mapping[str, int]) -> float:
    gained = sum(
        grades.get(name, 0) / math.log2(rank + 2) for rank, name in enumerate(ranking[:DEPTH])
    )
    best = sorted(grades.values(), reverse=True)[:DEPTH]
    ideal = sum(grade / math.log2(rank + 2) for rank, grade in enumerate(best))
    return gained / ideal if ideal else 0.0


async def ingest(db: Database, gateway: Gateway, corpus: Sequence[Document], tenant: str) -> float:
    system = create_rag_system(db, gateway)
    gate = asyncio.Semaphore(4)

    async def one(document: Document) -> None:
        async with gate:
            await system.ingest_document(document, tenant_id=tenant)

    begin = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for document in corpus:
            group.create_task(one(document))
    return time.perf_counter() - begin


async def measure(
    db: Database,
    gateway: Gateway,
    queries: Mapping[str, str],
    grades: Grades,
    tenant: str,
    options: RAGOptions,
) -> tuple[float, float, float]:
    """Return nDCG@10 and the milliseconds of the median and the 95th percentile search."""
    system = create_rag_system(db, gateway, options=options)
    scores, times = [], []
    for name, text in queries.items():
        if not any(grades.get(name, {}).values()):
            continue
        begin = time.perf_counter()
        chunks = await system.retrieve(text, limit=CHUNKS, tenant_id=tenant)
        times.append((time.perf_counter() - begin) * 1000)
        ranking = list(dict.fromkeys(chunk.document_id for chunk in chunks))
        scores.append(ndcg(ranking, grades[name]))
    return statistics.mean(scores), statistics.median(times), statistics.quantiles(times, n=20)[-1]


async def run(directory: Path, weights: Sequence[float], data: Path) -> None:
    tenant = directory.name
    corpus, queries = read_corpus(directory), read_queries(directory)
    grades = read_grades(directory)
    async with EmbeddedPostgres(data) as server, create_gateway() as gateway:
        packages = ("motadata.core.migrations", "motadata.rag.migrations")
        await apply_migrations(server.owner_dsn, packages, runtime_role=server.runtime_role)
        async with create_database(server.runtime_dsn) as db:
            seconds = await ingest(db, gateway, corpus, tenant)
            print(f"{tenant}: {len(corpus)} documents, {len(corpus) / seconds:.1f} documents/s")
            print("mode            nDCG@10   p50 ms   p95 ms")
            for name, weight in modes(weights):
                options = RAGOptions(vector_weight=weight)
                score, median, slow = await measure(db, gateway, queries, grades, tenant, options)
                print(f"{name:<14}  {score:7.4f}  {median:7.1f}  {slow:7.1f}")


def modes(weights: Sequence[float]) -> list[tuple[str, float]]:
    hybrid = [(f"hybrid {weight:g}", weight) for weight in weights]
    return [("by words", 0.0), ("by meaning", 1.0), *hybrid]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--weights", default=str(RAGOptions().vector_weight))
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    weights = [float(weight) for weight in arguments.weights.split(",")]
    with tempfile.TemporaryDirectory(prefix="motadata-bench-") as folder:
        asyncio.run(run(arguments.directory, weights, arguments.data or Path(folder) / "data"))


if __name__ == "__main__":
    main()
