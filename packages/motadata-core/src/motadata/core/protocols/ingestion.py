"""The contracts of ingestion: reading files, and taking uploads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from typing import Literal, Protocol

from motadata.core.errors import SDKError
from motadata.core.models import Document, Health, IngestedDocument, Record


Stage = Literal["queued", "loading", "storing", "done", "failed"]


@dataclass(frozen=True, slots=True)
class UploadProgress(Record):
    """Where one file of an upload is.

    Attributes:
        position: Which file it is, from 1.
        total: How many files the upload has.
    """

    source: str
    stage: Stage
    position: int
    total: int


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """What became of one file: a stored document, or the error that says why not."""

    source: str
    document: IngestedDocument | None = None
    error: SDKError | None = None


@dataclass(frozen=True, slots=True)
class UploadReport:
    """What became of an upload, file by file, in the order of the files."""

    files: tuple[FileOutcome, ...]

    @property
    def documents(self) -> tuple[IngestedDocument, ...]:
        """The files that are stored now."""
        return tuple(file.document for file in self.files if file.document is not None)

    @property
    def failures(self) -> tuple[FileOutcome, ...]:
        """The files that are not, each with its error."""
        return tuple(file for file in self.files if file.error is not None)


class DocumentLoader(Protocol):
    """Reads one file into text with pages and headings; never trusts it."""

    async def load(self, content: bytes | PathLike[str], *, source: str) -> Document:
        """Return the text of a file.

        Args:
            content: The bytes, or the path of a file that holds them.
            source: Name under which the document is known; its ending is a hint, no more.

        Raises:
            IngestionError: One of its kinds says why the file cannot be read.
        """
        ...


class IngestionService(Protocol):
    """Takes files of any kind into a tenant's knowledge base.

    Uploading again what is stored changes nothing, so that an upload that was interrupted is simply
    repeated.
    """

    async def upload(
        self,
        content: str | PathLike[str] | bytes,
        *,
        source: str | None = None,
        on_progress: Callable[[UploadProgress], None] | None = None,
        tenant_id: str | None = None,
    ) -> UploadReport:
        """Read and store one file, or every file of a folder.

        A single file that fails raises; in a folder it becomes a failure in the report and the
        other files go on. Cancelling it stops at once; what is stored by then stays.

        Args:
            content: Path of a file or folder, or the bytes of one file.
            source: Name of the document; needed for bytes. A path's default is its own name;
                the files of a folder are named `folder/inner/file.md`.
            on_progress: Called on the event loop for each step of each file: `queued`, `loading`,
                `storing`, `done`, or `failed` in the place of what did not succeed.
            tenant_id: None means the tenant of the scope.

        Raises:
            TenantRequiredError: No tenant is given and none is in scope.
            InvalidIdentifierError: The tenant's name is malformed.
            IngestionError: A single file cannot be read, the path does not exist, or bytes have no
                name.
            SDKError: A single document cannot be stored; what the knowledge base said.
            DeadlineExceededError: The deadline of the caller ended it.
        """
        ...

    async def health(self) -> Health:
        """Say whether files can be read."""
        ...
