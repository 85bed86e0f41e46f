"""Tells text formats apart: HTML, JSON, JSON lines, CSV, Markdown, or plain text."""

from __future__ import annotations

import csv
import json
import re
from typing import Final, Literal


TextFormat = Literal["text", "markdown", "html", "csv", "json", "jsonl"]

_HTML_START: Final = re.compile(
    r"\s*(?:<\?xml[^>]{0,200}\?>\s*)?(?:<!--.{0,4000}?-->\s*){0,4}"
    r"<(?:!doctype\s+html|html|head|body)\b",
    re.IGNORECASE | re.DOTALL,
)
_TAG: Final = re.compile(
    r"<(p|div|h[1-6]|ul|ol|li|table|tr|td|a|span|br|title|section|article)\b[^<>]{0,500}>",
    re.IGNORECASE,
)
_MARKDOWN_SIGNS: Final = tuple(
    re.compile(pattern, re.MULTILINE)
    for pattern in (
        r"^#{1,6} \S",
        r"^(?:```|~~~)",
        r"\[[^\]\n]{1,200}\]\([^)\s]{1,500}\)",
        r"^\|?(?: ?:?-{3,}:? ?\|){1,50}",
        r"\*\*[^*\n]{1,200}\*\*",
        r"\A---\n(?:[\w-]+:.*\n){1,30}---\n",
        r"^[*+-] \S",
    )
)
_HTML_NAMES: Final = frozenset({".html", ".htm", ".xhtml"})
_MARKDOWN_NAMES: Final = frozenset({".md", ".markdown", ".mdown", ".mkd", ".mdx"})
_CSV_NAMES: Final = frozenset({".csv", ".tsv", ".tab"})
_JSON_LINES_NAMES: Final = frozenset({".jsonl", ".ndjson"})
_OPEN_NAMES: Final = frozenset({"", ".txt", ".text", ".log", ".dat", ".pdf", ".docx", ".doc"})
_FEWEST_TAGS: Final = 3
_FEWEST_SIGNS: Final = 2
_FEWEST_RECORDS: Final = 2
_FEWEST_ROWS: Final = 4
_FEWEST_COLUMNS: Final = 3
_SAMPLE: Final = 64 * 1024
_SAMPLE_ROWS: Final = 20
_DELIMITERS: Final = ",;\t|"


def text_format(text: str, suffix: str) -> TextFormat:
    """Return the format of a text.

    Args:
        text: The whole text.
        suffix: Ending of the file's name in lower case, with its dot, or an empty string.
    """
    start = text[:_SAMPLE].lstrip("\ufeff \t\r\n")
    if _HTML_START.match(start):
        return "html"
    structured = _structured(text, start, suffix)
    if structured is not None:
        return structured
    if suffix in _HTML_NAMES and _TAG.search(start):
        return "html"
    if suffix in _MARKDOWN_NAMES:
        return "markdown"
    if suffix in _CSV_NAMES:
        return "csv"
    if suffix not in _OPEN_NAMES and suffix not in _HTML_NAMES:
        return "text"  # a program, a log, a configuration: its comments are no headings
    return _by_looks(start)


def _structured(text: str, start: str, suffix: str) -> TextFormat | None:
    if suffix in _JSON_LINES_NAMES:
        return "jsonl"
    if suffix == ".json":
        return "jsonl" if _is_json_lines(start) else "json"
    if not start.startswith(("{", "[")):
        return None
    # The cheap question first: no document whose every line is a value is one value as a whole.
    if _is_json_lines(start):
        return "jsonl"
    return "json" if _is_json(text) else None


def _by_looks(start: str) -> TextFormat:
    tags = {match[1].lower() for match in _TAG.finditer(start)}
    if start.startswith("<") and len(tags) >= _FEWEST_TAGS:
        return "html"
    signs = sum(1 for sign in _MARKDOWN_SIGNS if sign.search(start))
    if signs >= _FEWEST_SIGNS:
        return "markdown"
    return "csv" if _is_table(start) else "text"


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_int=str)
    except RecursionError:
        return True  # and too deep to read, as its reader will say
    except ValueError:
        return False
    return True


def _is_json_lines(start: str) -> bool:
    lines = [line for line in start.splitlines()[:_SAMPLE_ROWS] if line.strip()]
    if len(start) >= _SAMPLE - 4:
        lines = lines[:-1] or lines  # the sample may end within a line
    return len(lines) >= _FEWEST_RECORDS and all(
        line.lstrip()[:1] in "{[" and _is_json(line) for line in lines
    )


def _is_table(start: str) -> bool:
    """Tell whether a text without a telling name has the even rows of a table."""
    lines = [line for line in start.splitlines()[: _SAMPLE_ROWS + 1] if line.strip()]
    if len(lines) < _FEWEST_ROWS:
        return False
    for delimiter in _DELIMITERS:
        try:
            widths = {len(row) for row in csv.reader(lines[:_SAMPLE_ROWS], delimiter=delimiter)}
        except csv.Error:
            continue
        if len(widths) == 1 and widths.pop() >= _FEWEST_COLUMNS:
            return True
    return False
