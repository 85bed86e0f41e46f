"""Documents in, cited answers out: retrieval-augmented generation on PostgreSQL.

rag = create_rag_system(db, gateway)
await rag.ingest_document(Document(text=…, source="vpn.md"), tenant_id="acme")
answer = await rag.query("How do I reset a VPN token?", tenant_id="acme")
"""

from motadata.rag._quick import quick_rag_query
from motadata.rag._system import RAGSystem, create_rag_system
from motadata.rag._version import __version__
from motadata.rag.options import RAGOptions


__all__ = ["RAGOptions", "RAGSystem", "__version__", "create_rag_system", "quick_rag_query"]
