"""A passage cut into the units that can answer: sentences, list items, table rows, commands.

A unit is a slice of the passage, word for word. Where a sentence announces what follows ("Run:"),
the announcement and the list or code below it are one unit, next to the list's own items. What a
unit stands under (headings, the announcement of its list, the head of its table) goes with it as
context: it helps to find the unit, and is no part of an answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from motadata.gateway._blocks import Block, blocks_of, heading_of, items_of, lines_of, trimmed
from motadata.gateway._sentences import paragraphs_of, pieces_of, sentences_of


Kind = Literal["sentence", "item", "row", "code", "group"]

_GROUP_LONGEST: Final = 900
_TITLE_LONGEST: Final = 60
_RULE: Final = re.compile(r"[\s|:+=-]+$")


@dataclass(frozen=True, slots=True)
class Unit:
    """A slice of a passage that can stand in an answer.

    Attributes:
        start: Offset of its first character in the passage.
        end: Offset behind its last character.
        context: What it stands under, for finding it.
    """

    start: int
    end: int
    text: str
    kind: Kind
    context: str = ""


def units_of(text: str) -> list[Unit]:
    """Return the units of a passage in their order; a group stands before its parts."""
    found: list[Unit] = []
    heading = ""
    for block in blocks_of(text):
        if block.kind == "heading":
            heading = heading_of(text[block.start : block.end])
            continue
        announced = _announcement(text, found, block)
        if announced is None:
            found.extend(_units_of_block(text, block, heading))
            continue
        found.pop()
        found.extend(_announced(text, announced, block, heading))
        context = _joined(heading, _flat(announced.text))
        found.extend(_units_of_block(text, block, context))
    return [unit for unit in found if any(character.isalnum() for character in unit.text)]


def _announced(text: str, announced: Unit, block: Block, heading: str) -> Iterator[Unit]:
    """Yield a sentence together with the block that it leads to, as far as that is not too long."""
    end = block.end
    if end - announced.start > _GROUP_LONGEST:
        end = text.rfind("\n", block.start, announced.start + _GROUP_LONGEST)
    if end > block.start:
        yield _unit(text, announced.start, end, "group", heading)
    # One that only announces is no answer by itself; one that says something is.
    if end <= block.start or not announced.text.endswith(":"):
        yield announced


def _units_of_block(text: str, block: Block, above: str) -> Iterator[Unit]:
    if block.kind == "prose":
        yield from _paragraphs(text, block, above)
    elif block.kind == "fence":
        yield from _cut(text, block.start, block.end, "code", above)
    elif block.kind == "record":
        yield from _cut(text, block.start, block.end, "row", above)
    elif block.kind == "list":
        for start, end in items_of(text, block):
            yield from _cut(text, start, end, "item", above)
    else:
        yield from _rows(text, block, above)


def _paragraphs(text: str, block: Block, above: str) -> Iterator[Unit]:
    """Yield the sentences of each paragraph; titles are context."""
    title = ""
    for start, end in paragraphs_of(text, block.start, block.end):
        if _is_title(text, start, end, block.end):
            title = _flat(text[start:end])
            continue
        context = _joined(above, title)
        for first, last in sentences_of(text, start, end):
            yield _unit(text, first, last, "sentence", context)


def _is_title(text: str, start: int, end: int, block_end: int) -> bool:
    line = text[start:end]
    following = text[end : min(block_end, end + 2 * _TITLE_LONGEST)].strip()
    short = end - start <= _TITLE_LONGEST and "\n" not in line and len(following) > end - start
    return short and line[-1:] not in ".!?:;,)" and not any(c.isdigit() or c == "`" for c in line)


def _announcement(text: str, found: list[Unit], block: Block) -> Unit | None:
    """Return the sentence right above a block, when it leads to it."""
    last = found[-1] if found and block.kind in ("list", "fence", "table") else None
    if last is None or last.kind != "sentence" or text[last.end : block.start].strip():
        return None
    leads = last.text.rstrip("*_").endswith(":") or block.kind == "fence"
    return last if leads else None


def _rows(text: str, block: Block, above: str) -> Iterator[Unit]:
    """Yield the rows of a table, its head as context; a table without a head has rows only."""
    rows = list(lines_of(text, block.start, block.end))
    headed = len(rows) > 1 and _RULE.match(text[rows[1][0] : rows[1][1]]) is not None
    head = _flat(text[rows[0][0] : rows[0][1]].replace("|", " ")) if headed else ""
    context = _joined(above, head)
    for start, end in rows[2:] if headed else rows:
        if not _RULE.match(text[start:end]):
            yield _unit(text, start, end, "row", context)


def _cut(text: str, start: int, end: int, kind: Kind, context: str) -> Iterator[Unit]:
    for first, last in pieces_of(text, start, end):
        yield _unit(text, first, last, kind, context)


def _unit(text: str, start: int, end: int, kind: Kind, context: str) -> Unit:
    start, end = trimmed(text, start, end)
    return Unit(start, end, text[start:end], kind, context)


def _joined(above: str, below: str) -> str:
    return " > ".join(part for part in (above, below) if part)


def _flat(text: str) -> str:
    return " ".join(text.split())
