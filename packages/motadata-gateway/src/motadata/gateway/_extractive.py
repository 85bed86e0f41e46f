"""Answers composed of what the given passages say, word for word, and of nothing else."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from typing import Final

from motadata.core.errors import ValidationError
from motadata.core.models import Passage
from motadata.gateway._embedder import OfflineEmbedder
from motadata.gateway._ranking import Candidate, by_meaning, by_words
from motadata.gateway._words import content_stems


UNKNOWN: Final = "I don't know."
"""The whole answer when no passage holds one."""

_MOST_UNITS: Final = 4
_MOST_CHARACTERS: Final = 1600
_MOST_READ: Final = 200_000
_MOST_PASSAGES: Final = 3
_NEAR_BEST: Final = 0.75
"""Share of the best unit's score from which the best unit of another passage joins the answer."""

_NEAR_BEST_FROM_BEHIND: Final = 0.9
"""The same for passages that are not among the most promising ones."""

_NEAR_BEST_OF_SAME: Final = 0.8
"""Share of the best unit's score from which another unit of the same passages joins it."""

_SAME: Final = 0.75
"""Share of common words from which on two units say the same."""

# Chosen on tools/questions/development-*.json: lower values answer more of what the documents do
# not say (12 of 21 refused at 0.36, 14 at 0.40), higher ones refuse what they do (42 of 60, 39 at
# 0.45).
_MEANING_ENOUGH: Final = 0.40
_MEANING_AT_LEAST: Final = 0.25
_WORDS_WITH_MEANING: Final = 0.6
_WORDS_ALONE: Final = 0.4
_WORDS_ALONE_SHARED: Final = 2

_APART: Final = frozenset({"row", "code", "group"})
_MARK: Final = re.compile(r"\[(\d{1,4})\]")
_FENCE_AT_END: Final = re.compile(r"(?:```|~~~)\s*$")


async def answer_from_passages(
    question: str, passages: Sequence[Passage], embedder: OfflineEmbedder | None
) -> str:
    """Return up to four units of the passages that answer the question, each with its mark.

    Args:
        question: What was asked.
        passages: What may be quoted, the most promising first.
        embedder: Compares meanings; None means that only words are compared.

    Raises:
        ValidationError: The passages are longer than 200,000 characters.
    """
    if sum(len(passage.text) for passage in passages) > _MOST_READ:
        message = f"The passages have more than {_MOST_READ} characters."
        raise ValidationError(message, remedy="Pass fewer of them.")
    # In a thread: cutting and comparing long passages would hold up everybody else.
    ranked = await asyncio.to_thread(by_words, question, passages)
    ranked = [one for one in ranked if not _looks_cited(one, passages)]
    if embedder is not None and ranked and question.strip():
        ranked = await by_meaning(question, ranked, embedder)
    if not ranked or not _answers(ranked[0]):
        return UNKNOWN
    return _worded(_chosen(ranked))


def _answers(best: Candidate) -> bool:
    if best.meaning is None:
        return best.lexical >= _WORDS_ALONE and best.shared >= _WORDS_ALONE_SHARED
    if best.meaning >= _MEANING_ENOUGH:
        return True
    return best.meaning >= _MEANING_AT_LEAST and best.lexical >= _WORDS_WITH_MEANING


def _looks_cited(candidate: Candidate, passages: Sequence[Passage]) -> bool:
    """Tell whether a unit holds what would read as our mark, such as a footnote's `[2]`."""
    numbers = {str(passage.number) for passage in passages}
    return any(number in numbers for number in _MARK.findall(candidate.unit.text))


def _chosen(ranked: Sequence[Candidate]) -> list[Candidate]:
    """Take the best unit of each of the best passages, then more of those passages.

    Several passages before several units of one: where the best unit is the wrong one, another
    passage helps more than its neighbour. Units of one passage come in the passage's order.
    """
    chosen: list[Candidate] = []
    # Passages come the most promising first; one far behind has to make up for it.
    leading = sorted({one.passage.number for one in ranked})[:_MOST_PASSAGES]
    for candidate in ranked:
        passages = {one.passage.number for one in chosen}
        fresh = candidate.passage.number not in passages and len(passages) < _MOST_PASSAGES
        share = _NEAR_BEST if candidate.passage.number in leading else _NEAR_BEST_FROM_BEHIND
        if not chosen or (fresh and _adds(candidate, chosen, share * ranked[0].score)):
            chosen.append(candidate)
    passages = {one.passage.number for one in chosen}
    for candidate in ranked:
        more = candidate.passage.number in passages and len(chosen) < _MOST_UNITS
        if more and _adds(candidate, chosen, _NEAR_BEST_OF_SAME * ranked[0].score):
            chosen.append(candidate)
    first = {one.passage.number: place for place, one in reversed(list(enumerate(chosen)))}
    return sorted(chosen, key=lambda one: (first[one.passage.number], one.unit.start))


def _adds(candidate: Candidate, chosen: Sequence[Candidate], at_least: float) -> bool:
    """Tell whether a unit is good enough, says something new and leaves the answer short."""
    length = sum(len(one.unit.text) for one in (*chosen, candidate))
    return (
        candidate.score >= at_least
        and length <= _MOST_CHARACTERS
        and not any(_repeats(candidate, one) for one in chosen)
    )


def _repeats(candidate: Candidate, other: Candidate) -> bool:
    """Tell whether two units overlap in one passage, or say the same in two."""
    one, two = candidate.unit, other.unit
    if candidate.passage.number == other.passage.number:
        return one.start < two.end and two.start < one.end
    first, second = content_stems(one.text), content_stems(two.text)
    return len(first & second) > _SAME * min(len(first), len(second))


def _worded(chosen: Iterable[Candidate]) -> str:
    """Join the units: sentences run on, what has lines of its own stands apart."""
    answer, was_apart = "", False
    for candidate in chosen:
        text = _layout(candidate)
        before_mark = "\n" if _FENCE_AT_END.search(text) else " "
        apart = candidate.unit.kind in _APART or "\n" in text
        if answer:
            answer += "\n\n" if apart or was_apart else " "
        answer += f"{text}{before_mark}[{candidate.passage.number}]"
        was_apart = apart
    return answer


def _layout(candidate: Candidate) -> str:
    if candidate.unit.kind in ("sentence", "item") and "```" not in candidate.unit.text:
        return " ".join(candidate.unit.text.split())
    return candidate.unit.text
