"""The rules of a pack at work: each tells where a text breaks it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from motadata.core.errors import ConfigurationError
from motadata.core.protocols import GuardedText
from motadata.gateway.guardrails._folding import Folding
from motadata.gateway.guardrails._pack_models import (
    DocumentKind,
    ForbiddenRule,
    MatrixRule,
    OrderRule,
    PackData,
    PatternRule,
    SectionRule,
)
from motadata.gateway.guardrails._patterns import compiled
from motadata.gateway.guardrails._phrases import PhraseFound, PhraseTable, is_one_sentence
from motadata.gateway.guardrails._sections import Sections


Broken = tuple[str, int, int]
"""Name of a rule, and where it is broken; from 0 to 0 means the text as a whole."""

_HEAD: int = 300
_AROUND: int = 2  # words between a value and its name, in prose


@dataclass(slots=True)
class Reading:
    """A text while the rules of a pack read it; what one of them found out serves all."""

    about: GuardedText
    folding: Folding
    _sections: Sections | None = None
    _words: list[str] | None = None
    _head: str | None = None

    @property
    def sections(self) -> Sections:
        """What the text says, by label."""
        if self._sections is None:
            self._sections = Sections(self.about.text, self.folding)
        return self._sections

    @property
    def head(self) -> str:
        """The folded words at the top of the text, with spaces around each."""
        if self._head is None:
            self._head = f" {' '.join(self.folding.words(self.about.text[:_HEAD]))} "
        return self._head

    @property
    def words(self) -> list[str]:
        """The folded words of the text."""
        if self._words is None:
            self._words = self.folding.words(self.about.text)
        return self._words


class Judge(ABC):
    """One rule, or several, ready to read texts."""

    @abstractmethod
    def broken(self, reading: Reading) -> Iterator[Broken]:
        """Yield which rules a text breaks, and where."""


def judges_of(pack: PackData, folding: Folding) -> Sequence[Judge]:
    """Return the rules of a pack, ready to read.

    Raises:
        ConfigurationError: Two have the same name, or one names a document that is not there.
    """
    names = [rule.name for rule in pack.rules]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        message = f"The pack {pack.name!r} has two rules {twice!r}."
        raise ConfigurationError(message, remedy="Rename one of them.")
    # All phrases of a pack are looked up in one table.
    forbidden = [rule for rule in pack.rules if isinstance(rule, ForbiddenRule)]
    others = [rule for rule in pack.rules if not isinstance(rule, ForbiddenRule)]
    judges: list[Judge] = [_judge(rule, pack, folding) for rule in others]
    return (*judges, _Forbidden(forbidden)) if forbidden else tuple(judges)


def _judge(
    rule: SectionRule | MatrixRule | OrderRule | PatternRule, pack: PackData, folding: Folding
) -> Judge:
    match rule:
        case SectionRule():
            return _Section(rule, _document(rule.document, pack, folding), folding)
        case MatrixRule():
            return _Matrix(rule, _document(rule.document, pack, folding), folding)
        case OrderRule():
            return _Order(rule)
        case PatternRule():
            return _Pattern(rule)


class _Document:
    """Tells whether a text is of a kind."""

    def __init__(self, kind: DocumentKind, folding: Folding) -> None:
        self._features = frozenset(kind.features)
        self._headings = [f" {' '.join(folding.words(heading))} " for heading in kind.headings]

    def is_one(self, reading: Reading) -> bool:
        if reading.about.feature in self._features:
            return True
        head = reading.head
        return any(heading in head for heading in self._headings)


def _document(name: str, pack: PackData, folding: Folding) -> _Document:
    kind = pack.documents.get(name)
    if kind is None:
        message = f"A rule of the pack {pack.name!r} is about {name!r}, which is no document of it."
        raise ConfigurationError(message, remedy=f"Add [documents.{name}].")
    return _Document(kind, folding)


class _Section(Judge):
    def __init__(self, rule: SectionRule, document: _Document, folding: Folding) -> None:
        self._name = rule.name
        self._document = document
        self._labels = [folding.words(label) for label in rule.labels]

    def broken(self, reading: Reading) -> Iterator[Broken]:
        if self._document.is_one(reading) and not reading.sections.says(self._labels):
            yield self._name, 0, 0


class _Matrix(Judge):
    def __init__(self, rule: MatrixRule, document: _Document, folding: Folding) -> None:
        self._name = rule.name
        self._document = document
        self._folding = folding
        self._names = [
            tuple(folding.words(name)) for name in (rule.rows, rule.columns, rule.result)
        ]
        self._levels = _ranks(rule.levels, folding)
        self._results = _ranks(rule.results, folding)
        # Such as "p2", which says by itself what it is.
        self._codes = {
            word: rank
            for word, rank in self._results.items()
            if not (word.isalpha() or word.isdigit())
        }
        self._matrix = rule.matrix
        rows, columns = len(rule.matrix), {len(row) for row in rule.matrix}
        if rows != len(rule.levels) or columns != {len(rule.levels)}:
            message = f"The matrix of {rule.name!r} is not one row and column a level."
            raise ConfigurationError(message, remedy=f"Give {len(rule.levels)} of each.")

    def broken(self, reading: Reading) -> Iterator[Broken]:
        if not self._document.is_one(reading):
            return
        row, column = (self._value(reading, name, self._levels) for name in self._names[:2])
        result = self._value(reading, self._names[2], self._results)
        if result is None:
            said = {self._codes[word] for word in reading.words if word in self._codes}
            result = said.pop() if len(said) == 1 else None
        if (
            row is None
            or column is None
            or result is None
            or self._matrix[row][column] != result + 1
        ):
            yield self._name, 0, 0

    def _value(
        self, reading: Reading, name: tuple[str, ...], ranks: Mapping[str, int]
    ) -> int | None:
        for content in reading.sections.under([name]):
            for word in self._folding.words(content):
                if word in ranks:
                    return ranks[word]
        # In prose: "high impact", "the impact is high".
        words = reading.words
        for at, word in enumerate(words):
            if word == name[-1]:
                around = (words[max(0, at - 1) : at], words[at + 1 : at + 2 + _AROUND])
                for near in (*around[0], *around[1]):
                    if near in ranks:
                        return ranks[near]
        return None


def _ranks(ranks: Sequence[Sequence[str]], folding: Folding) -> dict[str, int]:
    return {
        folding.words(word)[0]: rank
        for rank, words in enumerate(ranks)
        for word in words
        if len(folding.words(word)) == 1
    }


class _Order(Judge):
    def __init__(self, rule: OrderRule) -> None:
        self._name = rule.name
        self._phrases = PhraseTable({"step": rule.steps, "first": rule.first})
        self._joined_by = frozenset(rule.joined_by)
        # "After the check, do the step" names the check before the step, and asks for it.
        before = [word for word in rule.unless_before if word not in self._joined_by]
        self._unless = {
            "step": _Unless(rule.unless_before, rule.unless_inside),
            "first": _Unless(before, rule.unless_inside),
        }

    def broken(self, reading: Reading) -> Iterator[Broken]:
        text = reading.about.text
        found = sorted(
            (
                one
                for one in self._phrases.find(text, reading.words)
                if not self._unless[one.name].holds(one)
            ),
            key=lambda one: one.start,
        )
        for place, one in enumerate(found):
            if one.name == "first":
                return
            if not any(self._joins(one, later, text) for later in found[place + 1 :]):
                yield self._name, one.start, one.end
            return

    def _joins(self, step: PhraseFound, later: PhraseFound, text: str) -> bool:
        """Tell whether a sentence asks for what it names later before the step."""
        return (
            later.name == "first"
            and not self._joined_by.isdisjoint(later.before)
            and is_one_sentence(text[step.end : later.start])
        )


class _Forbidden(Judge):
    def __init__(self, rules: Sequence[ForbiddenRule]) -> None:
        self._phrases = PhraseTable({rule.name: rule.phrases for rule in rules})
        self._unless = {
            rule.name: _Unless(rule.unless_before, rule.unless_inside, rule.unless_after)
            for rule in rules
        }

    def broken(self, reading: Reading) -> Iterator[Broken]:
        for one in self._phrases.find(reading.about.text, reading.words):
            if not self._unless[one.name].holds(one):
                yield one.name, one.start, one.end


class _Unless:
    """Words in front of a phrase, within it or behind it, with which it does not count."""

    def __init__(
        self, before: Sequence[str], inside: Sequence[str], after: Sequence[str] = ()
    ) -> None:
        self._before = frozenset(before)
        self._inside = frozenset(inside)
        self._after = frozenset(after)

    def holds(self, found: PhraseFound) -> bool:
        return not (
            self._before.isdisjoint(found.before)
            and self._inside.isdisjoint(found.inside)
            and self._after.isdisjoint(found.after)
        )


class _Pattern(Judge):
    def __init__(self, rule: PatternRule) -> None:
        self._name = rule.name
        self._patterns = [compiled(pattern, of=rule.name) for pattern in rule.patterns]

    def broken(self, reading: Reading) -> Iterator[Broken]:
        for pattern in self._patterns:
            for found in pattern.finditer(reading.about.text):
                if found.start() < found.end():
                    yield self._name, found.start(), found.end()
