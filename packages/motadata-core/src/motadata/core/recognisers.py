"""Tells numbers and addresses that identify somebody from those that only look like it.

A check digit decides wherever there is one: an order number is no card. All functions take what a
pattern found, without its separators, and tell whether it is one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from ipaddress import ip_address
from typing import Final


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
_SHORTEST_CARD: Final = 13
_DOUBLED: Final = {str(digit): sum(divmod(2 * digit, 10)) for digit in range(10)}

# Verhoeff's multiplication in the dihedral group D5, and his permutation, row by row.
_PRODUCTS: Final = [
    "0123456789",
    "1234067895",
    "2340178956",
    "3401289567",
    "4012395678",
    "5987604321",
    "6598710432",
    "7659821043",
    "8765932104",
    "9876543210",
]
_PERMUTED: Final = [
    "0123456789",
    "1576283094",
    "5803796142",
    "8916043527",
    "9453126870",
    "4286573901",
    "2793806415",
    "7046913258",
]

_CPF_LENGTH: Final = 11


def is_card_number(digits: str) -> bool:
    """Tell whether 13 or more digits end with their check digit (Luhn, ISO/IEC 7812-1)."""
    plain, doubled = digits[-1::-2], digits[-2::-2]
    total = sum(map(int, plain)) + sum(map(_DOUBLED.__getitem__, doubled))
    return len(digits) >= _SHORTEST_CARD and total % 10 == 0


def is_iban(number: str) -> bool:
    """Tell whether capitals and digits have their country's length and check digits (ISO 13616)."""
    if _IBAN_LENGTHS.get(number[:2]) != len(number):
        return False
    turned = number[4:] + number[:4]
    return int("".join(str(int(character, 36)) for character in turned)) % 97 == 1


def is_personal_address(text: str) -> bool:
    """Tell whether it is an IP address of somebody: loopback and unspecified ones are nobody's."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified)


def national_id(number: str) -> str | None:
    """Return the country whose identity number it is, such as `IN`, or None.

    India's Aadhaar, Brazil's CPF, China's resident number, Poland's PESEL, France's NIR and Spain's
    DNI and NIE: those whose check digits, dates and letters make a chance hit rare.

    Args:
        number: Capitals and digits.
    """
    check = _CHECKS.get(len(number))
    return next((country for country, holds in check or () if holds(number)), None)


def _is_aadhaar(number: str) -> bool:
    if not number.isdecimal() or number[0] in "01" or number == number[::-1]:
        return False
    row = 0
    for position, digit in enumerate(reversed(number)):
        row = int(_PRODUCTS[row][int(_PERMUTED[position % 8][int(digit)])])
    return row == 0


def _is_cpf(number: str) -> bool:
    if not number.isdecimal() or len(set(number)) == 1:
        return False
    digits = [int(digit) for digit in number]
    for length in (_CPF_LENGTH - 2, _CPF_LENGTH - 1):
        total = sum(digit * (length + 1 - place) for place, digit in enumerate(digits[:length]))
        if total * 10 % 11 % 10 != digits[length]:
            return False
    return True


def _is_chinese(number: str) -> bool:
    body, check = number[:17], number[17:]
    if not body.isdecimal() or not _is_date(number[6:10], number[10:12], number[12:14]):
        return False
    total = sum(int(digit) * ((1 << (17 - place)) % 11) for place, digit in enumerate(body))
    return "10X98765432"[total % 11] == check


def _is_pesel(number: str) -> bool:
    if not number.isdecimal():
        return False
    # The month also tells the century: 01-12 is 1900, 21-32 is 2000, 81-92 is 1800.
    month, centuries = int(number[2:4]) % 20, int(number[2:4]) // 20
    century = {0: 19, 1: 20, 2: 21, 3: 22, 4: 18}[centuries]
    if not _is_date(f"{century}{number[:2]}", f"{month:02}", number[4:6]):
        return False
    weights = (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)
    total = sum(int(digit) * weight for digit, weight in zip(number, weights, strict=True))
    return total % 10 == 0


def _is_nir(number: str) -> bool:
    body = number[:13].replace("2A", "19").replace("2B", "18")
    if not (body + number[13:]).isdecimal() or number[0] not in "12":
        return False
    return 97 - int(body) % 97 == int(number[13:])


def _is_dni(number: str) -> bool:
    lead = {"X": "0", "Y": "1", "Z": "2"}.get(number[0], number[0])
    body = lead + number[1:8]
    return body.isdecimal() and "TRWAGMYFPDXBNJZSQVHLCKE"[int(body) % 23] == number[8]


def _is_date(year: str, month: str, day: str) -> bool:
    try:
        return date(int(year), int(month), int(day)).year >= 1800  # noqa: PLR2004 - nobody is older
    except ValueError:
        return False


_CHECKS: Final[Mapping[int, tuple[tuple[str, Callable[[str], bool]], ...]]] = {
    9: (("ES", _is_dni),),
    11: (("BR", _is_cpf), ("PL", _is_pesel)),
    12: (("IN", _is_aadhaar),),
    15: (("FR", _is_nir),),
    18: (("CN", _is_chinese),),
}
