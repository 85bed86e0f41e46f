"""Settings from the environment, one pydantic model a component, each with its prefix.

    class GatewaySettings(Settings, prefix="MOTADATA_GATEWAY_"):
        default_model: str = "extractive"

    GatewaySettings.from_environment()   # reads MOTADATA_GATEWAY_DEFAULT_MODEL

A variable that is absent or empty leaves the default. Structured fields are written as JSON.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import ClassVar, Self, Unpack, get_origin

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from motadata.core.errors import ConfigurationError


class Settings(BaseModel):
    """Base of every component's settings; subclasses say `prefix=` in their class line."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    prefix: ClassVar[str] = "MOTADATA_"

    def __init_subclass__(cls, *, prefix: str = "MOTADATA_", **kwargs: Unpack[ConfigDict]) -> None:
        """Keep the prefix that the class line gives."""
        super().__init_subclass__(**kwargs)
        cls.prefix = prefix

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read each field from the variable that is the prefix and its name in capitals.

        Args:
            environment: Where to read; None means the process's environment.

        Raises:
            ConfigurationError: A value does not fit. The message names the variable, not the value.
        """
        source = os.environ if environment is None else environment
        values: dict[str, object] = {}
        for name, field in cls.model_fields.items():
            text = source.get(cls.prefix + name.upper(), "").strip()
            if text:
                values[name] = cls._parse(name, text, structured=_is_structured(field.annotation))
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            name = str(first["loc"][0]) if first["loc"] else ""
            message = f"{cls.prefix}{name.upper()} does not fit: {first['msg']}."
            raise ConfigurationError(
                message, remedy="Correct the variable or unset it to get the default."
            ) from None

    @classmethod
    def _parse(cls, name: str, text: str, *, structured: bool) -> object:
        if not structured:
            return text
        try:
            return _JSON.validate_json(text)
        except ValidationError:
            message = f"{cls.prefix}{name.upper()} is not valid JSON."
            raise ConfigurationError(
                message, remedy='Write lists as ["a", "b"] and mappings as {"a": "b"}.'
            ) from None


_JSON: TypeAdapter[object] = TypeAdapter(object)


def _is_structured(annotation: object) -> bool:
    """Tell whether a field holds a collection, a dataclass or a model, optional or not."""
    arguments = getattr(annotation, "__args__", ())
    candidates = (annotation, *arguments)
    containers = (list, tuple, dict, set, frozenset, Mapping)
    return any(
        (get_origin(item) or item) in containers
        or is_dataclass(item)
        or (isinstance(item, type) and issubclass(item, BaseModel))
        for item in candidates
    )
