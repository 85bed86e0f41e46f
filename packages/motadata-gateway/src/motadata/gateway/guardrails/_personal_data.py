"""Finds what identifies people: addresses, numbers with check digits, telephone numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from motadata.core.protocols import Finding, FindingAction, GuardedText
from motadata.core.recognisers import is_card_number, is_iban, is_personal_address, national_id
from motadata.gateway.guardrails._phones import PhoneFinder
from motadata.gateway.guardrails._rule import TextRule, check_action, check_choice


KINDS: Final = ("email", "card", "iban", "ip", "national_id", "phone")

Span = tuple[int, int]

_LOCAL_PART: Final = re.compile(r"[\w.+%-]+")
_MOST_LOCAL: Final = 64
_DOMAIN: Final = re.compile(r"(?:[\w-]{1,63}\.){1,8}[a-z]{2,63}(?![\w-])", re.IGNORECASE)
# What a domain may begin with, when the text ends within it.
_DOMAIN_BEGUN: Final = re.compile(r"[\w.-]*\Z")
_DIGIT: Final = re.compile(r"[0-9]")
_IBAN: Final = re.compile(r"[0-9]{2}(?:[ -]?[a-z0-9]){11,30}", re.IGNORECASE)
_IP4: Final = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?!\.?\w)")
_IP6: Final = re.compile(
    r"(?<![\w:.])(?:[0-9a-f]{0,4}:){2,7}(?:[0-9a-f]{1,4}|[0-9.]{7,15})?(?![\w:])", re.IGNORECASE
)
# Groups of digits with single separators between them; one group may end with a letter or two
# of them stand within, as some identity numbers have it.
_NUMBER: Final = re.compile(r"[0-9]+(?:[ .-]?[0-9]+)*")
_GROUP: Final = re.compile(r"[0-9]+")
_LETTERED: Final = re.compile(r"[XYZ]?[0-9]{7,17}[A-Z]|[12][0-9]{5}2[AB][0-9]{8}", re.ASCII)
_UUID: Final = re.compile(
    r"(?<![\w-])[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}(?![\w-])", re.IGNORECASE
)
_SEPARATORS: Final = re.compile(r"[ .-]")
# Digits of a card by its first one: Mastercard 2 and 5, Visa 4, American Express, Diners and JCB 3,
# Discover and UnionPay 6 (ISO/IEC 7812 and the networks' own rules).
_CARD_LENGTHS: Final = {"2": (16,), "3": (14, 15, 16), "4": (13, 16, 19), "5": (16,)}
_CARD_LENGTHS_OF_6: Final = (16, 17, 18, 19)
_MOST_DIGITS: Final = 19
_CARD_SEPARATORS: Final = re.compile(r"[ -]")
_SHORTEST_ID: Final = 9


class PersonalData(TextRule):
    """Masks, tokenises or refuses what identifies people.

    Where a number has a check digit, it decides. The default is to mask: the model reads
    `[email]`. Tokenised, it reads `[EMAIL_1]`, and the caller reads the original again where the
    answer has it; this is for inputs, and in outputs the same as masking.

    Args:
        action: What to do with what is found.
        kinds: What to look for, of `KINDS`. None means all but telephone numbers.
        actions: Other actions, by kind.
        region: Where telephone numbers without a country code are dialled, such as `IN`; None
            finds those that begin with `+` only. Kind `phone` needs the extra `guardrails`.
        name: Name that the rules begin with.

    Raises:
        ConfigurationError: A kind, an action or the region does not exist.
        MissingExtraError: Telephone numbers are looked for without the extra `guardrails`.
    """

    def __init__(
        self,
        action: FindingAction = "mask",
        *,
        kinds: Sequence[str] | None = None,
        actions: Mapping[str, FindingAction] | None = None,
        region: str | None = None,
        name: str = "pii",
    ) -> None:
        chosen = tuple(kind for kind in KINDS if kind != "phone") if kinds is None else kinds
        check_choice(chosen, KINDS, what="kinds")
        check_choice(tuple(actions or ()), chosen, what="actions")
        for one in (action, *(actions or {}).values()):
            check_action(one, what=name)
        self._finders = _finders(chosen, region)
        self._actions = {kind: (actions or {}).get(kind, action) for kind in chosen}
        described = (sorted(self._actions.items()), region)
        super().__init__(name, described=described)

    def find(self, text: GuardedText) -> Sequence[Finding]:
        """Return where something identifies somebody."""
        return [
            Finding(f"{self.name}.{kind}", self._actions[kind], start, end, f"[{kind}]")
            for kind, finder in self._finders
            for start, end in finder(text)
        ]


_Finder = Callable[[GuardedText], Iterator[Span]]


def _finders(kinds: Sequence[str], region: str | None) -> tuple[tuple[str, _Finder], ...]:
    known: dict[str, _Finder] = {
        "email": _emails,
        "card": _cards,
        "iban": _ibans,
        "ip": _addresses,
        "national_id": _national_ids,
    }
    if "phone" in kinds:
        known["phone"] = PhoneFinder(region).find
    return tuple((kind, known[kind]) for kind in KINDS if kind in kinds)


def _emails(about: GuardedText) -> Iterator[Span]:
    text = about.text
    at = text.find("@")
    while at >= 0:
        # Only the 64 characters before the sign are looked at, so that a long word costs nothing.
        backwards = text[max(0, at - _MOST_LOCAL) : at][::-1]
        local = _LOCAL_PART.match(backwards)
        if local is not None:
            domain = _DOMAIN.match(text, at + 1)
            if domain is None and not about.final:
                domain = _DOMAIN_BEGUN.match(text, at + 1)
            if domain is not None:
                yield at - local.end(), domain.end()
        at = text.find("@", at + 1)


def _ibans(about: GuardedText) -> Iterator[Span]:
    text = about.text
    if _DIGIT.search(text) is None:
        return
    position = 0
    while (found := _IBAN.search(text, position)) is not None:
        start = found.start() - 2
        position = found.start() + 1
        country = text[max(0, start) : found.start()]
        if len(country) < 2 or not (country.isascii() and country.isalpha()):  # noqa: PLR2004
            continue
        if text[max(0, start - 1) : start].isalnum():
            continue
        for end in _ends(found):
            if is_iban(_SEPARATORS.sub("", text[start:end]).upper()):
                yield start, end
                position = end
                break


def _ends(found: re.Match[str]) -> list[int]:
    """Return where a number may end, the longest first: at its separators and at its end."""
    breaks = [found.start() + match.start() for match in _SEPARATORS.finditer(found.group())]
    return [found.end(), *reversed(breaks)]


def _addresses(about: GuardedText) -> Iterator[Span]:
    text = about.text
    if text.count(".") > 2:  # noqa: PLR2004 - an address has three dots
        for found in _IP4.finditer(text):
            start = found.start()
            before = text[start - 1 : start]
            if before not in (".", "_") and not before.isalnum() and is_personal_address(found[0]):
                yield found.span()
    if text.count(":") > 1:
        for found in _IP6.finditer(text):
            if is_personal_address(found[0]):
                yield found.span()


def _cards(about: GuardedText) -> Iterator[Span]:
    for groups in _numbers(about.text):
        yield from _within(about.text, groups, _is_card)


def _national_ids(about: GuardedText) -> Iterator[Span]:
    text = about.text
    if _DIGIT.search(text) is None:
        return
    for groups in _numbers(text):
        yield from _within(text, groups, _is_national_id)
    for found in _LETTERED.finditer(text):
        start, end = found.span()
        alone = not text[start - 1 : start].isalnum() and not text[end : end + 1].isalnum()
        if alone and national_id(found[0]) is not None:
            yield start, end


def _numbers(text: str) -> Iterator[list[Span]]:
    """Yield the groups of digits of each number in a text, apart from UUIDs and parts of words."""
    uuids = [found.span() for found in _UUID.finditer(text)] if text.count("-") > 3 else []  # noqa: PLR2004 - a UUID has four
    position = passed = 0
    while (found := _NUMBER.search(text, position)) is not None:
        start, position = found.start(), found.end()
        while passed < len(uuids) and uuids[passed][1] <= start:
            passed += 1
        if passed < len(uuids) and uuids[passed][0] <= start:
            position = uuids[passed][1]
            continue
        if position - start >= _SHORTEST_ID:
            groups = [match.span() for match in _GROUP.finditer(text, start, position)]
            # A group that is a part of a word is no number of its own.
            if _in_word(text[start - 1 : start]):
                groups = groups[1:]
            if groups and _in_word(text[position : position + 1]):
                groups = groups[:-1]
            yield groups


def _in_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _within(text: str, groups: list[Span], holds: Callable[[str], bool]) -> Iterator[Span]:
    """Yield runs of whole groups that are a number of the kind, the longest first."""
    first = 0
    while first < len(groups):
        start, digits, runs = groups[first][0], 0, []
        for last in range(first, len(groups)):
            digits += groups[last][1] - groups[last][0]
            if digits > _MOST_DIGITS:
                break
            runs.append((last, groups[last][1]))
        for last, end in reversed(runs):
            if holds(text[start:end]):
                yield start, end
                first = last
                break
        first += 1


def _is_card(written: str) -> bool:
    digits = _CARD_SEPARATORS.sub("", written)
    lengths = _CARD_LENGTHS_OF_6 if digits[0] == "6" else _CARD_LENGTHS.get(digits[0], ())
    return len(digits) in lengths and digits.isdecimal() and is_card_number(digits)


def _is_national_id(written: str) -> bool:
    return national_id(_SEPARATORS.sub("", written)) is not None
