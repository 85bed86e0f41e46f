"""What a variable may hold: plain values, whose texts remember that others wrote them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, TypeAlias

from motadata.core.errors import PromptVariableError
from motadata.core.prompts._data_blocks import make_inert


PlainValue: TypeAlias = "str | int | float | bool | list[PlainValue] | dict[str, PlainValue] | None"

_MAX_DEPTH: Final = 16
_LARGEST: Final = 2**63
_ITEM: Final = 8
"""What a value that is no text counts, in characters."""


class Untrusted(str):
    """A text that somebody else wrote, and the variable that it came in."""

    __slots__ = ("origin",)

    origin: str

    @classmethod
    def of(cls, text: str, origin: str) -> Untrusted:
        """Mark a text."""
        marked = cls(text)
        marked.origin = origin
        return marked


def origin_of(value: object) -> str | None:
    """Return the variable that the first untrusted text in a value came in; None means trusted."""
    if isinstance(value, Untrusted):
        return value.origin
    if isinstance(value, Mapping):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple):
        return next((origin for item in value if (origin := origin_of(item))), None)
    return None


class Intake:
    """Takes the variables of one rendering in: checks, copies, and marks them.

    Args:
        max_input: Characters of all variables together.
        trusted: Variables whose texts are as trusted as the template.
    """

    __slots__ = ("_left", "_max_input", "_trusted")

    def __init__(self, max_input: int, trusted: frozenset[str]) -> None:
        self._max_input = max_input
        self._left = max_input
        self._trusted = trusted

    def take(self, name: str, value: object) -> PlainValue:
        """Return a copy of a variable's value that holds nothing but plain values.

        Raises:
            PromptVariableError: It holds something else, or is too large or too deep.
        """
        return self._take(name, value, 0)

    def _take(self, name: str, value: object, depth: int) -> PlainValue:
        self._left -= len(value) + 1 if isinstance(value, str) else _ITEM
        if self._left < 0:
            message = f"With {name!r} the variables exceed max_input={self._max_input} characters."
            raise PromptVariableError(message, remedy="Shorten them.")
        if isinstance(value, str):
            return self._text(name, value)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int | float):
            return _number(name, value)
        if depth == _MAX_DEPTH:
            message = f"The variable {name!r} is nested deeper than {_MAX_DEPTH} levels."
            raise PromptVariableError(message, remedy="Pass it flatter.")
        if isinstance(value, Mapping):
            return {
                self._key(name, key): self._take(name, item, depth + 1)
                for key, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [self._take(name, item, depth + 1) for item in value]
        message = f"The variable {name!r} holds a {type(value).__name__}."
        raise PromptVariableError(
            message, remedy="Pass text, numbers, booleans, None, and lists and dicts of these."
        )

    def _key(self, name: str, key: object) -> str:
        if not isinstance(key, str):
            message = f"A key in the variable {name!r} is a {type(key).__name__}."
            raise PromptVariableError(message, remedy="Pass dicts whose keys are text.")
        self._left -= len(key) + 1
        return self._text(name, key)

    def _text(self, name: str, text: str) -> str:
        try:
            text.encode()
        except UnicodeEncodeError:
            message = f"The variable {name!r} holds half of a surrogate pair."
            raise PromptVariableError(message, remedy="Pass valid text.") from None
        if name in self._trusted:
            return make_inert(text)
        return Untrusted.of(text, name)


def _number(name: str, value: float) -> PlainValue:
    if not math.isfinite(value) or abs(value) >= _LARGEST:
        message = f"The number in the variable {name!r} is not finite, or has more than 63 bits."
        raise PromptVariableError(message, remedy="Pass it as text.")
    return value
