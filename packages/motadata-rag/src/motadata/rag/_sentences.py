"""Where sentences, lines and blocks begin and end; offsets only, the text is never changed.

The chunker packs what is found here, and a citation points to one of these sentences.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal


Span = tuple[int, int]
BlockKind = Literal["prose", "heading", "code", "list", "table"]

_CLOSERS: Final = "\"'\u201d\u2019)]}»*_`"
# Possessive, and tried at the first mark of a run only: linear on a megabyte of dots.
_END: Final = re.compile(
    rf"(?<![.!?…])[.!?…]++[{re.escape(_CLOSERS)}]*+(?=\s)"
    r"|[\u3002\uff01\uff1f\uff61]++[\u300d\u300f\uff09\u201d\u2019]*+"  # full-width
    r"|\n[^\S\n]*+\n"
)
_ELLIPSIS: Final = re.compile(r"(?:\.\.|…)\W*\s+[a-z]")
_ABBREVIATION: Final = re.compile(
    r"(?:\b(?:e\.g|i\.e|cf|vs|etc|approx|no|nos|fig|figs|eq|sec|ch|vol|pp|p|al|mr|mrs|ms|dr|prof|"
    r"st|jr|sr|inc|ltd|co|corp|dept|est|min|max|u\.s|a\.m|p\.m)|\b[A-Za-z])\.$",
    re.IGNORECASE,
)
_FENCE: Final = re.compile(r"[ \t]{0,3}(`{3,}|~{3,})")
_HEADING: Final = re.compile(r"[ \t]{0,3}#{1,6}[ \t]+\S")
_ITEM: Final = re.compile(r"[ \t]*(?:[-*+•]|\d{1,3}[.)]|[a-z][.)])[ \t]+\S")
_ROW: Final = re.compile(r"[ \t]*\|.*\|[ \t]*$")
_LOOK_BACK: Final = 12


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, heading line, code block, list or table, without the blanks around it."""

    start: int
    end: int
    kind: BlockKind


def sentences(text: str, start: int, end: int) -> Iterator[Span]:
    """Yield the sentences of `text[start:end]`, without the blanks between them.

    A blank line ends a sentence as well. Between them the spans cover every character that is no
    blank.
    """
    position = start
    for match in _END.finditer(text, start, end):
        if text[match.start()] in ".!?…" and not _ends_sentence(text, match, position, end):
            continue
        yield from _trimmed(text, position, match.end())
        position = match.end()
    yield from _trimmed(text, position, end)


def lines(text: str, start: int, end: int) -> Iterator[Span]:
    """Yield the lines of `text[start:end]` that are not blank, indentation left out."""
    for line_start, line_end in _raw_lines(text, start, end):
        yield from _trimmed(text, line_start, line_end)


def blocks(text: str, start: int, end: int) -> Iterator[Block]:
    """Yield the blocks of `text[start:end]` in order."""
    open_fence: str | None = None
    block_start, kind = start, None
    for line_start, line_end in _raw_lines(text, start, end):
        fence = _FENCE.match(text, line_start, line_end)
        if open_fence is not None:
            if fence and fence.group(1).startswith(open_fence):
                yield from _block(text, block_start, line_end, "code")
                open_fence, block_start, kind = None, line_end, None
            continue
        found = "code" if fence else _kind(text, line_start, line_end, kind)
        if found != kind or found == "heading":
            yield from _block(text, block_start, line_start, kind)
            block_start, kind = line_start, found
        if fence:
            open_fence = fence.group(1)
    yield from _block(text, block_start, end, "code" if open_fence else kind)


def _ends_sentence(text: str, match: re.Match[str], start: int, end: int) -> bool:
    if _ELLIPSIS.search(text[match.start() : min(match.end() + 3, end)]):
        return False
    stop = match.start() + 1
    before = text[max(start, stop - _LOOK_BACK) : stop]
    return text[match.start()] != "." or _ABBREVIATION.search(before) is None


def _kind(text: str, start: int, end: int, kind: BlockKind | None) -> BlockKind | None:
    """Name the kind of a line; `kind` is that of the line before, None behind a blank line."""
    if text[start:end].isspace():
        return None
    if _HEADING.match(text, start, end):
        return "heading"
    if _ITEM.match(text, start, end):
        return "list"
    if _ROW.match(text[start:end].rstrip()):
        return "table"
    # A line right below an item carries the item on.
    return "list" if kind == "list" else "prose"


def _block(text: str, start: int, end: int, kind: BlockKind | None) -> Iterator[Block]:
    for trimmed_start, trimmed_end in _trimmed(text, start, end):
        yield Block(trimmed_start, trimmed_end, kind or "prose")


def _raw_lines(text: str, start: int, end: int) -> Iterator[Span]:
    position = start
    while position < end:
        found = text.find("\n", position, end)
        stop = end if found < 0 else found + 1
        yield position, stop
        position = stop


def _trimmed(text: str, start: int, end: int) -> Iterator[Span]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    if start < end:
        yield start, end
