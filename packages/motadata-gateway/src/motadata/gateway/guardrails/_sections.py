"""Labels of a text and what it says under them, whether it is Markdown, plain lines or JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from motadata.gateway.guardrails._folding import Folding


_FENCE: Final = re.compile(r"```(?:json)?\s*\n")
_FIRST_BRACE: Final = 200
# Where a line goes on with another label: "Impact: high, Urgency: low".
_NEXT_LABEL: Final = re.compile(r"[,;|.][ \t]+(?=[A-Za-z][A-Za-z -]{0,30}:)")
_LONGEST_LABEL: Final = 60
_MOST_LABEL_WORDS: Final = 6
_MOST_DEPTH: Final = 8
_BOLD, _PLAIN, _NUMBERED, _BULLETED = 7, 8, 9, 10
_LEAD: Final = re.compile(
    r"(?P<indent>[ \t>]*)(?P<mark>#{1,6}|[-*+\u2022](?=\s)|[0-9]{1,2}[.)])?\s*"
)
_CAMEL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
# What stands under a label when nothing is said there.
_NOTHING: Final = frozenset(
    (
        *("tbd", "tba", "todo", "na", "n a", "none", "nil", "unknown", "pending", "not applicable"),
        *("to be defined", "to be determined", "to be decided", "to be confirmed", "not defined"),
        *("to be done", "not available", "not provided", "placeholder", "no plan", "missing"),
    )
)


class Sections:
    """What a text says, by label.

    Args:
        text: Any text.
        folding: Folds labels and words.
    """

    def __init__(self, text: str, folding: Folding) -> None:
        self._folding = folding
        self.sections: list[tuple[tuple[str, ...], str]] = []
        data = _json_of(text)
        pairs = _from_json(data, 0) if data is not None else _from_lines(text)
        for label, content in pairs:
            words = tuple(folding.words(label))
            if 0 < len(words) <= _MOST_LABEL_WORDS:
                self.sections.append((words, content))

    def under(self, labels: Sequence[Sequence[str]]) -> Iterator[str]:
        """Yield what is said under a label that holds one of these, folded."""
        for words, content in self.sections:
            if any(_holds(words, label) for label in labels):
                yield content

    def says(self, labels: Sequence[Sequence[str]]) -> bool:
        """Tell whether anything is said under one of these labels."""
        for content in self.under(labels):
            words = " ".join(self._folding.words(content))
            if words and words not in _NOTHING:
                return True
        return False


def _holds(words: Sequence[str], label: Sequence[str]) -> bool:
    length = len(label)
    return any(
        list(words[at : at + length]) == list(label) for at in range(len(words) - length + 1)
    )


def _json_of(text: str) -> Mapping[str, object] | None:
    fence = _FENCE.search(text)
    start = text.find("{", fence.end() if fence else 0)
    if not 0 <= start <= (fence.end() if fence else 0) + _FIRST_BRACE:
        return None
    try:
        value, _ = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _from_json(value: Mapping[str, object], depth: int) -> Iterator[tuple[str, str]]:
    for key, item in value.items():
        yield _CAMEL.sub(" ", key), " ".join(_leaves(item, depth))
        if isinstance(item, Mapping) and depth < _MOST_DEPTH:
            yield from _from_json(item, depth + 1)


def _leaves(value: object, depth: int) -> Iterator[str]:
    if depth > _MOST_DEPTH or value is None:
        return
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _leaves(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item, depth + 1)
    else:
        yield str(value)


def _from_lines(text: str) -> Iterator[tuple[str, str]]:
    """Yield labels and contents; a label's content ends at the next one of its level or above."""
    opened: list[tuple[int, str, list[str]]] = []
    for line in text.splitlines():
        row = line.lstrip().startswith("|")
        for piece in (line,) if row else _NEXT_LABEL.split(line):
            level, label, content = _read(piece)
            if label is None:
                for _, _, said in opened[-_MOST_DEPTH:]:
                    said.append(content)
                continue
            while opened and opened[-1][0] >= level:
                _, closed, said = opened.pop()
                yield closed, "\n".join(said)
            for _, _, said in opened[-_MOST_DEPTH:]:
                # A heading alone under another heading says nothing yet.
                said.append(content)
            opened.append((level, label, [content]))
    while opened:
        _, closed, said = opened.pop()
        yield closed, "\n".join(said)


def _read(line: str) -> tuple[int, str | None, str]:
    """Return a line's level, its label if it has one, and the rest of it."""
    stripped = line.strip()
    if stripped.startswith("|") and stripped.count("|") > 2:  # noqa: PLR2004 - a row of two cells
        cells = [cell.strip(" *_") for cell in stripped.strip("|").split("|")]
        return _PLAIN, cells[0], " ".join(cells[1:]).strip("-: ")
    lead = _LEAD.match(line)
    mark = (lead["mark"] or "") if lead else ""
    body = line[lead.end() :].strip() if lead else stripped
    level = len(lead["indent"]) if lead else 0
    if mark.startswith("#"):
        label, _, content = body.strip("#*_ ").partition(":")
        return len(mark), label, content
    level += _BULLETED if mark in ("-", "*", "+", "\u2022") else _NUMBERED if mark else _PLAIN
    label, colon, content = body.partition(":")
    if colon and len(label) <= _LONGEST_LABEL and "//" not in content[:2]:
        return level, label.strip("*_ "), content.strip("*_ ")
    if body.startswith("**") and body.endswith("**") and len(body) <= _LONGEST_LABEL:
        return _BOLD, body.strip("*"), ""
    return level, None, body
