"""Whole answers in OpenAI's shapes as ours, whether they come as JSON or as litellm's objects.

They are checked by pydantic before anything is read from them: a provider's answer is data from
outside.
"""

from __future__ import annotations

import base64
import binascii
import sys
from array import array
from collections.abc import Mapping
from typing import Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic import ValidationError as ShapeError

from motadata.core.errors import ProviderError
from motadata.core.models import Completion, Embeddings, FinishReason, ToolCall, Usage
from motadata.gateway.usage import usage_from_openai


_FINISH: Final[Mapping[str, FinishReason]] = {
    "stop": "stop",
    "eos": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
_FLOAT_BYTES: Final = 4


class _Shape(BaseModel):
    model_config = ConfigDict(from_attributes=True, extra="ignore")


Shape = TypeVar("Shape", bound=BaseModel)


class _Function(_Shape):
    name: str | None = None
    arguments: str | None = None


class ToolCallShape(_Shape):
    """A wish to call a tool, or a piece of one in a stream."""

    index: int | None = None
    id: str | None = None
    function: _Function = Field(default_factory=_Function)


class MessageShape(_Shape):
    """What the model says, or a piece of it; Mistral sends a list of parts at times."""

    content: str | list[dict[str, object]] | None = None
    refusal: str | None = None
    tool_calls: list[ToolCallShape] | None = None

    @property
    def text(self) -> str:
        """The words of it, without what was only thought."""
        if isinstance(self.content, str):
            return self.content
        parts = [part.get("text") for part in self.content or () if part.get("type") == "text"]
        return "".join(part for part in parts if isinstance(part, str))


class _Choice(_Shape):
    index: int | None = None
    message: MessageShape | None = None
    delta: MessageShape | None = None
    finish_reason: str | None = None


class ResponseShape(_Shape):
    """An answer, or an event of a stream."""

    choices: list[_Choice] = []
    usage: object = None


class _Vector(_Shape):
    embedding: list[float] | str
    index: int | None = None


class _EmbeddingResponse(_Shape):
    data: list[_Vector | dict[str, object]]
    usage: object = None


def completion(response: object, model: str) -> Completion:
    """Read a whole answer.

    Raises:
        ProviderError: It has not the shape of one.
    """
    answer = read(ResponseShape, response, model)
    if not answer.choices or answer.choices[0].message is None:
        raise malformed(model)
    choice = answer.choices[0]
    message = choice.message or MessageShape()
    calls = tuple(
        ToolCall(
            call.id or f"call-{number}", call.function.name or "", call.function.arguments or ""
        )
        for number, call in enumerate(message.tool_calls or (), 1)
    )
    # A model that refuses says so in a field of its own; that is no answer to keep.
    refused = not message.content and not calls and message.refusal
    return Completion(
        text=message.refusal or "" if refused else message.text,
        model=model,
        finish_reason="content_filter"
        if refused
        else finish_reason(choice.finish_reason, calls=bool(calls)),
        tool_calls=calls,
        usage=read_usage(answer.usage) or Usage(),
    )


def embeddings(response: object, model: str) -> Embeddings:
    """Read vectors, in the order of the texts whatever the order of the answer.

    Raises:
        ProviderError: It has not the shape of them.
    """
    answer = read(_EmbeddingResponse, response, model)
    items = [
        item if isinstance(item, _Vector) else read(_Vector, item, model) for item in answer.data
    ]
    numbered = [
        (place if item.index is None else item.index, item) for place, item in enumerate(items)
    ]
    if sorted(place for place, _ in numbered) != list(range(len(numbered))):
        # Whose vector is whose is not known.
        raise malformed(model)
    vectors = tuple(
        _numbers(item.embedding, model) for _, item in sorted(numbered, key=lambda entry: entry[0])
    )
    used = read_usage(answer.usage) or Usage()
    return Embeddings(vectors, model, Usage(input_tokens=used.input_tokens))


def finish_reason(reason: str | None, *, calls: bool) -> FinishReason:
    """Return a reason in our words; some say `stop` although the answer wishes to call tools."""
    if calls and reason in ("stop", "function_call", None):
        return "tool_calls"
    return _FINISH.get(reason or "", "unknown")


def read_usage(usage: object) -> Usage | None:
    """Read what was used, from JSON or from an object of litellm's; None when nothing is said."""
    if isinstance(usage, BaseModel):
        # The cost in it is a float of litellm's own making, no word of the provider's.
        usage = usage.model_dump(exclude={"cost"})
    return usage_from_openai(usage) if isinstance(usage, Mapping) and usage else None


def read(shape: type[Shape], value: object, model: str) -> Shape:
    """Check that a value has a shape.

    Raises:
        ProviderError: It has another.
    """
    try:
        return shape.model_validate(value)
    except ShapeError:
        # Not the cause of the error: its text quotes the answer.
        raise malformed(model) from None


def malformed(model: str) -> ProviderError:
    """Return the error that an answer is none."""
    message = f"The answer of the model {model!r} has not the shape of one."
    return ProviderError(message, remedy="Check the provider's address.", retryable=False)


def _numbers(vector: list[float] | str, model: str) -> tuple[float, ...]:
    """Return a vector that came as numbers, or as base64 of little-endian float32."""
    if not isinstance(vector, str):
        return tuple(vector)
    try:
        data = base64.b64decode(vector, validate=True)
    except binascii.Error:
        raise malformed(model) from None
    if not data or len(data) % _FLOAT_BYTES:
        raise malformed(model)
    numbers = array("f", data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return tuple(numbers)
