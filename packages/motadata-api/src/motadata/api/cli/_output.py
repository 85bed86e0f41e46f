"""What commands print: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel
from rich.console import Console


_PIPE_WIDTH: Final = 400


def results_console() -> Console:
    """Return the console for what a command was asked for."""
    # What goes into a file or a pipe is not broken at the width of a terminal that is not there.
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    return Console(highlight=False, markup=False, emoji=False, width=width)


def errors_console() -> Console:
    """Return the console for progress and errors."""
    width = None if sys.stderr.isatty() else _PIPE_WIDTH
    return Console(stderr=True, highlight=False, markup=False, emoji=False, width=width)


def print_json(body: BaseModel | Mapping[str, object]) -> None:
    """Print one JSON object in one line."""
    values = body.model_dump(mode="json") if isinstance(body, BaseModel) else body
    sys.stdout.write(json.dumps(values, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def printable(text: str) -> str:
    """Return text of a document without what a terminal would obey: escapes and other controls."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)
