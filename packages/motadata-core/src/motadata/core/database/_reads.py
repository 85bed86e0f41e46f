"""Tells statements that may run as a read, in one round trip, from all others."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final


_LEADING: Final = re.compile(
    r"(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/)*(?:select|with|values|table)\b",
    re.IGNORECASE | re.DOTALL,
)
# What writes, locks rows, or leaves something in the session. Words in literals and names count
# too: a statement that is taken for none of ours takes the longer way, which serves all.
_UNFIT: Final = re.compile(
    r"\b(?:insert|update|delete|merge|into|share|set_config|nextval|setval|\w*advisory\w*)\b",
    re.IGNORECASE,
)
_REMEMBERED: Final = 512
_LONGEST: Final = 15_000
"""Characters; the driver keeps no longer statement prepared."""


@lru_cache(maxsize=_REMEMBERED)
def looks_like_a_read(sql: str) -> bool:
    """Tell whether the text promises a read; the server has the last word (SQLSTATE 25006)."""
    return len(sql) <= _LONGEST and _LEADING.match(sql) is not None and _UNFIT.search(sql) is None


class Reads:
    """Which statements run as reads; one that turns out to write is remembered as no read."""

    __slots__ = ("_writing",)

    def __init__(self) -> None:
        self._writing: set[str] = set()

    def is_read(self, sql: str) -> bool:
        """Tell whether to try a statement as a read."""
        return looks_like_a_read(sql) and sql not in self._writing

    def writes(self, sql: str) -> None:
        """Remember that the server refused a statement in a read-only transaction."""
        if len(self._writing) >= _REMEMBERED:
            self._writing.clear()
        self._writing.add(sql)
