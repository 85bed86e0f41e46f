"""How well each unit of the passages answers a question: by words, and by meaning when it can.

Words: the share of the question's words that a unit holds, rare words counting more, and words of
what it stands under counting half. Meaning: the cosine of the question's and the unit's vectors. A
unit that has the form that the question asks for (a figure, a command) gets a little more.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from motadata.core.models import Passage
from motadata.gateway._embedder import OfflineEmbedder
from motadata.gateway._units import Unit, units_of
from motadata.gateway._words import content_stems


MEANING_SHARE: Final = 0.6
_CONTEXT_WEIGHT: Final = 0.5
_COMPARED: Final = (3, 3, 3, 2, 2, 1)
"""How many units of a passage are compared by meaning, by its rank; of those behind, one each."""

_MOST_COMPARED: Final = 20
"""How many units are compared in all: what an embedding costs is what an answer costs."""

_EMBEDDED_CHARACTERS: Final = 180
_EMBEDDED_CONTEXT: Final = 120
"""Characters of what a unit stands under that are embedded with it, the last ones."""

_FIGURE_ASKED: Final = re.compile(
    r"\bhow (?:many|much|long|often|fast|soon|large|big|high|low|far|old|early|late)\b"
    r"|\bwhen\b|\bwh(?:at|ich)\b.*\b(?:time|level|limit|percentage|number|size|age|threshold|"
    r"deadline|date|version|port|cost|price|amount|rate|temperature|mtu|target)\b",
    re.IGNORECASE | re.DOTALL,
)
_ACTION_ASKED: Final = re.compile(
    r"\bhow (?:do|can|should|would|to|are|is)\b|\bwh(?:at|ich) (?:command|steps?|procedure)\b"
    r"|\bwhat (?:should|do|can|must) (?:i|we|you)\b",
    re.IGNORECASE,
)
_FORM_BONUS: Final = 0.04
_LINK: Final = re.compile(r"!?\[[^\]]*\]\([^)]*\)|https?://\S+")
_LINK_MALUS: Final = 0.15
_MOSTLY: Final = 0.4
_RANK_MALUS: Final = 0.015
"""What a unit loses for each passage that the search found more promising than its own."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A unit with how well it answers.

    Attributes:
        lexical: Share of the question's words that it or its context holds, 0 to 1.
        shared: How many of the question's words it or its context holds.
        meaning: Cosine to the question; None when it was not compared.
        score: All of it in one number.
    """

    passage: Passage
    unit: Unit
    lexical: float
    meaning: float | None
    score: float
    shared: int


def by_words(question: str, passages: Sequence[Passage]) -> list[Candidate]:
    """Return every unit of every passage, scored by its words, best first."""
    wanted = content_stems(question)
    units = [(passage, unit) for passage in passages for unit in units_of(passage.text)]
    stems = [content_stems(unit.text) for _, unit in units]
    contexts = [
        content_stems(f"{passage.title} {passage.heading or ''} {unit.context}") - own
        for (passage, unit), own in zip(units, stems, strict=True)
    ]
    weights = _weights(wanted, stems)
    total = sum(weights.values()) or 1.0
    ranks = {passage.number: rank for rank, passage in enumerate(passages)}
    found = []
    for (passage, unit), own, context in zip(units, stems, contexts, strict=True):
        shared = sum(weights[word] for word in wanted & own)
        above = sum(weights[word] for word in wanted & context)
        lexical = (shared + _CONTEXT_WEIGHT * above) / total
        count = len(wanted & (own | context))
        bonus = _form_bonus(question, unit) - _RANK_MALUS * ranks[passage.number]
        found.append(Candidate(passage, unit, lexical, None, lexical + bonus, count))
    return sorted(found, key=lambda candidate: -candidate.score)


async def by_meaning(
    question: str, candidates: Sequence[Candidate], embedder: OfflineEmbedder
) -> list[Candidate]:
    """Return the best candidates by words, scored by words and meaning, best first."""
    chosen = to_compare(candidates)
    texts = [_with_context(candidate) for candidate in chosen]
    vectors, _ = await embedder.embed([question, *texts])
    found = []
    for candidate, vector in zip(chosen, vectors[1:], strict=True):
        meaning = sum(a * b for a, b in zip(vectors[0], vector, strict=True))
        bonus = candidate.score - candidate.lexical
        score = (1 - MEANING_SHARE) * candidate.lexical + MEANING_SHARE * meaning + bonus
        found.append(replace(candidate, meaning=meaning, score=score))
    return sorted(found, key=lambda candidate: -candidate.score)


def to_compare(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the best candidates of each passage by words, more of the more promising passages.

    The search found passages by meaning too: the answer in one may share no word with the question.
    """
    chosen: list[Candidate] = []
    for rank, number in enumerate(sorted({one.passage.number for one in candidates})):
        own = (one for one in candidates if one.passage.number == number)
        chosen.extend(islice(own, _COMPARED[min(rank, len(_COMPARED) - 1)]))
    return chosen[:_MOST_COMPARED]


def _weights(wanted: frozenset[str], units: Sequence[frozenset[str]]) -> dict[str, float]:
    counts = Counter(word for unit in units for word in unit & wanted)
    size = len(units)
    return {word: math.log(1 + (size + 0.5) / (counts[word] + 0.5)) for word in wanted}


def _form_bonus(question: str, unit: Unit) -> float:
    bonus = 0.0
    if _FIGURE_ASKED.search(question) and any(character.isdigit() for character in unit.text):
        bonus += _FORM_BONUS
    if _ACTION_ASKED.search(question) and (unit.kind in ("group", "item") or "`" in unit.text):
        bonus += _FORM_BONUS
    if len(_LINK.sub("", unit.text)) < _MOSTLY * len(unit.text):
        bonus -= _LINK_MALUS
    return bonus


def _with_context(candidate: Candidate) -> str:
    passage, unit = candidate.passage, candidate.unit
    above = " > ".join(
        part
        for part in (passage.title, (passage.heading or "").split(" > ")[-1], unit.context)
        if part
    )
    words = unit.text[:_EMBEDDED_CHARACTERS]
    return f"{above[-_EMBEDDED_CONTEXT:]}: {words}" if above else words
