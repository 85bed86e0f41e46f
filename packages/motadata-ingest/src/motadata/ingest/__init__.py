"""One-line upload of files into a knowledge base, each read in a process that may die without us.

    async with create_ingestion_service(rag=knowledge_base) as ingestion:
        report = await ingestion.upload("runbooks/", tenant_id="acme")

Files are recognised by their content, read in a sandbox, cleansed, and stored whole or not at all.

A name is imported when it is first used: the process that reads files imports this package too, and
is forked for each of them, so that what it does not need would cost time on every file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from motadata.core.lazy import lazy_names
from motadata.ingest._version import __version__
from motadata.ingest.limits import Limits


if TYPE_CHECKING:
    from motadata.ingest._loader import IsolatedLoader
    from motadata.ingest._service import (
        FileIngestionService,
        ProgressCallback,
        create_ingestion_service,
        upload,
    )
    from motadata.ingest.component import IngestSettings


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

_MODULES: Final = {
    "FileIngestionService": "_service",
    "IngestSettings": "component",
    "IsolatedLoader": "_loader",
    "ProgressCallback": "_service",
    "create_ingestion_service": "_service",
    "upload": "_service",
}

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
