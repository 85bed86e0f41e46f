"""Finds what identifies people: addresses, numbers with check digits, telephone numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from motadata.core.protocols import Finding, FindingAction, GuardedText
from motadata.core.recognisers import is_personal_address
from motadata.gateway.guardrails._numbers import (
    FEWEST_DIGITS,
    Groups,
    Span,
    count_digits,
    digit_groups,
    find_cards,
    find_ibans,
    find_national_ids,
)
from motadata.gateway.guardrails._phones import PhoneFinder
from motadata.gateway.guardrails._rule import TextRule, check_action, check_choice


KINDS: Final = ("email", "card", "iban", "ip", "national_id", "phone")

_LONG: Final = frozenset({"card", "national_id"})

_LOCAL_PART: Final = re.compile(r"[\w.+%-]+")
_MOST_LOCAL: Final = 64
_DOMAIN: Final = re.compile(r"(?:[\w-]{1,63}\.){1,8}[a-z]{2,63}(?![\w-])", re.IGNORECASE)
# What a domain may begin with, when the text ends within it.
_DOMAIN_BEGUN: Final = re.compile(r"[\w.-]*\Z")
_IP4: Final = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?!\.?\w)")
_IP6: Final = re.compile(
    r"(?<![\w:.])(?:[0-9a-f]{0,4}:){2,7}(?:[0-9a-f]{1,4}|[0-9.]{7,15})?(?![\w:])", re.IGNORECASE
)


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
        self._finders_of_few = tuple(pair for pair in self._finders if pair[0] not in _LONG)
        self._actions = {kind: (actions or {}).get(kind, action) for kind in chosen}
        described = (sorted(self._actions.items()), region)
        super().__init__(name, described=described)

    def find(self, text: GuardedText) -> Sequence[Finding]:
        """Return where something identifies somebody."""
        digits = digit_groups(text.text)
        if not digits and "@" not in text.text and ":" not in text.text:
            return []
        few = count_digits(digits) < FEWEST_DIGITS
        return [
            Finding(f"{self.name}.{kind}", self._actions[kind], start, end, f"[{kind}]")
            for kind, finder in (self._finders_of_few if few else self._finders)
            for start, end in finder(text, digits)
        ]


_Finder = Callable[[GuardedText, Groups], Iterator[Span]]


def _finders(kinds: Sequence[str], region: str | None) -> tuple[tuple[str, _Finder], ...]:
    known: dict[str, _Finder] = {
        "email": _emails,
        "card": find_cards,
        "iban": find_ibans,
        "ip": _addresses,
        "national_id": find_national_ids,
    }
    if "phone" in kinds:
        known["phone"] = PhoneFinder(region).find
    return tuple((kind, known[kind]) for kind in KINDS if kind in kinds)


def _emails(about: GuardedText, _digits: Groups) -> Iterator[Span]:
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


def _addresses(about: GuardedText, digits: Groups) -> Iterator[Span]:
    text = about.text
    if text.count(".") > 2:  # noqa: PLR2004 - an address has three dots
        for start, _ in digits:
            found = _IP4.match(text, start)
            before = text[start - 1 : start]
            if found is None or before in (".", "_") or before.isalnum():
                continue
            if is_personal_address(found[0]):
                yield found.span()
    if "::" in text or text.count(":") > 5:  # noqa: PLR2004 - without `::` it has six or seven
        for found in _IP6.finditer(text):
            if is_personal_address(found[0]):
                yield found.span()
