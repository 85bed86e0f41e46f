"""The lines of a text grouped into blocks: headings, lists, tables, code, records, prose.

Reads Markdown and what is left of documents that were something else; nothing is an error.
"""

# ruff: noqa: RUF001 - dashes and bullets of other scripts are what is looked for
from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal


BlockKind = Literal["heading", "fence", "list", "table", "record", "prose"]

_MOST_LINES: Final = 200
_FENCE: Final = re.compile(r" {0,3}(?P<mark>```+|~~~+)")
_HEADING: Final = re.compile(r" {0,3}#{1,6}\s+(?P<title>.*?)[\s#]*$")
_ITEM: Final = re.compile(r"\s*(?:[-*+•‣◦–]|\(?\d{1,3}[.)]|\(?[a-zA-Z][.)])\s+(?=\S)")
_ROW: Final = re.compile(r"\s*\|.*\|\s*$")
_FIELD: Final = re.compile(r"\s*\w[^:|]{0,60}:\s+\S")


@dataclass(frozen=True, slots=True)
class Block:
    """Some lines that belong together; the slice `start` to `end` of the text."""

    kind: BlockKind
    start: int
    end: int


def blocks_of(text: str) -> Iterator[Block]:
    """Yield the blocks of a text in their order; blank lines are none's."""
    lines = list(lines_of(text))
    content = [text[start:end] for start, end in lines]
    index = 0
    while index < len(lines):
        if not content[index].strip():
            index += 1
            continue
        kind, count = _extent(content[index : index + _MOST_LINES])
        yield Block(kind, lines[index][0], lines[index + count - 1][1])
        index += count


def _extent(content: list[str]) -> tuple[BlockKind, int]:
    """Return what kind of block begins at the first of the lines, and how many it has."""
    fence = _FENCE.match(content[0])
    if fence:
        closing = (i for i, line in enumerate(content[1:], 2) if line.strip() == fence["mark"])
        return "fence", next(closing, len(content))
    if _HEADING.match(content[0]):
        return "heading", 1
    if _ITEM.match(content[0]):
        return "list", _list_extent(content)
    if _ROW.match(content[0]):
        return "table", _while(content, lambda line: bool(_ROW.match(line)))
    count = _while(content, lambda line: bool(line.strip()) and not _begins_block(line))
    count = max(count, 1)
    if count > 1 and all(_FIELD.match(line) for line in content[:count]):
        return "record", count
    return "prose", count


def _list_extent(content: list[str]) -> int:
    """Count lines of items, what hangs below them, and single blank lines in between."""
    count = 1
    while count < len(content):
        line = content[count]
        blank = not line.strip()
        after = content[count + 1] if count + 1 < len(content) else ""
        if blank and not (_ITEM.match(after) or after.startswith(("  ", "\t"))):
            break
        if not blank and not _ITEM.match(line) and _ends_list(content[count - 1], line):
            break
        count += 1
    return count


def _ends_list(before: str, line: str) -> bool:
    """Tell whether a line that is no item is none's continuation either."""
    if _HEADING.match(line):
        return True
    hangs = line.startswith((" ", "\t")) or not before.strip()
    return not hangs and before.rstrip()[-1:] in tuple(".!?:") and not line[:1].islower()


def heading_of(line: str) -> str:
    """Return the words of a heading's line."""
    match = _HEADING.match(line)
    return match["title"] if match else line.strip()


def items_of(text: str, block: Block) -> Iterator[tuple[int, int]]:
    """Yield where the items of a list are, without their bullets."""
    start: int | None = None
    for line_start, line_end in lines_of(text, block.start, block.end):
        marker = _ITEM.match(text[line_start:line_end])
        if marker:
            if start is not None:
                yield trimmed(text, start, line_start)
            start = line_start + marker.end()
    if start is not None:
        yield trimmed(text, start, block.end)


def lines_of(text: str, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
    """Yield where the lines of a slice are, without their ends."""
    end = len(text) if end is None else end
    while start < end:
        stop = text.find("\n", start, end)
        stop = end if stop < 0 else stop
        yield start, stop
        start = stop + 1


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Return the slice without the blanks around it."""
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())


def _while(content: list[str], holds: Callable[[str], bool]) -> int:
    return next((i for i, line in enumerate(content) if not holds(line)), len(content))


def _begins_block(line: str) -> bool:
    return any(pattern.match(line) for pattern in (_FENCE, _HEADING, _ITEM, _ROW))
