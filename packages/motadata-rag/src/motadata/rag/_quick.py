"""One call for a question and the documents that may answer it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from motadata.core.models import Answer, Document
from motadata.core.protocols import Cache, Database, Gateway
from motadata.core.tenancy import resolve_tenant
from motadata.rag._system import create_rag_system


async def quick_rag_query(
    query: str,
    documents: Sequence[Document | str],
    *,
    db: Database,
    gateway: Gateway,
    cache: Cache | None = None,
    tenant_id: str | None = None,
) -> Answer:
    """Answer `query` from `documents` and from nothing else that the tenant has.

    The documents are stored like any others, under the tenant, and stay; those that are stored
    already cost nothing. Without documents, all that the tenant has is asked.

    Args:
        query: The question.
        documents: Documents, or plain texts, which are known by their SHA-256.
        db: Where they are stored.
        gateway: Who embeds and words the answer.
        cache: Keeps answers; None keeps none.
        tenant_id: None means the tenant of the scope.

    Raises:
        TenantRequiredError: No tenant is given and none is in scope.
        DocumentProcessingError: A document cannot be stored; those before it are.
        RetrievalError: The query is empty or too long, or the search failed.
    """
    tenant = resolve_tenant(tenant_id)
    system = create_rag_system(db, gateway, cache=cache)
    stored = [
        await system.ingest_document(_document(document), tenant_id=tenant)
        for document in documents
    ]
    ids = [document.document_id for document in stored]
    return await system.query(query, document_ids=ids, tenant_id=tenant)


def _document(document: Document | str) -> Document:
    if isinstance(document, Document):
        return document
    digest = hashlib.sha256(document.encode("utf-8", "surrogatepass")).hexdigest()
    return Document(text=document, source=f"sha256:{digest}")
