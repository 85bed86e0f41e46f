"""Which words two texts share, by their stems: the lexical half of choosing a sentence."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final


_WORD: Final = re.compile(r"[^\W_]+")
_CAMEL: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_STANDS_OUT: Final = re.compile(r"(?<=[^\W_])[A-Z]|[^\W\d_]\d|\d[^\W\d_]")
_SENTENCE_END: Final = re.compile(r"[.!?:\n]")
_MANY_CAPITALS: Final = 4
_VOWEL: Final = re.compile(r"[aeiouy]")
_STOP_WORDS: Final = frozenset(
    "a about after all also am an and any are as at be because been before being but by can cannot "  # noqa: SIM905 - a list of words reads best as text
    "could did do does doing done each else for from get gets getting give given go goes going got "
    "had has have having he her here hers him his how i if in into is it its just kind let like "
    "many may me might more most much must my need needs no nor not of off on once one only onto "
    "or our ours out over own please same say says shall she should show so some such tell than "
    "that the their theirs them then there these they thing things this those through to too under "
    "up upon us very want was we were what whatever when where whether which while who whom whose "
    "why will with within without would you your yours s t d ll re ve m don doesn isn aren".split()
)


def missing_names(question: str, texts: Iterable[str]) -> int:
    """Return how many names in a question stand in none of the texts.

    A name is a word whose capital no beginning of a sentence explains, or which mixes letters with
    digits: `Kenya`, `LDAP`, `NIS2`. Who asks about one is not answered by words about another.
    Where a quarter of the words begin with a capital, as German nouns and titles do, that tells
    nothing.
    """
    text = unicodedata.normalize("NFKC", question)
    if text.upper() == text:
        return 0
    words, names, capital, end = 0, set[str](), set[str](), 0
    for match in _WORD.finditer(text):
        word, before = match.group(), text[end : match.start()]
        begins, end = end == 0 or _SENTENCE_END.search(before) is not None, match.end()
        words += 1
        if _STANDS_OUT.search(word):
            names.add(word)
        elif word[0].isupper() and not begins and len(word) > 1:
            capital.add(word)
    if len(capital) * _MANY_CAPITALS < words:
        names |= capital
    wanted = {stem(word) for word in map(str.casefold, names) if _carries(word)}
    return len(wanted - content_stems("\n".join(texts))) if wanted else 0


def content_stems(text: str) -> frozenset[str]:
    """Return the stems of the words that carry meaning; names in camel case also by their parts."""
    return frozenset(
        stem(word) for word in _words(unicodedata.normalize("NFKC", text)) if _carries(word)
    )


@lru_cache(maxsize=20_000)
def stem(word: str) -> str:
    """Return a lower-case English word without its inflection; other words lose little by it."""
    if len(word) <= 3 or not word.isalpha():  # noqa: PLR2004 - too short to have an ending
        return word
    word = _singular(word)
    for ending in ("ing", "ed"):
        root = word.removesuffix(ending)
        if root != word and len(root) > 2 and _VOWEL.search(root):  # noqa: PLR2004 - keeps `bed`
            word = root[:-1] if root[-1] == root[-2] and root[-1] not in "lsz" else root
            break
    if word.endswith("ly") and len(word) > 5:  # noqa: PLR2004 - keeps `apply`
        word = word[:-2]
    return word[:-1] if word.endswith("e") and len(word) > 3 else word  # noqa: PLR2004


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:  # noqa: PLR2004 - keeps `dies`
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes", "zes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def _words(text: str) -> Iterator[str]:
    for match in _WORD.finditer(text):
        word = match.group()
        yield word.casefold()
        parts = _CAMEL.findall(word) if not word.islower() else ()
        if len(parts) > 1:
            yield from (part.casefold() for part in parts)


def _carries(word: str) -> bool:
    return word not in _STOP_WORDS and (len(word) > 1 or word.isdigit() or not word.isascii())
