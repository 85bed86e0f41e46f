"""How a platform finds ingestion, and its settings."""

from __future__ import annotations

from dataclasses import fields
from typing import Final

from motadata.core.platform import ComponentSpec, Platform
from motadata.core.settings import Settings
from motadata.ingest._service import FileIngestionService, create_ingestion_service
from motadata.ingest.limits import Limits


class IngestSettings(Settings, prefix="MOTADATA_INGEST_"):
    """What files may cost, and how many are read at once; see `Limits` for the bounds.

    Attributes:
        workers: How many files are read at once.
        concurrency: How many files of one folder are under way at once.
    """

    workers: int = 2
    concurrency: int = 4
    file_bytes: int = Limits().file_bytes
    unpacked_bytes: int = Limits().unpacked_bytes
    characters: int = Limits().characters
    sections: int = Limits().sections
    files: int = Limits().files
    seconds: float = Limits().seconds
    memory_bytes: int = Limits().memory_bytes

    def limits(self) -> Limits:
        """Return the bounds.

        Raises:
            ConfigurationError: One is not positive.
        """
        return Limits(**{item.name: getattr(self, item.name) for item in fields(Limits)})


def _open(platform: Platform) -> FileIngestionService:
    settings = IngestSettings.from_environment(platform.environment)
    return create_ingestion_service(
        platform.knowledge_base,
        limits=settings.limits(),
        workers=settings.workers,
        concurrency=settings.concurrency,
    )


COMPONENT: Final = ComponentSpec(name="ingestion", open=_open, requires=("knowledge_base",))
