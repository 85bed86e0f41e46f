"""The pydantic models that a codec was told of: by name, checked to come back as they were."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Final
from uuid import UUID

from motadata.core.errors import CodecError, ConfigurationError


if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

_MAX_DEPTH: Final = 200
_EXACT: Final = (type(None), str, int, float, bytes, date, UUID, Decimal)


class ModelSet:
    """The classes by whose names models travel; bytes name no class that is not here.

    Args:
        kinds: Classes of pydantic models, no two of one name.
    """

    def __init__(self, kinds: Iterable[type[BaseModel]]) -> None:
        self._kinds: dict[str, type[BaseModel]] = {}
        for kind in kinds:
            if not hasattr(kind, "model_validate"):
                message = f"{kind!r} is no class of pydantic models."
                raise ConfigurationError(message, remedy="Pass subclasses of pydantic.BaseModel.")
            if self._kinds.setdefault(kind.__name__, kind) is not kind:
                message = f"Two models have the name {kind.__name__!r}."
                raise ConfigurationError(message, remedy="Rename one: they travel by their names.")

    def knows(self, kind: type) -> bool:
        """Tell whether instances of `kind` have an encoding."""
        return self._kinds.get(kind.__name__) is kind

    def dump(self, model: BaseModel) -> dict[str, object]:
        """Return the fields as values that have encodings.

        Raises:
            CodecError: The model could not be built again from them.
        """
        from pydantic import ValidationError
        from pydantic_core import PydanticSerializationError

        kind = type(model)
        try:
            fields = model.model_dump(mode="python", by_alias=True, round_trip=True)
            plain = {name: _plain(item, 0) for name, item in fields.items()}
            if kind.model_validate(plain) == model:
                return plain
        except (ValidationError, PydanticSerializationError, RecursionError):
            pass
        # Neither chained nor quoted: pydantic's errors hold the values.
        message = f"A model {kind.__name__!r} does not come back as it was."
        remedy = "It must equal what model_validate makes of its model_dump(by_alias=True)."
        raise CodecError(message, remedy=remedy)

    def build(self, name: str, fields: dict[str, object]) -> BaseModel:
        """Return the model of that name with those fields.

        Raises:
            CodecError: The codec was not told of the class, or the class refuses the fields.
        """
        from pydantic import ValidationError

        kind = self._kinds.get(name)
        if kind is None:
            message = f"The model {name[:40]!r} is unknown to this codec."
            raise CodecError(message, remedy="Create the codec with models=[…], this class in it.")
        try:
            return kind.model_validate(fields)
        except ValidationError as error:
            message = f"The data does not fit the model {name!r}: {_reasons(kind, error)}."
            raise CodecError(message) from None
        except RecursionError:
            message = f"The data of a model {name!r} is nested too deep."
            raise CodecError(message) from None


def _plain(value: object, depth: int) -> object:
    """Return what the model's own validation turns back into `value`."""
    if isinstance(value, Enum):
        return _plain(value.value, depth)
    if isinstance(value, _EXACT):
        return value
    if depth > _MAX_DEPTH:
        raise RecursionError
    if isinstance(value, dict):
        return {_key(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset | deque):
        return [_plain(item, depth + 1) for item in value]
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value)


def _key(key: object) -> str:
    key = key.value if isinstance(key, Enum) else key
    return key if isinstance(key, str) else str(key)


def _reasons(kind: type[BaseModel], error: ValidationError) -> str:
    """Return which fields are wrong and how, without a word of what they hold."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    known = [
        f"{name} ({reason['type']})"
        for reason in found
        if (name := next(iter(reason["loc"]), None)) in kind.model_fields
    ]
    return ", ".join(known[:5]) or f"{len(found)} errors"
