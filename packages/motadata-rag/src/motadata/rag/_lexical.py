"""Which words a text has, for the full-text side of the search.

Documents and queries go through the same function; PostgreSQL then stems what comes out and drops
stop words. Identifiers are found whole and by their parts: `CephMonQuorumAtRisk` also gives `ceph`,
`mon`, `quorum`, `at` and `risk`, and `INC-1234` also gives `inc` and `1234`. Scripts without blanks
between words give overlapping pairs of characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import Final


MAX_WORD: Final = 100
"""Characters of a word that count."""

# Indic and South-East Asian vowel signs are no word characters to `re`, though words hold them.
_LETTER: Final = r"[\w\u0900-\u0dff\u0e00-\u0eff]"
_COMPOUND: Final = re.compile(rf"{_LETTER}++(?:[-.:]{_LETTER}++)*+")
_PART: Final = re.compile(r"[^-.:_]++")
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_UNSPACED: Final = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    r"\uf900-\ufaff\U00020000-\U0002fa1f]++"
)


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a text.

    Attributes:
        counts: How often each occurs, identifiers and their parts alike.
        length: How many there are, an identifier of several parts counting its parts only.
    """

    counts: Counter[str]
    length: int


def words_of(text: str) -> Words:
    """Return the words of `text`, folded to lower case and compatibility forms."""
    counts: Counter[str] = Counter()
    length = 0
    for compound in _COMPOUND.findall(unicodedata.normalize("NFKC", text)):
        parts = _PART.findall(compound)
        if len(parts) > 1:
            counts[_folded(compound)] += 1
        for part in parts:
            found = _words_of_part(part)
            counts.update(found)
            length += 1 if len(found) == 1 else len(found) - 1
    return Words(counts, length)


def _words_of_part(part: str) -> list[str]:
    """Return a part itself, and behind it what it is composed of."""
    if part.isascii():
        humps = _HUMP.split(part) if not part.islower() else [part]
        return [_folded(part)] if len(humps) == 1 else [_folded(part), *map(_folded, humps)]
    runs = _UNSPACED.findall(part)
    if not runs:
        return [_folded(part)]
    pairs = [run[i : i + 2] for run in runs for i in range(max(1, len(run) - 1))]
    spaced = [_folded(word) for word in _UNSPACED.sub(" ", part).split()]
    return [*spaced, *pairs]


def _folded(word: str) -> str:
    return word.casefold()[:MAX_WORD]
