"""What the values that travel have in common: they read as attributes and as mappings."""

from __future__ import annotations

from dataclasses import fields, is_dataclass


class Record:
    """Mixin for frozen dataclasses: `answer["citations"]` is `answer.citations`.

    `to_dict` gives the plain form, the one that the HTTP API and the command line print.
    """

    __slots__ = ()

    def __getitem__(self, name: str) -> object:
        """Return the field of that name.

        Raises:
            KeyError: There is none.
        """
        if name not in self.keys():
            raise KeyError(name)
        value: object = getattr(self, name)
        return value

    def keys(self) -> tuple[str, ...]:
        """Return the names of the fields, in their order of definition."""
        return tuple(field.name for field in fields(self))  # type: ignore[arg-type]  # a mixin of dataclasses

    def to_dict(self) -> dict[str, object]:
        """Return the fields as plain dicts, lists, strings and numbers, nested records included."""
        return {name: _plain(getattr(self, name)) for name in self.keys()}


def _plain(value: object) -> object:
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if is_dataclass(value):
        message = f"{type(value).__name__} travels inside a Record but is none itself"
        raise TypeError(message)
    return value
