"""From bytes to a cleansed document: detect, read, cleanse, find the title. Runs in the worker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from motadata.core.errors import EmptyFileError, FileTooLargeError
from motadata.ingest._cleanse import clean_line, cleanse
from motadata.ingest._detect import Detected, detect
from motadata.ingest._draft import Budget, Draft
from motadata.ingest._formats.delimited import read_delimited
from motadata.ingest._formats.docx import read_docx
from motadata.ingest._formats.html import read_html
from motadata.ingest._formats.markdown import read_markdown
from motadata.ingest._formats.pdf import read_pdf
from motadata.ingest._formats.plain import read_plain
from motadata.ingest._formats.records import read_json, read_json_lines
from motadata.ingest.limits import Limits


_LABELS: Final = 60
_LABEL_NAME: Final = 64
_LABEL_VALUE: Final = 500
_BETWEEN: Final = "\n\n"
Span = tuple[int, int, int | None, str | None]


@dataclass(frozen=True, slots=True)
class Parsed:
    """A document as the worker hands it over.

    Attributes:
        sections: Start, end, page and heading of each; in order, without overlap.
    """

    text: str
    title: str
    media_type: str
    sections: list[Span]
    metadata: dict[str, str]


def parse(data: bytes, name: str, limits: Limits) -> Parsed:
    """Read a file.

    Args:
        data: The whole file.
        name: Its name; the ending is a hint for the format, the rest a last resort for the title.
        limits: What it may cost.

    Raises:
        IngestionError: One of its kinds says why it cannot be read.
    """
    if not data.strip():
        message = "The file is empty." if not data else "The file holds nothing but blanks."
        raise EmptyFileError(message, remedy="Upload one with content.")
    draft = _read(detect(data, name), data, Budget(limits), limits)
    text, sections, hidden = _assemble(draft)
    if not text.strip():
        raise _no_text(draft)
    if len(text) > limits.characters:
        message = f"The text is longer than {limits.characters} characters."
        raise FileTooLargeError(message, remedy="Split the file, or raise Limits.characters.")
    metadata = _labels(draft.metadata)
    if hidden:
        metadata["hidden_characters"] = str(hidden)
    title = clean_line(draft.title) or clean_line(PurePosixPath(name.replace("\\", "/")).stem)
    return Parsed(text, title, draft.media_type, sections, metadata)


def _read(found: Detected, data: bytes, budget: Budget, limits: Limits) -> Draft:
    match found.format:
        case "pdf":
            return read_pdf(data, budget)
        case "docx":
            return read_docx(data, budget, limits)
        case "html":
            return read_html(found.text, budget)
        case "markdown":
            return read_markdown(found.text, budget)
        case "csv":
            return read_delimited(found.text, budget)
        case "json":
            return read_json(found.text, budget)
        case "jsonl":
            return read_json_lines(found.text, budget)
        case "text":
            return read_plain(found.text, budget)


def _assemble(draft: Draft) -> tuple[str, list[Span], int]:
    """Cleanse each piece, join them, and note where each went."""
    texts: list[str] = []
    sections: list[Span] = []
    at = hidden = 0
    for piece in draft.pieces:
        text, dropped = cleanse(piece.text)
        hidden += dropped
        if not text.strip():
            continue
        at += len(_BETWEEN) if texts else 0
        heading = clean_line(piece.heading, longest=500) if piece.heading else ""
        place = (piece.page, heading or None)
        if sections and sections[-1][2:] == place:
            sections[-1] = (sections[-1][0], at + len(text), *place)
        elif place != (None, None):
            sections.append((at, at + len(text), *place))
        texts.append(text)
        at += len(text)
    return _BETWEEN.join(texts), sections, hidden


def _labels(metadata: dict[str, str]) -> dict[str, str]:
    pairs = list(metadata.items())[:_LABELS]
    cleaned = {
        clean_line(name, longest=_LABEL_NAME): clean_line(value, longest=_LABEL_VALUE)
        for name, value in pairs
    }
    return {name: value for name, value in cleaned.items() if name and value}


def _no_text(draft: Draft) -> EmptyFileError:
    pages = draft.metadata.get("pages")
    if pages is not None:
        message = f"The PDF has {pages} pages and no text; it looks scanned."
        return EmptyFileError(message, remedy="Run it through text recognition (OCR) first.")
    return EmptyFileError("The file holds no text.", remedy="Upload one with text.")
