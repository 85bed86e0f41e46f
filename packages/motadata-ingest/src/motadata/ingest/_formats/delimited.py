"""CSV and TSV: each row becomes lines of `header: value`, each group of rows a section."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator
from typing import Final

from motadata.core.errors import UnreadableFileError
from motadata.ingest._draft import Budget, Draft, Piece


_ROWS_PER_SECTION: Final = 25
_SECTIONS: Final = 2_000
_SAMPLE_LINES: Final = 50
_DELIMITERS: Final = ",;\t|"
_NUMBER: Final = re.compile(r"[-+]?[\d.,:/ ]*\d[\d.,:/ %]*")
_FIELD_CHARACTERS: Final = (
    2**31 - 1
)  # the budget bounds the text; csv's own limit of 128 KB is too low


def read_delimited(text: str, budget: Budget) -> Draft:
    """Return the rows as readable records.

    The first row is the header unless it holds numbers, blanks or a name twice; then the columns
    are called `column 1`, `column 2` and so on.

    Raises:
        UnreadableFileError: The quoting is broken beyond the first line.
        FileTooLargeError: The text, headers repeated, is longer than the limit.
    """
    csv.field_size_limit(_FIELD_CHARACTERS)
    delimiter = _delimiter(text)
    rows = _rows(text, delimiter)
    first = next(rows, [])
    header = _header(first)
    draft = Draft("text/tab-separated-values" if delimiter == "\t" else "text/csv")
    records: list[str] = []
    for row in rows if header else _chain(first, rows):
        record = _record(row, header)
        if record:
            records.append(budget.spend(record))
    draft.pieces.extend(_group(records))
    if not records and header:
        draft.pieces.append(Piece(budget.spend(", ".join(header))))
    draft.metadata["rows"] = str(len(records))
    return draft


def _group(records: list[str]) -> Iterator[Piece]:
    """Put equally many rows into each section, and more of them where the table is long."""
    size = max(_ROWS_PER_SECTION, math.ceil(len(records) / _SECTIONS))
    for at in range(0, len(records), size):
        group = records[at : at + size]
        heading = f"Rows {at + 1} to {at + len(group)}" if len(group) > 1 else f"Row {at + 1}"
        yield Piece("\n\n".join(group), heading=heading)


def _rows(text: str, delimiter: str) -> Iterator[list[str]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield [" ".join(cell.split()) for cell in row]
    except csv.Error as error:
        message = f"The table cannot be read behind line {reader.line_num}: {error}."
        raise UnreadableFileError(message, remedy="Export it again as CSV in UTF-8.") from error


def _chain(first: list[str], rows: Iterator[list[str]]) -> Iterator[list[str]]:
    if first:
        yield first
    yield from rows


def _delimiter(text: str) -> str:
    """Return the delimiter that splits most of the first lines into equally many columns."""
    lines = text[: 64 * 1024].splitlines()[:_SAMPLE_LINES]

    def score(delimiter: str) -> tuple[int, int]:
        try:
            widths = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
        except csv.Error:
            return (0, 0)
        usual = max(set(widths), key=widths.count, default=1)
        return (widths.count(usual) if usual > 1 else 0, usual)

    return max(_DELIMITERS, key=score)


def _header(first: list[str]) -> list[str]:
    names = [name.lower() for name in first]
    plain = all(name and not _NUMBER.fullmatch(name) for name in names)
    return first if plain and len(set(names)) == len(names) else []


def _record(row: list[str], header: list[str]) -> str:
    lines = []
    for number, value in enumerate(row):
        if value:
            name = header[number] if number < len(header) else f"column {number + 1}"
            lines.append(f"{name}: {value}")
    return "\n".join(lines)
