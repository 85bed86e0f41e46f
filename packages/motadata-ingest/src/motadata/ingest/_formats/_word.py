"""Reads the body, notes and comments of a Word document from its stream of XML events."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final
from xml.sax.handler import ContentHandler
from xml.sax.xmlreader import AttributesNSImpl

from motadata.ingest._draft import Budget
from motadata.ingest._formats._word_styles import Numbering, Styles
from motadata.ingest._formats._word_xml import WORD, Name, is_on, word_value


_COMPATIBILITY: Final = "http://schemas.openxmlformats.org/markup-compatibility/2006"
# What was deleted or moved away by a tracked change is no longer there.
_GONE: Final = frozenset({"del", "moveFrom"})
_SIGNS: Final = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "ptab": "\t"}
_BODY_LEVEL: Final = 9  # how an outline level says "not a heading"
_NOTES: Final = frozenset({"footnote", "endnote", "comment"})
_REFERENCES: Final = frozenset({"footnoteReference", "endnoteReference"})


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph, or a row of a table.

    Attributes:
        level: Depth of the heading, from 1; None for ordinary text.
        is_title: Whether it is set in the style of the document's title.
        is_dense: Whether no blank line follows: items of a list, rows of a table.
        label: Number of a note, author of a comment.
    """

    text: str
    level: int | None = None
    is_title: bool = False
    is_dense: bool = False
    label: str = ""


@dataclass(slots=True)
class _Open:
    """A paragraph that is being read."""

    texts: list[str] = field(default_factory=list)
    style: str | None = None
    level: int | None = None
    list_id: str | None = None
    list_level: int | None = None


class WordReader(ContentHandler):
    """Collects the paragraphs of one part, text boxes and nested tables included.

    Attributes:
        paragraphs: In reading order; a text box stands before the paragraph that anchors it.
        hidden: How many runs were left out since they are formatted as hidden.
    """

    def __init__(self, styles: Styles, numbering: Numbering, budget: Budget) -> None:
        super().__init__()
        self.paragraphs: list[Paragraph] = []
        self.hidden = 0
        self._styles = styles
        self._numbering = numbering
        self._budget = budget
        self._open: list[_Open] = []
        self._rows: list[list[list[str]]] = []
        self._skipped = 0
        self._runs: list[bool] = []  # of each open run, whether it is hidden
        self._in_text = False
        self._label = ""
        self._counters: defaultdict[tuple[str, int], int] = defaultdict(int)

    def startElementNS(self, name: Name, qname: str | None, attributes: AttributesNSImpl) -> None:  # noqa: N802 - SAX's name
        """Open an element."""
        del qname
        if self._skipped or self._is_gone(name):
            self._skipped += 1
        elif name[0] in WORD:
            self._start(name[1], attributes)

    def endElementNS(self, name: Name, qname: str | None) -> None:  # noqa: N802 - SAX's name
        """Close it."""
        del qname
        if self._skipped:
            self._skipped -= 1
        elif name[0] in WORD:
            self._end(name[1])

    def characters(self, content: str) -> None:
        """Add to the open paragraph."""
        if self._in_text and not self._skipped:
            self._add(content)

    @staticmethod
    def _is_gone(name: Name) -> bool:
        # `Fallback` says once more, for old readers, what `Choice` has said.
        return (name[0] in WORD and name[1] in _GONE) or name == (_COMPATIBILITY, "Fallback")

    def _start(self, tag: str, attributes: AttributesNSImpl) -> None:
        if tag == "p":
            self._open.append(_Open())
        elif tag == "r":
            self._runs.append(False)
        elif tag == "t":
            self._in_text = True
        elif tag in _SIGNS and self._runs:
            self._add(_SIGNS[tag])
        elif tag == "vanish" and self._runs and is_on(attributes):
            self._runs[-1] = True
            self.hidden += 1
        elif tag == "tr":
            self._rows.append([])
        elif tag == "tc" and self._rows:
            self._rows[-1].append([])
        elif tag in _REFERENCES:
            self._add(f"[{word_value(attributes, 'id') or '?'}]")
        elif tag in _NOTES:
            self._label = _label(tag, attributes)
        elif self._open:
            self._set_property(tag, word_value(attributes, "val") or "")

    def _set_property(self, tag: str, value: str) -> None:
        paragraph = self._open[-1]
        digit = int(value) if value.isdecimal() and len(value) == 1 else None
        if tag == "pStyle":
            paragraph.style = value
        elif tag == "outlineLvl" and digit is not None:
            paragraph.level = digit + 1 if digit < _BODY_LEVEL else None
        elif tag == "numId":
            paragraph.list_id = value
        elif tag == "ilvl" and digit is not None:
            paragraph.list_level = digit

    def _end(self, tag: str) -> None:
        if tag == "t":
            self._in_text = False
        elif tag == "r" and self._runs:
            self._runs.pop()
        elif tag == "p" and self._open:
            self._close_paragraph(self._open.pop())
        elif tag == "tr" and self._rows:
            self._close_row(self._rows.pop())
        elif tag in _NOTES:
            self._label = ""

    def _add(self, text: str) -> None:
        if self._open and not (self._runs and self._runs[-1]):
            self._open[-1].texts.append(self._budget.spend(text))

    def _close_paragraph(self, paragraph: _Open) -> None:
        text = "".join(paragraph.texts).strip()
        if not text:
            return
        if self._rows and self._rows[-1]:
            self._rows[-1][-1].append(" ".join(text.split()))
            return
        level = paragraph.level or self._styles.level(paragraph.style)
        mark = "" if level is not None else self._mark(paragraph)
        self.paragraphs.append(
            Paragraph(
                mark + (text if level is None else " ".join(text.split())),
                level=level,
                is_title=self._styles.is_title(paragraph.style),
                is_dense=bool(mark),
                label=self._label,
            )
        )

    def _close_row(self, cells: list[list[str]]) -> None:
        texts = [" ".join(parts) for parts in cells]
        if not any(texts):
            return
        row = " | ".join(texts)
        if self._rows and self._rows[-1]:
            self._rows[-1][-1].append(row)  # a table within a cell
        else:
            self.paragraphs.append(Paragraph(row, is_dense=True, label=self._label))

    def _mark(self, paragraph: _Open) -> str:
        """Return the bullet or number before an item of a list; an empty string for other text."""
        inherited, depth = self._styles.list_of(paragraph.style)
        list_id = paragraph.list_id or inherited
        level = depth if paragraph.list_level is None else paragraph.list_level
        if list_id is None or list_id == "0":  # 0 takes a paragraph out of its style's list
            return ""
        indent = "  " * level
        if not self._numbering.counts(list_id, level):
            return f"{indent}- "
        self._counters[list_id, level] += 1
        for deeper in range(level + 1, 10):
            self._counters.pop((list_id, deeper), None)
        return f"{indent}{self._counters[list_id, level]}. "


def _label(tag: str, attributes: AttributesNSImpl) -> str:
    if tag == "comment":
        return f"{(word_value(attributes, 'author') or 'Unknown')[:100]}:"
    return f"[{word_value(attributes, 'id') or '?'}]"
