"""Our messages as litellm takes them, and its answers as ours; the shapes are OpenAI's.

What comes back is checked by pydantic before anything is read from it: a provider's answer is data
from outside.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic import ValidationError as ShapeError

from motadata.core.errors import ProviderError
from motadata.core.models import (
    Completion,
    Embeddings,
    FinishReason,
    Message,
    ToolCall,
    ToolDefinition,
    Usage,
)
from motadata.gateway._rendering import render_message
from motadata.gateway._requests import ChatOptions, ChatRequest
from motadata.gateway._schemas import response_format


_FINISH: Final[Mapping[str, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
_CHARACTERS_PER_TOKEN: Final = 4


class _Shape(BaseModel):
    model_config = ConfigDict(from_attributes=True, extra="ignore")


Shape = TypeVar("Shape", bound=_Shape)


class _Function(_Shape):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(_Shape):
    index: int | None = None
    id: str | None = None
    function: _Function = Field(default_factory=_Function)


class _Message(_Shape):
    content: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(_Shape):
    message: _Message | None = None
    delta: _Message | None = None
    finish_reason: str | None = None


class _Usage(_Shape):
    prompt_tokens: int = Field(default=0, ge=0)
    completion_tokens: int = Field(default=0, ge=0)


class _Response(_Shape):
    choices: list[_Choice] = []
    usage: _Usage | None = None


class _Vector(_Shape):
    embedding: list[float]
    index: int | None = None


class _EmbeddingResponse(_Shape):
    data: list[_Vector | dict[str, object]]
    usage: _Usage | None = None


def chat_arguments(request: ChatRequest) -> dict[str, object]:
    """Return what the request says, without key and address."""
    arguments: dict[str, object] = {
        "model": request.model,
        "messages": [_sent(message) for message in request.messages],
    }
    if request.temperature is not None:
        arguments["temperature"] = request.temperature
    if request.max_tokens is not None:
        arguments["max_tokens"] = request.max_tokens
    if request.tools:
        arguments["tools"] = [_tool(tool) for tool in request.tools]
    return arguments | _options(request.options)


def _options(options: ChatOptions) -> dict[str, object]:
    arguments: dict[str, object] = {}
    choice = options.tool_choice
    if choice in ("auto", "none", "required"):
        arguments["tool_choice"] = choice
    elif choice is not None:
        arguments["tool_choice"] = {"type": "function", "function": {"name": choice}}
    if options.top_p is not None:
        arguments["top_p"] = options.top_p
    if options.stop:
        arguments["stop"] = list(options.stop)
    if options.seed is not None:
        arguments["seed"] = options.seed
    if options.output_schema is not None:
        arguments["response_format"] = response_format(options.output_schema)
    return arguments


def completion(response: object, model: str) -> Completion:
    """Read a whole answer.

    Raises:
        ProviderError: It has not the shape of one.
    """
    answer = _read(_Response, response, model)
    if not answer.choices or answer.choices[0].message is None:
        raise _malformed(model)
    choice = answer.choices[0]
    message = choice.message or _Message()
    calls = tuple(
        ToolCall(
            call.id or f"call-{number}", call.function.name or "", call.function.arguments or ""
        )
        for number, call in enumerate(message.tool_calls or (), 1)
    )
    used = answer.usage or _Usage()
    return Completion(
        text=message.content or "",
        model=model,
        finish_reason=_finish(choice.finish_reason, calls=bool(calls)),
        tool_calls=calls,
        usage=Usage(used.prompt_tokens, used.completion_tokens),
    )


def embeddings(response: object, model: str) -> Embeddings:
    """Read vectors, in the order of the texts whatever the order of the answer.

    Raises:
        ProviderError: It has not the shape of them.
    """
    answer = _read(_EmbeddingResponse, response, model)
    items = [
        item if isinstance(item, _Vector) else _read(_Vector, item, model) for item in answer.data
    ]
    numbered = [
        (place if item.index is None else item.index, item) for place, item in enumerate(items)
    ]
    vectors = tuple(
        tuple(item.embedding) for _, item in sorted(numbered, key=lambda entry: entry[0])
    )
    used = answer.usage or _Usage()
    return Embeddings(vectors, model, Usage(input_tokens=used.prompt_tokens))


class StreamCollector:
    """Adds up the parts of a streamed answer: text, pieces of tool calls, usage, finish reason.

    Usage is read from whichever part carries it. When none does, tokens are estimated at four
    characters each, so that a limit or a budget never counts a streamed answer as free.
    """

    def __init__(self, request: ChatRequest) -> None:
        self._request = request
        self._text: list[str] = []
        self._calls: dict[int, ToolCall] = {}
        self._usage: _Usage | None = None
        self._finish: str | None = None
        self._complete = True

    def text_of(self, part: object) -> str:
        """Take in one part and return its text, which may be empty.

        Raises:
            ProviderError: It has not the shape of one.
        """
        chunk = _read(_Response, part, self._request.model)
        if chunk.usage is not None:
            self._usage = chunk.usage
        if not chunk.choices:
            return ""
        choice = chunk.choices[0]
        self._finish = choice.finish_reason or self._finish
        delta = choice.delta or _Message()
        for position, call in enumerate(delta.tool_calls or ()):
            self._add_call(position if call.index is None else call.index, call)
        text = delta.content or ""
        self._text.append(text)
        return text

    def ended(self, *, complete: bool) -> None:
        """Note that no more parts come, and whether that was the provider's word."""
        self._complete = complete

    def completion(self) -> Completion:
        """Return the whole answer.

        Raises:
            ProviderError: The stream ended before the answer did.
        """
        model = self._request.model
        if self._finish is None or not self._complete:
            message = f"The stream of the model {model!r} ended before the answer did."
            raise ProviderError(message, remedy="Try again.", retryable=True)
        text = "".join(self._text)
        calls = tuple(self._calls[index] for index in sorted(self._calls))
        finish = _finish(self._finish, calls=bool(calls))
        return Completion(text, model, finish, calls, self._used(text))

    def _add_call(self, index: int, piece: _ToolCall) -> None:
        known = self._calls.get(index, ToolCall(f"call-{index + 1}", "", ""))
        self._calls[index] = ToolCall(
            piece.id or known.id,
            known.name + (piece.function.name or ""),
            known.arguments + (piece.function.arguments or ""),
        )

    def _used(self, text: str) -> Usage:
        if self._usage is not None:
            return Usage(self._usage.prompt_tokens, self._usage.completion_tokens)
        sent = sum(len(render_message(message)) for message in self._request.messages)
        return Usage(-(-sent // _CHARACTERS_PER_TOKEN), -(-len(text) // _CHARACTERS_PER_TOKEN))


def _sent(message: Message) -> dict[str, object]:
    sent: dict[str, object] = {"role": message.role, "content": render_message(message)}
    if message.tool_call_id is not None:
        sent["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        sent["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    return sent


def _tool(tool: ToolDefinition) -> dict[str, object]:
    parameters = dict(tool.parameters) or {"type": "object", "properties": {}}
    function = {"name": tool.name, "description": tool.description, "parameters": parameters}
    return {"type": "function", "function": function}


def _finish(reason: str | None, *, calls: bool) -> FinishReason:
    # Some providers say `stop` although the answer is a wish to call tools.
    if calls and reason in ("stop", "function_call", None):
        return "tool_calls"
    return _FINISH.get(reason or "", "unknown")


def _read(shape: type[Shape], value: object, model: str) -> Shape:
    try:
        return shape.model_validate(value)
    except ShapeError:
        # Not the cause of the error: its text quotes the answer.
        raise _malformed(model) from None


def _malformed(model: str) -> ProviderError:
    message = f"The answer of the model {model!r} has not the shape of one."
    return ProviderError(message, remedy="Check the provider's address.", retryable=False)
