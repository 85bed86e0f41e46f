"""Words as they sound, however they are spelt: the same letters from any alphabet, any case.

A text is decomposed (NFKD, Unicode Standard Annex 15), accents and invisible characters are
dropped, letters that look Latin become Latin (a part of Unicode Technical Standard 39's
confusables), case is folded, and what is no letter or digit parts words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


_LOOKALIKES: Final = dict(
    zip(
        "авекмнорстухіјѕԁԛԝҽһӏցոսօʏɡıαβεηικμνορτυχγω",
        "abekmhopctyxijsdqwehlgnuoygiabenikuvoptuxyw",
        strict=True,
    )
)
_APOSTROPHE: Final = "\N{RIGHT SINGLE QUOTATION MARK}"
_INVISIBLE: Final = frozenset({"Cf", "Mn", "Me"})
_MOST_KNOWN: Final = 4096
_TOKEN: Final = re.compile(r"\S+")
_ASCII_WORDS: Final = {
    code: chr(code).lower() if chr(code).isalnum() else " " for code in range(128)
} | {ord("'"): ""}


@dataclass(frozen=True, slots=True)
class Word:
    """A folded word, and where it stands in the text as it was written."""

    text: str
    start: int
    end: int


class Folding(dict[int, str]):
    """Folds texts; it remembers how characters fold, a few thousand of them."""

    def __missing__(self, code: int) -> str:
        """Fold a character that was not met before."""
        folded = _folded(chr(code))
        if len(self) < _MOST_KNOWN:
            self[code] = folded
        return folded

    def words(self, text: str) -> list[str]:
        """Return the folded words of a text."""
        return text.translate(_ASCII_WORDS if text.isascii() else self).split()

    def placed(self, text: str) -> Sequence[Word]:
        """Return the folded words with their places."""
        letters: list[str] = []
        places: list[int] = []
        for place, character in enumerate(text):
            folded = self[ord(character)]
            letters.append(folded)
            places += [place] * len(folded)
        return [
            Word(found.group(), places[found.start()], places[found.end() - 1] + 1)
            for found in _TOKEN.finditer("".join(letters))
        ]


def _folded(character: str) -> str:
    if character.isascii():
        return _ASCII_WORDS[ord(character)]
    pieces = unicodedata.normalize("NFKD", character).casefold()
    return "".join(_letter(piece) for piece in pieces)


def _letter(character: str) -> str:
    if (
        unicodedata.category(character) in _INVISIBLE
        or character == "\N{RIGHT SINGLE QUOTATION MARK}"
    ):
        return ""
    if not character.isalnum():
        return " "
    return _LOOKALIKES.get(character, character)
