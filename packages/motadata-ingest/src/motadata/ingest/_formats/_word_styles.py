"""Which styles of a Word document are headings, and how its lists count."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final
from xml.sax.handler import ContentHandler
from xml.sax.xmlreader import AttributesNSImpl

from motadata.ingest._formats._word_xml import WORD, Name, word_value


_HEADING: Final = re.compile(r"heading ?([1-9])", re.IGNORECASE)
_ANCESTORS: Final = 20
_ENTRIES: Final = 50_000


@dataclass(slots=True)
class Style:
    """What a paragraph style says about its paragraphs.

    Attributes:
        level: Depth of the heading, from 1; None when it is none.
        list_id: The list to which its paragraphs belong.
        list_level: Depth in that list, from 0.
    """

    name: str = ""
    based_on: str | None = None
    level: int | None = None
    list_id: str | None = None
    list_level: int = 0


@dataclass(slots=True)
class Styles:
    """The paragraph styles by id."""

    by_id: dict[str, Style] = field(default_factory=dict)

    def level(self, style_id: str | None) -> int | None:
        """Return the heading level of a style, inherited if need be; None when it is no heading."""
        for style in self._lineage(style_id):
            match = _HEADING.fullmatch(style.name)
            if match is not None:
                return int(match[1])
            if style.level is not None:
                return style.level
        # Files without a styles part still use the ids of Word's own headings.
        match = _HEADING.fullmatch(style_id or "")
        return int(match[1]) if match is not None and style_id not in self.by_id else None

    def list_of(self, style_id: str | None) -> tuple[str | None, int]:
        """Return the list to which a style's paragraphs belong, and their depth in it."""
        for style in self._lineage(style_id):
            if style.list_id is not None:
                return style.list_id, style.list_level
        return None, 0

    def is_title(self, style_id: str | None) -> bool:
        """Tell whether the style is the document's title."""
        return any(style.name.lower() == "title" for style in self._lineage(style_id)) or (
            style_id == "Title"
        )

    def _lineage(self, style_id: str | None) -> list[Style]:
        found: list[Style] = []
        while style_id is not None and style_id in self.by_id and len(found) < _ANCESTORS:
            found.append(self.by_id[style_id])
            style_id = found[-1].based_on
        return found


class StylesReader(ContentHandler):
    """Reads `styles.xml`."""

    def __init__(self) -> None:
        super().__init__()
        self.styles = Styles()
        self._style = Style()

    def startElementNS(self, name: Name, qname: str | None, attributes: AttributesNSImpl) -> None:  # noqa: N802 - SAX's name
        """Take in one element."""
        del qname
        if name[0] not in WORD:
            return
        value = word_value(attributes, "val") or ""
        match name[1]:
            case "style":
                self._style = Style()
                if len(self.styles.by_id) < _ENTRIES:
                    self.styles.by_id[word_value(attributes, "styleId") or ""] = self._style
            case "name":
                self._style.name = value[:100]
            case "basedOn":
                self._style.based_on = value
            case "outlineLvl" if value.isdecimal() and len(value) == 1 and value != "9":
                self._style.level = int(value) + 1
            case "numId":
                self._style.list_id = value
            case "ilvl" if value.isdecimal() and len(value) == 1:
                self._style.list_level = int(value)
            case _:
                pass


@dataclass(slots=True)
class Numbering:
    """How each list marks its items."""

    formats: dict[tuple[str, int], str] = field(default_factory=dict)
    lists: dict[str, str] = field(default_factory=dict)

    def counts(self, list_id: str, level: int) -> bool:
        """Tell whether the list counts at that depth; otherwise it has bullets."""
        mark = self.formats.get((self.lists.get(list_id, ""), level), "bullet")
        return mark not in {"bullet", "none"}


class NumberingReader(ContentHandler):
    """Reads `numbering.xml`."""

    def __init__(self) -> None:
        super().__init__()
        self.numbering = Numbering()
        self._abstract = ""
        self._list = ""
        self._level = 0

    def startElementNS(self, name: Name, qname: str | None, attributes: AttributesNSImpl) -> None:  # noqa: N802 - SAX's name
        """Take in one element."""
        del qname
        if name[0] not in WORD or len(self.numbering.formats) > _ENTRIES:
            return
        value = word_value(attributes, "val") or ""
        match name[1]:
            case "abstractNum":
                self._abstract = word_value(attributes, "abstractNumId") or ""
            case "lvl":
                level = word_value(attributes, "ilvl") or "0"
                self._level = int(level) if level.isdecimal() and len(level) == 1 else 0
            case "numFmt":
                self.numbering.formats[self._abstract, self._level] = value
            case "num":
                self._list = word_value(attributes, "numId") or ""
            case "abstractNumId" if len(self.numbering.lists) < _ENTRIES:
                self.numbering.lists[self._list] = value
            case _:
                pass
