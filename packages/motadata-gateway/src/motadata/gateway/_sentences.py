"""Prose cut into paragraphs and sentences, as slices; by rules, for any script with full stops."""

# ruff: noqa: RUF001 - quotation marks and full stops of other scripts are what is looked for
from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from motadata.gateway._blocks import lines_of, trimmed


LONGEST: Final = 700
"""Characters of a slice at most; what is longer is cut at a blank."""

_FITS: Final = 0.8
_ABBREVIATION_LONGEST: Final = 12
_CONTINUES: Final = re.compile(
    r"(?:[,;(–&/-]|\b(?:of|the|an?|and|or|to|for|in|on|by|with|from|at|is|are|as|than|that))$",
    re.IGNORECASE,
)
_SENTENCE_END: Final = re.compile(
    r"(?P<end>[.!?…][\"'”’)\]*_`]*)\s+(?=[\"'“‘(\[*_`]*[^\W_])|(?P<wide>[。！？]+[」』）]*)"
)
_ABBREVIATION: Final = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|vs|cf|approx|no|nos|fig|figs|sec|ch|pp|vol|ed|eds|al|inc|ltd|corp|co|"
    r"dept|est|mr|mrs|ms|dr|prof|st|jr|sr|z\.b|d\.h|bzw|ca|nr)|\b[A-Za-z])\.$",
    re.IGNORECASE,
)
_CODE_ONLY: Final = re.compile(r"`[^`]+`[.:]?$")


def paragraphs_of(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Cut prose where its author broke the line on purpose.

    Text is wrapped where the next word does not fit any more. A line that ends although the next
    word would have fitted, before what can begin a sentence, is a paragraph or a title of its own.
    """
    lines = list(lines_of(text, start, end))
    width = max((last - first for first, last in lines), default=0)
    begin = start
    for (first, last), (following, until) in pairwise(lines):
        if _breaks(text[first:last].rstrip(), text[following:until].lstrip(), width):
            yield trimmed(text, begin, last)
            begin = following
    yield trimmed(text, begin, end)


def _breaks(line: str, after: str, width: int) -> bool:
    if not line or not after or after.lstrip("\"'“‘([*_`")[:1].islower() or _CONTINUES.search(line):
        return False
    if line[-1] in ".!?:":
        return True
    return len(line) + 1 + len(after.split(maxsplit=1)[0]) <= _FITS * width


def sentences_of(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield sentences; one that is nothing but code belongs to the sentence before it."""
    pending: tuple[int, int] | None = None
    for piece in _raw_sentences(text, start, end):
        joins = pending is not None and _CODE_ONLY.match(text[piece[0] : piece[1]])
        if pending is not None and joins:
            pending = (pending[0], piece[1])
            continue
        if pending is not None:
            yield from pieces_of(text, *pending)
        pending = piece
    if pending is not None:
        yield from pieces_of(text, *pending)


def _raw_sentences(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    begin = start
    for match in _SENTENCE_END.finditer(text, start, end):
        stop = match.end("end") if match["end"] else match.end("wide")
        if match["end"] and _ABBREVIATION.search(
            text, max(begin, match.start("end") - _ABBREVIATION_LONGEST), match.start("end") + 1
        ):
            continue
        yield trimmed(text, begin, stop)
        begin = stop
    if text[begin:end].strip():
        yield trimmed(text, begin, end)


def pieces_of(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Cut a slice that is too long for a unit, at a line's end or at least at a blank."""
    while end - start > LONGEST:
        limit = start + LONGEST
        cut = max(text.rfind("\n", start + 1, limit), -1)
        cut = cut if cut > start else text.rfind(" ", start + 1, limit)
        cut = cut if cut > start else limit
        yield trimmed(text, start, cut)
        start = cut
    if text[start:end].strip():
        yield trimmed(text, start, end)
