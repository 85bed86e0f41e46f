"""What a format's reader hands on: pieces of raw text, each with its page and heading."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from motadata.core.errors import FileTooLargeError
from motadata.ingest.limits import Limits


_HEADING_CHARACTERS: Final = 200
_PATH_CHARACTERS: Final = 500


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of text that sits on one page and under one heading."""

    text: str
    page: int | None = None
    heading: str | None = None


@dataclass(slots=True)
class Draft:
    """A document as its format's reader found it, before cleansing.

    Attributes:
        pieces: In reading order.
        title: The title that the file itself states, or an empty string.
        metadata: Labels that the file itself carries.
    """

    media_type: str
    pieces: list[Piece] = field(default_factory=list)
    title: str = ""
    metadata: dict[str, str] = field(default_factory=dict)


class Budget:
    """Counts characters and sections while a document grows, so that no bomb is held in memory."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._characters = 0
        self._sections = 0

    def spend(self, text: str) -> str:
        """Count `text` and return it.

        Raises:
            FileTooLargeError: The document has more characters than the limit.
        """
        self._characters += len(text)
        if self._characters > self._limits.characters:
            message = f"The text is longer than {self._limits.characters} characters."
            raise FileTooLargeError(message, remedy="Split the file, or raise Limits.characters.")
        return text

    def open_section(self) -> None:
        """Count one page or heading.

        Raises:
            FileTooLargeError: The document has more of them than the limit.
        """
        self._sections += 1
        if self._sections > self._limits.sections:
            message = f"The document has more than {self._limits.sections} pages and headings."
            raise FileTooLargeError(message, remedy="Split the file, or raise Limits.sections.")


class HeadingPath:
    """The headings above the current position: `Network > VPN > Tokens`."""

    def __init__(self) -> None:
        self._open: list[tuple[int, str]] = []

    def enter(self, level: int, title: str) -> str | None:
        """Close the headings of this level and below, open this one, return the path."""
        while self._open and self._open[-1][0] >= level:
            self._open.pop()
        title = " ".join(title.split())[:_HEADING_CHARACTERS].rstrip()
        if title:
            self._open.append((level, title))
        return self.path

    @property
    def path(self) -> str | None:
        """The titles that are open, outermost first; None when none is."""
        return " > ".join(title for _, title in self._open)[:_PATH_CHARACTERS].rstrip() or None
