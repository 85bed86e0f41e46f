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
        inside: The folded words that stand for its `...`.
        after: Those behind it in its sentence, like `before`.
    """

    name: str
    start: int
    end: int
    before: tuple[str, ...]
    inside: tuple[str, ...]
    after: tuple[str, ...]


_GAP: Final = "..."
_WIDEST_GAP: Final = 6
_WORDS_BESIDE: Final = 8
_SENTENCE_ENDS: Final = frozenset(".!?;\n")


class PhraseTable:
    """Phrases by name, looked up by the longest of their words; time grows with the text only.

    A word that ends with `*` stands for every word that begins so, and `...` for up to six words
    of the same sentence: `reset ... password`.

    Args:
        phrases: By name.

    Raises:
        ConfigurationError: A phrase has no letters, or more than twelve words.
    """

    def __init__(self, phrases: Mapping[str, Iterable[str]]) -> None:
        self._folding = Folding()
        # By a word of theirs: the phrases' names, and what stands to its left and to its right.
        self._by_word: dict[str, list[tuple[str, tuple[str, ...], tuple[str, ...]]]] = {}
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
            for name, left, right in self._by_word.get(word, ()):
                before, after = _reach(left, folded, place, -1), _reach(right, folded, place, 1)
                if before is None or after is None:
                    continue
                # Few texts come so far, and only they need to know where their words stand.
                placed = placed or self._folding.placed(text)
                (first, *skipped), (last, *more) = before, after
                inside = (*skipped, *more)
                if inside and not is_one_sentence(text[placed[first].start : placed[last].end]):
                    continue
                yield PhraseFound(
                    name,
                    placed[first].start,
                    placed[last].end,
                    tuple(_beside(placed, first, text, -1)),
                    tuple(folded[at] for at in inside),
                    tuple(_beside(placed, last, text, 1)),
                )

    def _add(self, name: str, text: str) -> None:
        phrase: list[str] = []
        for number, piece in enumerate(text.split(_GAP)):
            phrase += [_GAP] if number else []
            phrase += [
                self._folding.words(word)[0] + ("*" if word.endswith("*") else "")
                for word in _spaced(piece)
                if self._folding.words(word)
            ]
        whole = [word for word in phrase if not word.endswith("*") and word != _GAP]
        if not whole or len(phrase) > _MOST_WORDS or _GAP in (phrase[0], phrase[-1]):
            message = f"The phrase {text!r} of {name!r} cannot be looked for."
            remedy = "Give 1 to 12 words, one of them whole, the first and the last no '...'."
            raise ConfigurationError(message, remedy=remedy)
        key = phrase.index(max(whole, key=len))
        left, right = tuple(reversed(phrase[:key])), tuple(phrase[key + 1 :])
        self._by_word.setdefault(phrase[key], []).append((name, left, right))


def is_one_sentence(text: str) -> bool:
    """Tell whether no sentence ends within a text."""
    return _SENTENCE_ENDS.isdisjoint(text)


def _beside(words: Sequence[Word], place: int, text: str, step: int) -> Iterator[str]:
    """Yield the words next to one, as far as its sentence goes."""
    for _ in range(_WORDS_BESIDE):
        near = place + step
        if not 0 <= near < len(words):
            return
        left, right = sorted((place, near))
        if not is_one_sentence(text[words[left].end : words[right].start]):
            return
        yield words[near].text
        place = near


def _spaced(text: str) -> list[str]:
    return "".join(one if one.isalnum() or one in "*'" else " " for one in text).split()


def _reach(parts: tuple[str, ...], words: Sequence[str], place: int, step: int) -> list[int] | None:
    """Return the place of the last of some parts, then those of the words that gaps stand for.

    Args:
        parts: Of a phrase, from a word of it outwards.
        words: Of the text.
        place: Where that word stands.
        step: 1 to the right of it, -1 to its left.
    """
    skipped: list[int] = []
    widest = 0
    for part in parts:
        if part == _GAP:
            widest = _WIDEST_GAP
            continue
        for ahead in range(1, widest + 2):
            at = place + step * ahead
            if not 0 <= at < len(words):
                return None
            if words[at].startswith(part[:-1]) if part.endswith("*") else words[at] == part:
                break
        else:
            return None
        skipped += range(place + step, at, step)
        place, widest = at, 0
    return [place, *skipped]
