"""Turns the lines of PDF pages back into text: running headers, broken words, broken paragraphs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final


_BREAK: Final = "\ufffe"  # what PDFium writes for a hyphen at the end of a line, and the line end
_EDGE: Final = 2
_FEWEST_PAGES: Final = 4
_FEWEST_LINES: Final = 3
_SHARE: Final = 0.4
_RUNNING_CHARACTERS: Final = 150
_DIGITS: Final = re.compile(r"\d+")
_NUMBER_ONLY: Final = re.compile(
    r"(?:page\s*)?[-\u2013\u2014\s]*#[-\u2013\u2014\s]*(?:(?:of|/)\s*#)?", re.IGNORECASE
)
_WORD: Final = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
# A match starts where a word does: from within, a long run would be tried once a letter.
_BROKEN: Final = re.compile(
    rf"(?<![^\W_])([^\W_]*){_BREAK}\s*([^\W_]*)|(?<![^\W\d_])([^\W\d_]+)-\n\s*([^\W\d_]+)"
)
_SYMBOL_BULLET: Final = re.compile("^[\uf000-\uf0ff](?=\\s)", re.MULTILINE)
_ENDS: Final = (".", ":", ";", "!", "?", "…", '."', ".”", ".)")
_ITEM: Final = re.compile(r"(?:[•\u2013\u2014▪●○◦*·-]|\(?\w{1,3}[.)]|\d+(?:\.\d+)+)\s")
_FULL_LINE: Final = 0.75
_HALF_LINE: Final = 0.4  # what is shorter is a heading or a label
_SHORTEST_FULL: Final = 40
_LEADERS: Final = "....."


def drop_running_lines(pages: list[list[str]]) -> list[list[str]]:
    """Return the pages without the headers and footers that repeat on them.

    A line within two of a page's edge runs when it stands there on two pages of five, and on three
    at least; the outermost line of a page with several may differ in its digits. The first
    occurrence stays unless it is only a page number.
    """
    if len(pages) < _FEWEST_PAGES:
        return pages
    edges = [_edges(lines) for lines in pages]
    counts = Counter(shape for found in edges for shape in set(found.values()))
    fewest = max(3, _SHARE * len(pages))
    running = {shape for shape, count in counts.items() if count >= fewest}
    seen: set[str] = set()
    kept = []
    for lines, found in zip(pages, edges, strict=True):
        dropped = {
            at
            for at, shape in found.items()
            if shape in running and (shape in seen or _NUMBER_ONLY.fullmatch(shape))
        }
        seen.update(found.values())
        kept.append([line for at, line in enumerate(lines) if at not in dropped])
    return kept


def _edges(lines: list[str]) -> dict[int, str]:
    """Return the outermost lines that hold something, each in the shape in which it may repeat."""
    filled = [at for at, line in enumerate(lines) if line.strip()]
    outermost = {filled[0], filled[-1]} if len(filled) >= _FEWEST_LINES else set()
    shapes = {}
    for at in {*filled[:_EDGE], *filled[-_EDGE:]}:
        text = " ".join(lines[at].split())
        masked = _DIGITS.sub("#", text)
        if len(text) <= _RUNNING_CHARACTERS:
            loose = at in outermost or _NUMBER_ONLY.fullmatch(masked)
            shapes[at] = masked if loose else text
    return shapes


class Reflow:
    """Joins lines into paragraphs and broken words, by the words of the same document."""

    def __init__(self, pages: list[list[str]]) -> None:
        self._words: set[str] = set()
        lengths: list[int] = []
        for lines in pages:
            # The halves of broken words are no evidence of words.
            whole = _BROKEN.sub(" ", "\n".join(line.strip() for line in lines))
            self._words.update(match[0].lower() for match in _WORD.finditer(whole))
            lengths.extend(len(line.strip()) for line in lines if line.strip())
        lengths.sort()
        usual = lengths[len(lengths) * 9 // 10] if lengths else 0
        self._full = max(_SHORTEST_FULL, usual * _FULL_LINE)
        self._half = usual * _HALF_LINE

    def join(self, lines: list[str]) -> str:
        """Return the lines as text."""
        text = _BROKEN.sub(self._mend, "\n".join(line.strip() for line in lines))
        text = _SYMBOL_BULLET.sub("•", text)
        return "".join(self._paragraphs(text.split("\n")))

    def _mend(self, match: re.Match[str]) -> str:
        """Decide whether a hyphen at a line's end belongs to the word or to the line."""
        left, right = (match[1], match[2]) if match[3] is None else (match[3], match[4])
        whole, hyphened = f"{left}{right}".lower(), f"{left}-{right}".lower()
        if not left or not right:
            return f"{left}-{right}"
        if hyphened in self._words:
            return f"{left}-{right}"
        if whole in self._words:
            return f"{left}{right}"
        both_words = left.lower() in self._words and right.lower() in self._words
        if both_words or not left.isalpha() or not right.isalpha() or not right.islower():
            return f"{left}-{right}"
        return f"{left}{right}"

    def _paragraphs(self, lines: list[str]) -> Iterator[str]:
        previous = ""
        for number, line in enumerate(lines):
            if number:
                yield " " if self._continues(previous, line) else "\n"
            yield line
            previous = line

    def _continues(self, before: str, line: str) -> bool:
        """Tell whether a line goes on with the sentence of the one before it."""
        if not before or not line or _LEADERS in before or _ITEM.match(line):
            return False
        if before.endswith(_ENDS):
            return False
        return len(before) >= (self._half if line[0].islower() else self._full)
