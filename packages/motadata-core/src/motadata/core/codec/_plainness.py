"""Whether MessagePack bytes hold plain values only, told from the bytes in a microsecond.

What libraries in C and Rust write and read is exact for plain values: None, bool, 64-bit integers,
finite floats, texts, bytes, lists, and dicts with texts as keys of which none is a tag. Looking at
each value from Python to see that would take longer than the encoding itself. So the bytes are
looked at, in such a way that a doubt is never missed: a doubtful case goes the slow way.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import Final


_HEADERS: Final = frozenset(chain(range(0x80, 0xA0), range(0xDC, 0xE0)))
# A double is 0xcb and eight bytes, of which NaN and the infinities begin 7f f… or ff f….
_OF_NUMBERS: Final = frozenset({0xCB, 0x7F, 0xFF})
_UNMARKED: Final = bytes(sorted(frozenset(range(256)) - _HEADERS - _OF_NUMBERS))
_NON_FINITE: Final = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]").search
_PERHAPS_NON_FINITE: Final = re.compile(rb"\xcb[\x7f\xff]").search
# A dict of one entry, whose key begins with a dollar sign.
_TAG: Final = re.compile(rb"\x81(?:[\xa1-\xbf]|\xd9.|\xda..|\xdb....)\$", re.DOTALL).search
_DOLLAR: Final = 0x24
_DOUBLE: Final = 0xCB
_FEW: Final = 8
"""Entries of a dict among which looking for one long text is cheaper than looking at its bytes."""
_BIN_8: Final = 0xC4
_BIN_16: Final = 0xC5
_BIN_32: Final = 0xC6
_MINUS_ONE: Final = 0xFF
_CONTAINERS: Final = frozenset({dict, list, tuple})


def is_plain(packed: bytes, value: object, depth: int) -> bool:
    """Tell whether what was packed is surely plain, and nested no deeper than `depth`.

    Args:
        packed: MessagePack.
        value: What it holds, made of dicts, lists, tuples and scalars.
        depth: Most containers within each other.
    """
    if type(value) is str:
        return True
    if type(value) is dict and len(value) <= _FEW:
        for item in value.values():
            if type(item) is str and len(packed) - len(item) <= depth and item.isascii():
                # Around this text are no more bytes than there may be containers within each
                # other, and none of those that matter here is ASCII.
                number = packed.find(_DOUBLE)
                if number >= 0 and _NON_FINITE(packed, number):
                    return False
                return _DOLLAR not in packed or not _TAG(packed)
    marks = packed.translate(None, _UNMARKED)
    # As many containers as there are headers, at most, and no more within each other than that.
    if len(marks) > depth and is_deeper(value, depth):
        return False
    if _PERHAPS_NON_FINITE(marks) and _NON_FINITE(packed):
        return False
    return _DOLLAR not in packed or not _TAG(packed)


def may_hold_bytes(packed: bytes) -> bool:
    """Tell whether a header of bytes may be in it; a false alarm is a letter outside of ASCII."""
    return _BIN_8 in packed or _BIN_16 in packed or _BIN_32 in packed


def may_hold_times(packed: bytes) -> bool:
    """Tell whether an extension of type -1, a time, may be in it."""
    return _MINUS_ONE in packed


def is_deeper(value: object, depth: int) -> bool:
    """Tell whether more than `depth` containers are within each other."""
    if not isinstance(value, dict | list | tuple):
        return False
    if depth == 0:
        return True
    items = value.values() if isinstance(value, dict) else value
    if _CONTAINERS.isdisjoint(map(type, items)):
        return False
    return any(type(item) in _CONTAINERS and is_deeper(item, depth - 1) for item in items)
