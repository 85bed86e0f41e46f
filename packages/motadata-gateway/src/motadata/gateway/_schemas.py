"""JSON schemas as providers take them: closed where they can be held to it, open where not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

from pydantic import BaseModel


_UNSUPPORTED: Final = frozenset({"default", "title", "examples"})


def schema_of(output: type[BaseModel]) -> dict[str, object]:
    """Return a model's JSON schema, its objects closed and every property of theirs required.

    That is what providers ask of a schema to which they hold the model's answer word by word
    (OpenAI's structured outputs). A property with a default is then always said.
    """
    return cast("dict[str, object]", _closed(output.model_json_schema()))


def response_format(schema: Mapping[str, object]) -> dict[str, object]:
    """Return OpenAI's `response_format` for a schema, strict if every object in it is closed."""
    described = {"name": "answer", "schema": dict(schema), "strict": _is_closed(schema)}
    return {"type": "json_schema", "json_schema": described}


def _closed(node: object) -> object:
    if isinstance(node, list):
        return [_closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    # Below `properties` and `$defs` the keys are names, one of which may be "title".
    named = ("properties", "$defs")
    result = {
        key: {name: _closed(item) for name, item in value.items()}
        if key in named
        else _closed(value)
        for key, value in node.items()
        if key not in _UNSUPPORTED
    }
    if isinstance(node.get("properties"), dict):
        result["required"] = list(node["properties"])
        result.setdefault("additionalProperties", False)
    return result


def _is_closed(node: object) -> bool:
    if isinstance(node, list):
        return all(_is_closed(item) for item in node)
    if not isinstance(node, Mapping):
        return True
    is_object = node.get("type") == "object" or "properties" in node
    if is_object:
        properties = node.get("properties")
        named = list(properties) if isinstance(properties, Mapping) else []
        if node.get("additionalProperties") is not False or node.get("required") != named:
            return False
    return all(_is_closed(value) for value in node.values())
