"""Names that go into SQL text: validated, then quoted."""

from __future__ import annotations

import re
from typing import Final

from motadata.core.database._driver import quote_name
from motadata.core.errors import QueryError


_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}", re.ASCII)
_SHOWN: Final = 80


def column(name: object) -> str:
    """Return the quoted form of a column's name.

    Raises:
        QueryError: It is no SQL identifier.
    """
    if not isinstance(name, str) or _IDENTIFIER.fullmatch(name) is None:
        raise _invalid(name)
    return quote_name(name)


def table(name: object) -> str:
    """Return the quoted form of `table` or `schema.table`.

    Raises:
        QueryError: A part is no SQL identifier.
    """
    parts = name.split(".") if isinstance(name, str) else []
    if len(parts) not in {1, 2}:
        raise _invalid(name)
    return ".".join(column(part) for part in parts)


def _invalid(name: object) -> QueryError:
    shown = repr(name[:_SHOWN] if isinstance(name, str) else name)
    return QueryError(
        f"{shown} is no SQL identifier.",
        remedy="Use letters, digits and '_', at most 63, not starting with a digit.",
    )
