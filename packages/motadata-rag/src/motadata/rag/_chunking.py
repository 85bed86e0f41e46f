"""Cuts a document into chunks: whole sentences, under one heading, within a token budget.

Chunks are spans of the text, so `text[start:end]` is the chunk, exactly. The same text and sections
give the same chunks on every machine; `CHUNKER_VERSION` grows when that changes.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from motadata.core.models import Section
from motadata.rag._sentences import Block, Span, blocks, lines, sentences


CHUNKER_VERSION: Final = 2
DEFAULT_BUDGET: Final = 220
DEFAULT_OVERLAP: Final = 30

_HEADING_SEPARATOR: Final = " > "
_SMALL: Final = 4  # a section below a quarter of the budget is merged with its neighbour
_NO_PUNCTUATION: Final = str.maketrans("", "", string.punctuation)
_WINDOW: Final = 4  # no token estimate is below a quarter of a character


@dataclass(frozen=True, slots=True)
class Chunk:
    """A span of a document's text.

    Attributes:
        page: Page on which it begins.
        heading: Heading above it; of several sections merged, what their headings have in common.
        sections: The document's sections that it touches, cut to it.
    """

    ordinal: int
    start: int
    end: int
    page: int | None
    heading: str | None
    sections: tuple[Section, ...]


@dataclass(frozen=True, slots=True)
class _Region:
    """Neighbouring sections under one heading, pages disregarded."""

    start: int
    end: int
    heading: str | None


def estimate_tokens(text: str) -> float:
    """Return about how many tokens a word-piece model makes of `text`; seldom too few.

    A token is four characters of English. Punctuation mostly is a token of its own, and so is a
    Chinese, Japanese or Korean character (two bytes of UTF-8 more than characters).
    """
    characters = len(text)
    beyond_ascii = 0 if text.isascii() else len(text.encode("utf-8", "replace")) - characters
    punctuation = characters - len(text.translate(_NO_PUNCTUATION))
    return characters / 4 + beyond_ascii * 0.375 + punctuation / 2


def chunk_text(
    text: str,
    sections: Sequence[Section] = (),
    *,
    budget: int = DEFAULT_BUDGET,
    overlap: int = DEFAULT_OVERLAP,
) -> list[Chunk]:
    """Cut `text` into chunks of at most `budget` estimated tokens.

    Every character that is no blank is in a chunk. Where a section is longer than the budget,
    neighbouring chunks share up to `overlap` tokens of whole sentences.
    """
    spans: list[Span] = []
    for group in _merged(text, _regions(text, sections), budget):
        start, end = group[0].start, group[-1].end
        if len(group) > 1:
            spans.extend(_trim(text, start, end))
        else:
            spans.extend(_pack(text, blocks(text, start, end), budget=budget, overlap=overlap))
    return list(_located(spans, sections))


def _regions(text: str, sections: Sequence[Section]) -> list[_Region]:
    """Cover the text with regions; a gap between sections is a region without heading."""
    regions: list[_Region] = []

    def add(start: int, end: int, heading: str | None) -> None:
        if start >= end:
            return
        if regions and regions[-1].heading == heading:
            regions[-1] = _Region(regions[-1].start, end, heading)
        else:
            regions.append(_Region(start, end, heading))

    position = 0
    for section in sections:
        start, end = max(section.start, position), min(section.end, len(text))
        # Blanks between two sections are no section of their own.
        if text[position:start].strip():
            add(position, start, None)
        add(start, end, section.heading)
        position = max(position, end)
    if text[position:].strip():
        add(position, len(text), None)
    return regions


def _merged(text: str, regions: Iterable[_Region], budget: int) -> Iterator[list[_Region]]:
    """Yield runs of regions that make one chunk each, and single larger ones."""
    group: list[_Region] = []
    size = 0.0
    for region in regions:
        own = estimate_tokens(text[region.start : region.end])
        between = region.start - group[-1].end if group else 0
        together = size + own + between
        if group and together <= budget and min(size, own) * _SMALL < budget:
            group.append(region)
            size = together
            continue
        if group:
            yield group
        group, size = [region], own
    if group:
        yield group


def _pack(text: str, found: Iterable[Block], *, budget: int, overlap: int) -> Iterator[Span]:
    """Fill chunks with blocks; a block that does not fit goes on to the next one, or is cut."""
    current: list[Span] = []
    for run in _held_together(text, found, budget):
        units = [unit for block in run for unit in _units(text, block, budget)]
        whole = (units[0][0], units[-1][1])
        if not current or _fits(text, current, whole[1], budget):
            if _fits(text, units[:1], whole[1], budget):
                current.extend(units)
                continue
        elif _fits(text, units[:1], whole[1], budget) and _is_filled(text, current, budget):
            announcing = _announcing(text, current)
            yield _span(current[: len(current) - len(announcing)])
            current = announcing
            if _fits(text, [*current, *units], whole[1], budget):
                current.extend(units)
                continue
        for unit in units:
            if current and not _fits(text, current, unit[1], budget):
                yield _span(current)
                current = _carried(text, current, unit, budget=budget, overlap=overlap)
            current.append(unit)
    if current:
        yield _span(current)


def _announcing(text: str, current: Sequence[Span]) -> list[Span]:
    """Return the last sentence of a chunk if it announces what follows: `Criteria include:`."""
    announces = len(current) > 1 and text[current[-1][1] - 1] == ":"
    return [current[-1]] if announces else []


def _held_together(text: str, found: Iterable[Block], budget: int) -> Iterator[list[Block]]:
    """Yield blocks, each behind the heading or the announcing line (`… by running:`) above it."""
    run: list[Block] = []
    for block in found:
        leads = block.kind == "heading" or text[block.end - 1] == ":"
        if run and estimate_tokens(text[run[0].start : block.end]) > budget:
            yield run
            run = []
        run.append(block)
        if not leads:
            yield run
            run = []
    if run:
        yield run


def _units(text: str, block: Block, budget: int) -> Iterator[Span]:
    """Yield the sentences or lines of a block, those above the budget cut at blanks."""
    cut = sentences if block.kind == "prose" else lines
    for start, end in cut(text, block.start, block.end):
        if estimate_tokens(text[start:end]) <= budget:
            yield start, end
        else:
            yield from _forced(text, start, end, budget)


def _forced(text: str, start: int, end: int, budget: int) -> Iterator[Span]:
    """Cut what has no sentences, such as minified JSON: at a blank if there is one."""
    while start < end:
        stop = min(end, start + budget * _WINDOW)
        while estimate_tokens(text[start:stop]) > budget:
            stop = start + max(1, (stop - start) * 7 // 8)
        if stop < end:
            blank = max(text.rfind(mark, start + (stop - start) // 2, stop) for mark in " \n\t,;")
            stop = blank + 1 if blank > start else stop
        yield from _trim(text, start, stop)
        start = stop


def _carried(
    text: str, current: Sequence[Span], following: Span, *, budget: int, overlap: int
) -> list[Span]:
    """Return the last sentences of a chunk that the next one repeats."""
    carried: list[Span] = []
    for unit in reversed(current[1:]):
        longer = [unit, *carried]
        if estimate_tokens(text[unit[0] : current[-1][1]]) > overlap:
            break
        if not _fits(text, longer, following[1], budget):
            break
        carried = longer
    return carried


def _fits(text: str, units: Sequence[Span], end: int, budget: int) -> bool:
    return estimate_tokens(text[units[0][0] : end]) <= budget


def _is_filled(text: str, units: Sequence[Span], budget: int) -> bool:
    return estimate_tokens(text[units[0][0] : units[-1][1]]) * 3 >= budget


def _span(units: Sequence[Span]) -> Span:
    return units[0][0], units[-1][1]


def _trim(text: str, start: int, end: int) -> Iterator[Span]:
    stripped = text[start:end].strip()
    if stripped:
        first = start + len(text[start:end]) - len(text[start:end].lstrip())
        yield first, first + len(stripped)


def _located(spans: Iterable[Span], sections: Sequence[Section]) -> Iterator[Chunk]:
    first = 0
    for ordinal, (start, end) in enumerate(spans):
        while first < len(sections) and sections[first].end <= start:
            first += 1
        touched: list[Section] = []
        for section in sections[first:]:
            if section.start >= end:
                break
            cut = max(section.start, start), min(section.end, end)
            if cut[0] < cut[1]:
                touched.append(Section(*cut, page=section.page, heading=section.heading))
        page = touched[0].page if touched else None
        heading = _common_heading([section.heading for section in touched])
        yield Chunk(ordinal, start, end, page, heading, tuple(touched))


def _common_heading(headings: Sequence[str | None]) -> str | None:
    """Return the deepest heading that all are under; without one, the first there is."""
    named = [heading.split(_HEADING_SEPARATOR) for heading in headings if heading]
    if not named:
        return None
    common: list[str] = []
    for parts in zip(*named, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return _HEADING_SEPARATOR.join(common or named[0])
