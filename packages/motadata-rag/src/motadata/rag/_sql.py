"""The statements, each in a file of its own under `sql/`."""

from __future__ import annotations

from importlib.resources import files
from typing import Final


def _read(name: str) -> str:
    return files("motadata.rag").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")


SEARCH: Final = _read("search")
INSERT_POSTINGS: Final = _read("insert_postings")
UPSERT_DOCUMENT: Final = _read("upsert_document")
INSERT_VERSION: Final = _read("insert_version")
INSERT_CHUNK: Final = _read("insert_chunk")
BUMP_GENERATION: Final = _read("bump_generation")
LIST_DOCUMENTS: Final = _read("list_documents")
GET_VERSION: Final = _read("get_version")

LOCK_DOCUMENT: Final = "select pg_advisory_xact_lock(hashtextextended($1 || '/' || $2, 0))"
"""Held to the end of the transaction: of two instances with one document, the second one waits."""

CURRENT_DOCUMENT: Final = (
    "select version, title, source, digest, chunks, words, embedding_model"
    " from motadata.document where tenant_id = $1 and document_id = $2"
)
GENERATION: Final = "select generation from motadata.knowledge_state where tenant_id = $1"
DELETE_DOCUMENT: Final = (
    "delete from motadata.document where tenant_id = $1 and document_id = $2"
    " returning chunks, words"
)
DELETE_CHUNKS: Final = "delete from motadata.chunk where tenant_id = $1 and document_id = $2"
DELETE_POSTINGS: Final = "delete from motadata.posting where tenant_id = $1 and document_id = $2"
DELETE_OLD_VERSIONS: Final = (
    "delete from motadata.document_version"
    " where tenant_id = $1 and document_id = $2 and version <= $3"
)
CUSTOM_PLAN: Final = "select set_config('plan_cache_mode', 'force_custom_plan', true)"
"""A generic plan, made without knowing the tenant, is 20 to 30 times slower."""
