"""One-line upload of files into a knowledge base, each read in a process that may die without us.

    async with create_ingestion_service(rag=knowledge_base) as ingestion:
        report = await ingestion.upload("runbooks/", tenant_id="acme")

Files are recognised by their content, read in a sandbox, cleansed, and stored whole or not at all.
"""

from motadata.ingest._loader import IsolatedLoader
from motadata.ingest._service import (
    FileIngestionService,
    ProgressCallback,
    create_ingestion_service,
    upload,
)
from motadata.ingest._version import __version__
from motadata.ingest.component import IngestSettings
from motadata.ingest.limits import Limits


__all__ = [
    "FileIngestionService",
    "IngestSettings",
    "IsolatedLoader",
    "Limits",
    "ProgressCallback",
    "__version__",
    "create_ingestion_service",
    "upload",
]
