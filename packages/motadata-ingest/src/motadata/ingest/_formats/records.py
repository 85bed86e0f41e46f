"""JSON and JSON lines: each value on a line that says where it sits, `owner.name: Ada`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Final, TypeGuard

from motadata.core.errors import UnreadableFileError
from motadata.ingest._draft import Budget, Draft, Piece


_DEPTH: Final = 100
_SECTIONS: Final = 2_000
_PATH_CHARACTERS: Final = 500
_NAMES: Final = ("title", "name", "subject", "summary", "id", "key", "number")


class _Members(list[tuple[str, object]]):
    """An object's members in order; a name that occurs twice keeps both values."""


def read_json(text: str, budget: Budget) -> Draft:
    """Return the values of a JSON document as readable lines.

    A list at the top becomes records, each under a heading of its own; so does a list of objects
    that is a member of the object at the top. What belongs together is then read together.

    Raises:
        UnreadableFileError: The text is no JSON, or is nested too deep.
        FileTooLargeError: The text, paths included, is longer than the limit.
    """
    value = _parse(text, line=None)
    draft = Draft("application/json")
    if isinstance(value, list) and not isinstance(value, _Members):
        _add_records(draft, value, budget)
    else:
        draft.title = _name(value)
        _add_members(draft, value, budget)
    return draft


def read_json_lines(text: str, budget: Budget) -> Draft:
    """Return each line's value as a record of readable lines.

    Raises:
        UnreadableFileError: A line is no JSON, or is nested too deep; the message gives its number.
        FileTooLargeError: The text, paths included, is longer than the limit.
    """
    draft = Draft("application/x-ndjson")
    numbered = enumerate(text.split("\n"), start=1)
    values = [_parse(line, line=number) for number, line in numbered if line.strip()]
    _add_records(draft, values, budget)
    return draft


def _parse(text: str, *, line: int | None) -> object:
    try:
        # Numbers stay as they are written: no digit is lost, and no huge one is computed.
        value: object = json.loads(
            text.lstrip("\ufeff"), object_pairs_hook=_Members, parse_int=str, parse_float=str
        )
    except RecursionError:
        raise _too_deep() from None
    except json.JSONDecodeError as error:
        place = f"line {line or error.lineno}, column {error.colno}"
        message = f"This is not valid JSON: {error.msg} at {place}."
        raise UnreadableFileError(message, remedy="Correct it, or name it .txt.") from None
    return value


def _add_members(draft: Draft, value: object, budget: Budget) -> None:
    """Add an object's members in order: lists of objects as records, all others as lines."""
    if not isinstance(value, _Members):
        draft.pieces.append(Piece(_lines(value, budget)))
        return
    plain = _Members()
    for name, item in value:
        if not _is_table(item):
            plain.append((name, item))
            continue
        if plain:
            draft.pieces.append(Piece(_lines(plain, budget)))
            plain = _Members()
        _add_records(draft, item, budget, of=name[:_PATH_CHARACTERS])
    if plain:
        draft.pieces.append(Piece(_lines(plain, budget)))


def _is_table(value: object) -> TypeGuard[list[object]]:
    """Tell whether a value is a list of two objects or more."""
    return (
        isinstance(value, list)
        and not isinstance(value, _Members)
        and len(value) > 1
        and all(isinstance(item, _Members) for item in value)
    )


def _add_records(draft: Draft, values: list[object], budget: Budget, *, of: str = "") -> None:
    # A section a record where they are few; many small ones share sections, in equal groups.
    size = max(1, math.ceil(len(values) / _SECTIONS))
    for at in range(0, len(values), size):
        group = values[at : at + size]
        text = "\n\n".join(_lines(value, budget) for value in group)
        draft.pieces.append(Piece(text, heading=_heading(at + 1, group, of)))
    draft.metadata["records"] = str(len(values) + int(draft.metadata.get("records", "0")))


def _heading(first: int, group: list[object], of: str) -> str:
    if len(group) > 1:
        return f"{of or 'Records'} {first} to {first + len(group) - 1}"
    name = _name(group[0])
    place = f"{of or 'Record'} {first}"
    return f"{place}: {name}" if name else place


def _name(value: object) -> str:
    if not isinstance(value, _Members):
        return ""
    members = {name.lower(): item for name, item in value if isinstance(item, str)}
    named = (members[name][:200] for name in _NAMES if members.get(name))
    return next(named, "")


def _lines(value: object, budget: Budget) -> str:
    return "\n".join(budget.spend(line) for line in _flatten(value))


def _flatten(value: object) -> Iterator[str]:
    """Walk the value in order without recursion, however it is nested."""
    stack: list[tuple[str, object, int]] = [("", value, 0)]
    while stack:
        path, item, depth = stack.pop()
        if depth > _DEPTH:
            raise _too_deep()
        if isinstance(item, _Members):
            children = [(_join(path, name), child, depth + 1) for name, child in item]
            stack.extend(reversed(children))
        elif isinstance(item, list) and any(isinstance(child, list) for child in item):
            children = [(f"{path}[{at}]", child, depth + 1) for at, child in enumerate(item)]
            stack.extend(reversed(children))
        else:
            text = ", ".join(map(_scalar, item)) if isinstance(item, list) else _scalar(item)
            if text:
                yield f"{path}: {text}" if path else text


def _join(path: str, name: str) -> str:
    return (f"{path}.{name}" if path else name)[:_PATH_CHARACTERS]


def _scalar(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _too_deep() -> UnreadableFileError:
    message = f"The JSON is nested deeper than {_DEPTH} levels."
    return UnreadableFileError(message, remedy="Flatten it before uploading.")
