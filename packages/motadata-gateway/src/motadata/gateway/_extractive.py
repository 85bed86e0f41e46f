"""Answers composed of what the given passages say, word for word, and of nothing else."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

from motadata.core.errors import ValidationError
from motadata.core.models import Passage
from motadata.gateway._embedder import OfflineEmbedder
from motadata.gateway._ranking import Candidate, by_meaning, by_words
from motadata.gateway._words import content_stems, missing_names


UNKNOWN: Final = "I don't know."
"""The whole answer when no passage holds one."""

_MOST_UNITS: Final = 3
_MOST_CHARACTERS: Final = 1600
_MOST_READ: Final = 200_000
_MOST_PASSAGES: Final = 3
_NEAR_BEST: Final = 0.6
"""Share of the best unit's score from which the best unit of another passage joins the answer."""

_NEAR_BEST_OF_SAME: Final = 0.8
"""Share of the best unit's score from which another unit of the same passages joins it."""

_SAME: Final = 0.75
"""Share of common words from which on two units say the same."""

# Chosen on tools/questions/development-*.json, where 148 questions have an answer and 35 have none,
# and on 190 from other fields. At 0.40 the right passage is among the first three for 106 while 26
# and 180 are refused; at 0.36 108, 22 and 167; at 0.44 100, 27 and 186. Without a look at the names
# 100 went with 23, and 95 with 27.
_EVIDENCE_ENOUGH: Final = 0.40
_PER_SHARED_WORDS: Final = 0.2
"""What it is worth as evidence when the best unit holds all words of the question."""

_WORDS_ENOUGH: Final = 0.3
_WORDS_SHARED: Final = 2
_PER_MISSING_NAME: Final = 0.2
"""How much better the best unit has to be for each name in the question that no passage holds."""

_MOST_MISSING: Final = 2

_APART: Final = frozenset({"row", "code", "group"})
_MARK: Final = re.compile(r"\[(\d{1,4})\]")
_FENCE_AT_END: Final = re.compile(r"(?:```|~~~)\s*$")


async def answer_from_passages(
    question: str, passages: Sequence[Passage], embedder: OfflineEmbedder | None
) -> str:
    """Return up to three units of the passages that answer the question, each with its mark.

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
    if not ranked:
        return UNKNOWN
    texts = [f"{one.title} {one.heading or ''} {one.text}" for one in passages]
    missing = await asyncio.to_thread(missing_names, question, texts)
    if not _answers(ranked[0], missing):
        return UNKNOWN
    return _worded(_chosen(ranked, passages[0].number))


def _answers(best: Candidate, missing: int) -> bool:
    """Tell whether the best unit may be an answer, or is only the least bad one."""
    lacking = _PER_MISSING_NAME * min(missing, _MOST_MISSING)
    if best.meaning is None:
        return best.lexical - lacking >= _WORDS_ENOUGH and best.shared >= _WORDS_SHARED
    return best.meaning + _PER_SHARED_WORDS * best.lexical - lacking >= _EVIDENCE_ENOUGH


def _looks_cited(candidate: Candidate, passages: Sequence[Passage]) -> bool:
    """Tell whether a unit holds what would read as our mark, such as a footnote's `[2]`."""
    numbers = {str(passage.number) for passage in passages}
    return any(number in numbers for number in _MARK.findall(candidate.unit.text))


def _chosen(ranked: Sequence[Candidate], foremost: int) -> list[Candidate]:
    """Take the best unit of each of the best passages, then more of those passages.

    Several passages before several units of one: where the best unit is the wrong one, another
    passage helps more than its neighbour. The passage that the search put first has its place
    among them, whatever other passages say: it looked at whole passages, this looks at sentences.
    Units of one passage come in the passage's order.
    """
    leading = (one for one in ranked if one.passage.number == foremost)
    chosen: list[Candidate] = []
    for candidate in (*islice(leading, 1), *ranked):
        fresh = all(candidate.passage.number != one.passage.number for one in chosen)
        room = len(chosen) < _MOST_PASSAGES
        if fresh and room and _adds(candidate, chosen, _NEAR_BEST * ranked[0].score):
            chosen.append(candidate)
    chosen.sort(key=lambda one: -one.score)
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
