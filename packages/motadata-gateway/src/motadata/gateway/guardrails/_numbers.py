"""Finds numbers that prove themselves by check digits: cards, IBANs, identity numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final

from motadata.core.protocols import GuardedText
from motadata.core.recognisers import is_card_number, is_iban, national_id


Span = tuple[int, int]
Groups = Sequence[Span]
"""Where digits stand in a text, group by group, those of UUIDs left out."""

FEWEST_DIGITS: Final = 6
"""A text with fewer holds no card and no identity number."""

_GROUP: Final = re.compile(r"[0-9]+")
_UUID: Final = re.compile(
    r"(?<![\w-])[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}(?![\w-])", re.IGNORECASE
)
_IBAN: Final = re.compile(r"[0-9]{2}(?:[ -]?[a-z0-9]){11,30}", re.IGNORECASE)
_LETTERED: Final = re.compile(r"[XYZ]?[0-9]{7,17}[A-Z]|[12][0-9]{5}2[AB][0-9]{8}", re.ASCII)
_SEPARATORS: Final = re.compile(r"[ .-]")
# Digits of a card by its first one: Mastercard 2 and 5, Visa 4, American Express, Diners and JCB 3,
# Discover and UnionPay 6 (ISO/IEC 7812 and the networks' own rules).
_CARD_LENGTHS: Final = {
    "2": (16,),
    "3": (14, 15, 16),
    "4": (13, 16, 19),
    "5": (16,),
    "6": (16, 17, 18, 19),
}
_CARDS: Final = frozenset(range(13, 20))
_IDENTITIES: Final = frozenset({11, 12, 15, 18})
_MOST_GROUPS_OF_IDENTITY: Final = 6
_SHORTEST: Final = 11
_HYPHENS: Final = 4


def digit_groups(text: str) -> Groups:
    """Return where digits stand in a text."""
    groups = [found.span() for found in _GROUP.finditer(text)]
    if not groups or text.count("-") < _HYPHENS:
        return groups
    uuids = [found.span() for found in _UUID.finditer(text)]
    return _outside(groups, uuids) if uuids else groups


def count_digits(digits: Groups) -> int:
    """Return how many digits there are in all."""
    return sum([end - start for start, end in digits])


def find_cards(about: GuardedText, digits: Groups) -> Iterator[Span]:
    """Yield payment cards: 13 to 19 digits with their network's length and check digit."""
    if count_digits(digits) < _SHORTEST:
        return
    for groups in _numbers(about.text, digits, " -"):
        yield from _within(about.text, groups, _is_card, lengths=_CARDS, most=max(_CARDS))


def find_national_ids(about: GuardedText, digits: Groups) -> Iterator[Span]:
    """Yield identity numbers of the countries that `national_id` knows."""
    text = about.text
    long = count_digits(digits) >= _SHORTEST
    for groups in _numbers(text, digits, " .-") if long else ():
        yield from _within(
            text, groups, _is_national_id, lengths=_IDENTITIES, most=_MOST_GROUPS_OF_IDENTITY
        )
    for start, end in digits:
        if end - start < FEWEST_DIGITS or not text[end : end + 1].isalpha():
            continue
        start -= text[start - 1 : start] in ("X", "Y", "Z")  # noqa: PLW2901 - it begins there
        found = _LETTERED.match(text, start)
        if found is None or _in_word(text[start - 1 : start]):
            continue
        if not _in_word(text[found.end() : found.end() + 1]) and national_id(found[0]):
            yield found.span()


def find_ibans(about: GuardedText, digits: Groups) -> Iterator[Span]:
    """Yield account numbers with their country's length and check digits."""
    text, passed = about.text, 0
    for place, _ in digits:
        start = place - 2
        country = text[max(0, start) : place]
        if start < passed or not (country.isascii() and country.isalpha()):
            continue
        found = None if _in_word(text[start - 1 : start]) else _IBAN.match(text, place)
        for end in () if found is None else _ends(found):
            if is_iban(_SEPARATORS.sub("", text[start:end]).upper()):
                yield start, end
                passed = end
                break


def _ends(found: re.Match[str]) -> list[int]:
    """Return where a number may end, the longest first: at its separators and at its end."""
    breaks = [found.start() + match.start() for match in _SEPARATORS.finditer(found.group())]
    return [found.end(), *reversed(breaks)]


def _outside(groups: Groups, places: Sequence[Span]) -> Groups:
    """Return the groups that lie in none of some places; both are in order."""
    kept, at = [], 0
    for start, end in groups:
        while at < len(places) and places[at][1] <= start:
            at += 1
        if at == len(places) or end <= places[at][0]:
            kept.append((start, end))
    return kept


def _numbers(text: str, digits: Groups, separators: str) -> Iterator[list[Span]]:
    """Yield groups that follow each other with one separator between, without parts of words."""
    number: list[Span] = []
    total = 0
    for start, end in digits:
        if number and not (start == number[-1][1] + 1 and text[start - 1] in separators):
            if total >= _SHORTEST:
                yield number
            number, total = [], 0
        if _in_word(text[start - 1 : start]) or _in_word(text[end : end + 1]):
            if total >= _SHORTEST:
                yield number
            number, total = [], 0
            continue
        number.append((start, end))
        total += end - start
    if total >= _SHORTEST:
        yield number


def _in_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _within(
    text: str,
    groups: list[Span],
    holds: Callable[[str], bool],
    *,
    lengths: Collection[int],
    most: int,
) -> Iterator[Span]:
    """Yield runs of whole groups that are a number of the kind, the longest first."""
    first, longest = 0, max(lengths)
    while first < len(groups):
        start, digits, runs = groups[first][0], 0, []
        for last in range(first, min(len(groups), first + most)):
            digits += groups[last][1] - groups[last][0]
            if digits > longest:
                break
            if digits in lengths:
                runs.append(last)
        for last in reversed(runs):
            end = groups[last][1]
            if holds(_SEPARATORS.sub("", text[start:end])):
                yield start, end
                first = last
                break
        first += 1


def _is_card(digits: str) -> bool:
    return len(digits) in _CARD_LENGTHS.get(digits[0], ()) and is_card_number(digits)


def _is_national_id(digits: str) -> bool:
    return national_id(digits) is not None
