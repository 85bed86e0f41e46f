"""Turns a worker's answer into a document or an error, trusting none of it."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from motadata.core.errors import (
    EmptyFileError,
    FileTooLargeError,
    IngestionError,
    LoaderCrashedError,
    UnreadableFileError,
    UnsupportedFormatError,
)
from motadata.core.models import Document, Section
from motadata.ingest._cleanse import clean_line
from motadata.ingest.limits import Limits


_ERRORS: Final = {
    kind.code: kind
    for kind in (
        EmptyFileError,
        FileTooLargeError,
        IngestionError,
        LoaderCrashedError,
        UnreadableFileError,
        UnsupportedFormatError,
    )
}
_Line = Annotated[str, StringConstraints(max_length=500)]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Failure(_Wire):
    """Why a file cannot be read."""

    code: _Line
    message: _Line
    remedy: _Line

    def to_error(self) -> IngestionError:
        """Return the error that it stands for."""
        kind = _ERRORS.get(self.code, LoaderCrashedError)
        return kind(clean_line(self.message, longest=500), remedy=clean_line(self.remedy) or None)


class Description(_Wire):
    """A document without its text."""

    title: _Line
    media_type: _Line
    sections: list[tuple[int, int, int | None, _Line | None]]
    metadata: dict[_Line, _Line]


class Answer(_Wire):
    """What a worker says: one of the two."""

    document: Description | None = None
    error: Failure | None = None


class Greeting(_Wire):
    """What a worker says when it is ready: the layers of isolation that hold."""

    layers: list[_Line]


def read_answer(header: bytes) -> Answer:
    """Return the answer.

    Raises:
        LoaderCrashedError: It breaks the agreement.
    """
    try:
        answer = Answer.model_validate_json(header)
    except ValidationError as error:
        raise _broken() from error
    if (answer.document is None) == (answer.error is None):
        raise _broken()
    return answer


def to_document(description: Description, text: bytes, *, source: str, limits: Limits) -> Document:
    """Return the document.

    Raises:
        LoaderCrashedError: Text, sections or labels break the agreement.
    """
    try:
        decoded = text.decode()
    except UnicodeDecodeError as error:
        raise _broken() from error
    sections = tuple(Section(*span) for span in description.sections)
    end = 0
    for section in sections:
        if not end <= section.start < section.end <= len(decoded):
            raise _broken()
        end = section.end
    if len(decoded) > limits.characters or len(sections) > 2 * limits.sections + 10:
        raise _broken()
    return Document(
        text=decoded,
        source=source,
        title=description.title,
        media_type=description.media_type,
        sections=sections,
        metadata=description.metadata,
    )


def _broken() -> LoaderCrashedError:
    message = "The reader process gave an answer that breaks the agreement."
    return LoaderCrashedError(message, remedy="Do not trust this file.")
