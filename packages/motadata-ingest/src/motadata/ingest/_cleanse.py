"""Turns raw text into text that can be stored, searched and shown, and drops what hides in it.

Each piece of a document is cleansed before the pieces are joined, so that the offsets of sections
are exact by construction and never have to be carried through an edit.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final


# Every line end but LF itself, those of Unicode included.
_LINE_ENDS: Final = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")

# Controls (but TAB and LF), lone surrogates and code points that are no characters.
_UNSTORABLE: Final = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)

# What no reader sees and a language model reads all the same: zero-width characters, direction
# overrides, invisible operators, interlinear annotations, tag characters, the selectors that can
# carry arbitrary bytes. A zero-width joiner between letters that need it (Persian, Indic scripts,
# emoji) is spelling and stays, and so does a single emoji selector.
_HIDDEN: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u206f\ufeff\ufff0-\ufffb\U000e0000-\U000e0fff]"
    "|[\u200c\u200d]{2,}|(?<![^\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f])"
    "|[\ufe00-\ufe0f]{2,}"
)
# For text that was nested so as to need a pass a level: all of them go, whatever they join.
_ANY_HIDDEN: Final = re.compile(f"{_HIDDEN.pattern}|[\u200c\u200d\ufe00-\ufe0f]")
_PASSES: Final = 8
_SOFT_HYPHEN: Final = "\u00ad"
_BLANK_LINES: Final = re.compile(r"\n{3,}")
_SPACES: Final = str.maketrans(dict.fromkeys("\u00a0\u2007\u202f", " "))


def cleanse(text: str) -> tuple[str, int]:
    """Return the text in its stored form, and how many hidden characters it lost.

    The result is in Unicode's composed form, has LF line ends, no trailing blanks, at most one
    blank line in a row, and neither controls nor invisible characters. Cleansing it again changes
    nothing.
    """
    text = _LINE_ENDS.sub("\n", text)
    text = _UNSTORABLE.sub("", text).translate(_SPACES)
    # Composed before, since neighbours decide what may be joined, and after, since letters meet.
    text, hidden = _drop_hidden(unicodedata.normalize("NFC", text))
    text = unicodedata.normalize("NFC", text)
    text = "\n".join(line.rstrip(" \t") for line in text.split("\n"))
    return _BLANK_LINES.sub("\n\n", text).strip("\n"), hidden


def clean_line(text: str, *, longest: int = 300) -> str:
    """Return the text as one line, for titles, headings and labels."""
    return " ".join(cleanse(text[: longest * 4])[0].split())[:longest].rstrip()


def _drop_hidden(text: str) -> tuple[str, int]:
    """Drop until nothing is left to drop: what was apart may meet and hide anew."""
    hidden = 0
    for attempt in range(_PASSES):
        if _HIDDEN.search(text) is None:
            break
        pattern = _HIDDEN if attempt < _PASSES - 1 else _ANY_HIDDEN
        # Soft hyphens are a typesetter's, not an attacker's, and are dropped without being counted.
        hidden -= text.count(_SOFT_HYPHEN)
        before = len(text)
        text = pattern.sub("", text)
        hidden += before - len(text)
    return text, hidden
