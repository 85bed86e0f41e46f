"""Many phrases looked for at once, however they are spelt."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from motadata.core.errors import ConfigurationError
from motadata.gateway.guardrails._folding import Folding, Word


_MOST_WORDS: Final = 12


@dataclass(frozen=True, slots=True)
class PhraseFound:
    """A phrase, and where it stands.

    Attributes:
        name: What it was listed under.
        before: The folded words in front of it in its sentence, the nearest first, at most eight.
    """

    name: str
    start: int
    end: int
    before: tuple[str, ...]


_WORDS_BEFORE: Final = 8
_SENTENCE_ENDS: Final = frozenset(".!?;\n")


class PhraseTable:
    """Phrases by name, looked up by the longest of their words; time grows with the text only.

    A word that ends with `*` stands for every word that begins so.

    Args:
        phrases: By name.

    Raises:
        ConfigurationError: A phrase has no letters, or more than twelve words.
    """

    def __init__(self, phrases: Mapping[str, Iterable[str]]) -> None:
        self._folding = Folding()
        self._by_word: dict[str, list[tuple[str, tuple[str, ...], int]]] = {}
        for name, texts in phrases.items():
            for text in texts:
                self._add(name, text)
        self._keys = frozenset(self._by_word)

    def find(self, text: str, words: Sequence[str] | None = None) -> Iterator[PhraseFound]:
        """Yield the phrases of a text.

        Args:
            text: Any text.
            words: Its folded words, when they are known.
        """
        folded = self._folding.words(text) if words is None else words
        if self._keys.isdisjoint(folded):
            return
        placed: Sequence[Word] = ()
        for place, word in enumerate(folded):
            for name, phrase, key in self._by_word.get(word, ()):
                first = place - key
                if first >= 0 and _stands(phrase, folded, first):
                    # Few texts come so far, and only they need to know where their words stand.
                    placed = placed or self._folding.placed(text)
                    before = tuple(_before(placed, first, text))
                    last = placed[first + len(phrase) - 1]
                    yield PhraseFound(name, placed[first].start, last.end, before)

    def _add(self, name: str, text: str) -> None:
        phrase = tuple(
            self._folding.words(word)[0] + ("*" if word.endswith("*") else "")
            for word in _spaced(text)
            if self._folding.words(word)
        )
        whole = [word for word in phrase if not word.endswith("*")]
        if not whole or len(phrase) > _MOST_WORDS:
            message = f"The phrase {text!r} of {name!r} cannot be looked for."
            raise ConfigurationError(message, remedy="Give 1 to 12 words, one of them whole.")
        key = max(whole, key=len)
        self._by_word.setdefault(key, []).append((name, phrase, phrase.index(key)))


def _before(words: Sequence[Word], first: int, text: str) -> Iterator[str]:
    """Yield the words in front of one, as far as its sentence goes."""
    for place in range(first - 1, max(-1, first - 1 - _WORDS_BEFORE), -1):
        if not _SENTENCE_ENDS.isdisjoint(text[words[place].end : words[place + 1].start]):
            return
        yield words[place].text


def _spaced(text: str) -> list[str]:
    return "".join(one if one.isalnum() or one in "*'" else " " for one in text).split()


def _stands(phrase: tuple[str, ...], words: Sequence[str], first: int) -> bool:
    if first + len(phrase) > len(words):
        return False
    return all(
        word.startswith(one[:-1]) if one.endswith("*") else word == one
        for one, word in zip(phrase, words[first : first + len(phrase)], strict=True)
    )
