"""What a document and a query must be like, checked before anything is done with them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Final

from motadata.core.errors import DocumentProcessingError, InvalidIdentifierError, RetrievalError
from motadata.core.models import Document, Section
from motadata.core.tenancy import Identifier


MAX_TEXT: Final = 10_000_000
MAX_TITLE: Final = 500
MAX_SOURCE: Final = 1_000
MAX_LABELS: Final = 100
MAX_LABEL: Final = 2_000
MAX_HEADING: Final = 2_000
MAX_QUERY: Final = 8_000
MAX_LIMIT: Final = 100
MAX_DOCUMENT_IDS: Final = 1_000
MAX_VERSION: Final = 2**31 - 1

# PostgreSQL stores neither.
_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")


def check_document(document: Document) -> str:
    """Return the document's id, derived from its source when it brings none.

    Raises:
        DocumentProcessingError: A part of it is missing, too long, or cannot be stored.
    """
    _check_text("text", document.text, MAX_TEXT, required=True)
    _check_text("source", document.source, MAX_SOURCE, required=True)
    _check_text("title", document.title, MAX_TITLE)
    _check_text("media_type", document.media_type, MAX_LABEL)
    if len(document.metadata) > MAX_LABELS:
        message = f"The metadata has {len(document.metadata)} labels."
        raise DocumentProcessingError(message, remedy=f"Keep to {MAX_LABELS}.")
    for name, value in document.metadata.items():
        _check_text("metadata", name, MAX_LABEL)
        _check_text("metadata", value, MAX_LABEL)
    _check_sections(document.sections, len(document.text))
    if document.document_id is None:
        return hashlib.sha256(document.source.encode()).hexdigest()[:32]
    try:
        return Identifier(document.document_id)
    except InvalidIdentifierError as error:
        raise DocumentProcessingError(
            str(error), remedy="Or leave it out to derive it from the source."
        ) from error


def check_query(query: str, limit: int, document_ids: Sequence[str]) -> None:
    """Check the arguments of a search.

    Raises:
        RetrievalError: The query is blank, too long or holds what is no text, the limit is out of
            range, or there are too many document ids.
    """
    if not query.strip():
        raise RetrievalError("The query is empty.", remedy="Ask something.")
    if len(query) > MAX_QUERY:
        message = f"The query has {len(query)} characters."
        raise RetrievalError(message, remedy=f"Keep to {MAX_QUERY}.")
    if not 1 <= limit <= MAX_LIMIT:
        message = f"limit={limit!r} is out of range."
        raise RetrievalError(message, remedy=f"Use 1 to {MAX_LIMIT}.")
    if len(document_ids) > MAX_DOCUMENT_IDS:
        message = f"There are {len(document_ids)} document ids."
        raise RetrievalError(message, remedy=f"Keep to {MAX_DOCUMENT_IDS}.")
    if any(_UNSTORABLE.search(text) for text in (query, *document_ids)):
        raise RetrievalError(
            "The query or a document id holds NUL characters or lone surrogates.",
            remedy="Decode the text properly, or remove them.",
        )


def _check_text(name: str, value: str, longest: int, *, required: bool = False) -> None:
    if required and not value.strip():
        message = f"The document's {name} is empty."
        raise DocumentProcessingError(message, remedy=f"Give it a {name}.")
    if len(value) > longest:
        message = f"The document's {name} has {len(value)} characters."
        raise DocumentProcessingError(message, remedy=f"Keep to {longest}.")
    found = _UNSTORABLE.search(value)
    if found:
        message = f"The document's {name} holds {found.group()!a} at character {found.start()}."
        raise DocumentProcessingError(
            message, remedy="Decode the text properly, or remove NULs and lone surrogates."
        )


def _check_sections(sections: Sequence[Section], length: int) -> None:
    position = 0
    for number, section in enumerate(sections):
        if not position <= section.start <= section.end <= length:
            message = (
                f"Section {number} goes from {section.start} to {section.end}, behind one that ends"
                f" at {position}, in a text of {length} characters."
            )
            raise DocumentProcessingError(
                message, remedy="Pass sections in order that do not overlap."
            )
        if section.heading is not None:
            _check_text("sections", section.heading, MAX_HEADING)
        if section.page is not None and not 1 <= section.page <= MAX_VERSION:
            message = f"Section {number} is on page {section.page!r}."
            raise DocumentProcessingError(message, remedy="Count pages from 1.")
        position = section.end
