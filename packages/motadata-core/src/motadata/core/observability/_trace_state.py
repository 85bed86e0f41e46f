"""The `tracestate` header: what other vendors said about a trace, carried on as they said it.

OpenTelemetry's own class follows the first edition of the grammar and drops the whole list for a
key of the second, or for one that stands twice; the recommendation wants neither.
"""

from __future__ import annotations

import re
from collections.abc import ItemsView, Iterable, Iterator, KeysView, ValuesView
from typing import Final, Self

from opentelemetry.trace import TraceState


_MOST_MEMBERS: Final = 32
_MOST_CHARACTERS: Final = 8192

# https://www.w3.org/TR/trace-context-2/#tracestate-header-field-values
_KEY: Final = r"[0-9a-z][_0-9a-z\-*/@]{0,255}"
_VALUE: Final = r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
_MEMBER: Final = re.compile(f"({_KEY})=({_VALUE})")


class MemberList(TraceState):
    """The members of a `tracestate`, in order; changing it makes another.

    Of members with one key the first stays: senders put the newest in front.
    """

    def __init__(self, entries: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__()
        self._members: dict[str, str] = {}
        for key, value in entries:
            self._members.setdefault(key, value)

    @classmethod
    def from_header(cls, header_list: list[str]) -> Self:
        """Read the values of all `tracestate` headers of a message, in their order.

        One that breaks the grammar, more than 32 members or 8,192 characters discard the whole.
        """
        if sum(map(len, header_list)) > _MOST_CHARACTERS:
            return cls()
        texts = [text.strip(" \t") for header in header_list for text in header.split(",")]
        found = [_MEMBER.fullmatch(text) for text in texts if text]
        if len(found) > _MOST_MEMBERS:
            return cls()
        entries = [(match[1], match[2]) for match in found if match is not None]
        return cls(entries) if len(entries) == len(found) else cls()

    def to_header(self) -> str:
        """Return the value of the header."""
        return ",".join(f"{key}={value}" for key, value in self._members.items())

    def add(self, key: str, value: str) -> Self:
        """Return one with a new member in front; itself when that cannot be."""
        return self if key in self._members else self.update(key, value)

    def update(self, key: str, value: str) -> Self:
        """Return one with the member changed and moved to the front; itself when that cannot be."""
        rest = [(name, kept) for name, kept in self._members.items() if name != key]
        if len(rest) >= _MOST_MEMBERS or _MEMBER.fullmatch(f"{key}={value}") is None:
            return self
        return type(self)([(key, value), *rest])

    def delete(self, key: str) -> Self:
        """Return one without the member."""
        return type(self)((name, value) for name, value in self._members.items() if name != key)

    def keys(self) -> KeysView[str]:
        """Return the keys, the newest first."""
        return self._members.keys()

    def values(self) -> ValuesView[str]:
        """Return the values, in the order of the keys."""
        return self._members.values()

    def items(self) -> ItemsView[str, str]:
        """Return keys with values."""
        return self._members.items()

    def __getitem__(self, key: str) -> str:
        return self._members[key]

    def __contains__(self, key: object) -> bool:
        return key in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.to_header()!r})"
