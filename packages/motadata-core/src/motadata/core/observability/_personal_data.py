"""Finds what identifies people in a text: e-mail addresses, payment cards, IBANs, IP addresses.

Where a number has a check digit, it decides: an order number is no card. Names, postal addresses
and telephone numbers have no such sign and are not looked for; what people write does not belong
into a log line in the first place.
"""

from __future__ import annotations

import re
from typing import Final

from motadata.core.recognisers import is_card_number, is_iban, is_personal_address


_PERSONAL: Final = re.compile(
    # A UUID comes first, so that no part of it is taken for something else: it is left alone.
    r"(?P<uuid>(?<![\w-])[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}(?![\w-]))"
    r"|(?P<email>(?<![\w.+%-])[\w.+%-]{1,64}@(?:[\w-]{1,63}\.){1,8}[a-z]{2,63}(?![\w-]))"
    r"|(?P<iban>(?<![a-z0-9])[a-z]{2}[0-9]{2}(?:[ -]?[a-z0-9]){11,30}(?![a-z0-9]))"
    r"|(?P<ip4>(?<![\w.])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?!\.?\w))"
    r"|(?P<ip6>(?<![\w:.])(?:[0-9a-f]{0,4}:){2,7}(?:[0-9a-f]{1,4}|[0-9.]{7,15})?(?![\w:]))"
    # 4 Visa, 51-55 and 2221-2720 Mastercard, 34 and 37 American Express, 6 Discover, 30-39 others.
    r"|(?P<card>(?<![\w.-])[2-6](?:[ -]?[0-9]){12,18}(?![\w-]))",
    re.IGNORECASE,
)
_MARKS: Final = {
    "email": "[email]",
    "iban": "[iban]",
    "ip4": "[ip]",
    "ip6": "[ip]",
    "card": "[card]",
}
# Each of them has one of these; most texts that are logged have none.
_SUSPECT: Final = re.compile(r"[@:]|[0-9][ .-]?[0-9]")
_SEPARATORS: Final = re.compile(r"[ -]")


def hide_personal_data(text: str) -> str:
    """Return a text with a mark, such as `[email]`, in place of what identifies somebody.

    Payment cards are recognised by their check digit (Luhn), IBANs by theirs (modulo 97) and their
    country's length. Loopback and unspecified addresses stay: they are nobody's.
    """
    return _PERSONAL.sub(_mark, text) if _SUSPECT.search(text) else text


def _mark(match: re.Match[str]) -> str:
    kind, found = str(match.lastgroup), match.group()
    if kind == "uuid":
        return found
    if kind == "email":
        return _MARKS[kind]
    if kind in {"ip4", "ip6"}:
        return _MARKS[kind] if is_personal_address(found) else found
    # The pattern of a number may have run on into the words or numbers behind it.
    is_number = is_iban if kind == "iban" else is_card_number
    for end in _ends(found):
        if is_number(_SEPARATORS.sub("", found[:end]).upper()):
            return _MARKS[kind] + hide_personal_data(found[end:])
    head, separator, rest = found.partition(" ")
    return head + separator + hide_personal_data(rest)


def _ends(found: str) -> list[int]:
    """Return where a number may end, the longest first: at its separators and at its end."""
    breaks = [match.start() for match in _SEPARATORS.finditer(found)]
    return [len(found), *reversed(breaks)]
