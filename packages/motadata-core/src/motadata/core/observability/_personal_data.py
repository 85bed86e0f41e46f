"""Finds what identifies people in a text: e-mail addresses, payment cards, IBANs, IP addresses.

Where a number has a check digit, it decides: an order number is no card. Names, postal addresses
and telephone numbers have no such sign and are not looked for; what people write does not belong
into a log line in the first place.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final


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
_SHORTEST_CARD: Final = 13
_IBANS_BY_LENGTH: Final = {
    15: "NO",
    16: "BE",
    18: "DK FI FO GL NL SD",
    19: "MK SI",
    20: "AT BA EE KZ LT LU MN XK",
    21: "CH CR HR LI LV",
    22: "BG BH DE GB GE IE ME RS VA",
    23: "AE GI IL IQ OM SO TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "BI DJ FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU",
    31: "MT SC",
    32: "LC",
    33: "RU",
}
_IBAN_LENGTHS: Final = {
    country: length for length, all_of in _IBANS_BY_LENGTH.items() for country in all_of.split()
}


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
        return _MARKS[kind] if _is_somebodys_address(found) else found
    # The pattern of a number may have run on into the words or numbers behind it.
    is_number = _is_iban if kind == "iban" else _is_card
    for end in _ends(found):
        if is_number(_SEPARATORS.sub("", found[:end]).upper()):
            return _MARKS[kind] + hide_personal_data(found[end:])
    head, separator, rest = found.partition(" ")
    return head + separator + hide_personal_data(rest)


def _ends(found: str) -> list[int]:
    """Return where a number may end, the longest first: at its separators and at its end."""
    breaks = [match.start() for match in _SEPARATORS.finditer(found)]
    return [len(found), *reversed(breaks)]


def _is_iban(number: str) -> bool:
    if _IBAN_LENGTHS.get(number[:2]) != len(number):
        return False
    turned = number[4:] + number[:4]
    return int("".join(str(int(character, 36)) for character in turned)) % 97 == 1


def _is_card(number: str) -> bool:
    digits = [int(character) for character in number]
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return len(digits) >= _SHORTEST_CARD and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _is_somebodys_address(found: str) -> bool:
    try:
        address: IPv4Address | IPv6Address = ip_address(found)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified)
