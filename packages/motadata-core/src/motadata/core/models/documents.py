"""Documents on their way from a file to the chunks that are searched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from motadata.core.models._record import Record


@dataclass(frozen=True, slots=True)
class Section(Record):
    """Where a run of characters of `Document.text` sat in the original.

    Sections are in order and do not overlap; between them they may leave gaps.

    Attributes:
        start: Offset of its first character in the document's text.
        end: Offset behind its last character.
        page: Page of the original, from 1, when it has pages.
        heading: The nearest heading, with its parents: `Network > VPN > Tokens`.
    """

    start: int
    end: int
    page: int | None = None
    heading: str | None = None


@dataclass(frozen=True, slots=True)
class Document(Record):
    """Text that a tenant wants to ask about.

    Attributes:
        text: The whole text; every offset in the SDK counts its characters.
        source: Where it comes from, as its owner knows it: a path, an address, a ticket.
        title: What people call it.
        document_id: Its identity across versions; None derives it from `source`.
        media_type: Type of the original, such as `application/pdf`.
        sections: Pages and headings.
        metadata: The owner's own labels.
    """

    text: str
    source: str
    title: str = ""
    document_id: str | None = None
    media_type: str = "text/plain"
    sections: tuple[Section, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DocumentInfo(Record):
    """A stored document, without its text.

    Attributes:
        version: Counts from 1; each change of the text, title or sections adds one.
        digest: SHA-256 of what was ingested, 64 hexadecimal digits.
        chunks: How many chunks its current version has.
    """

    document_id: str
    title: str
    source: str
    version: int
    media_type: str
    digest: str
    characters: int
    chunks: int
    updated_at: datetime
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IngestedDocument(Record):
    """What became of one document.

    Attributes:
        outcome: `created`, `updated` (a new version), or `unchanged` (nothing was done).
        embedded: False when its chunks have no vectors, since no embedding model was there.
    """

    document_id: str
    title: str
    source: str
    version: int
    chunks: int
    outcome: Literal["created", "updated", "unchanged"]
    embedded: bool = True
