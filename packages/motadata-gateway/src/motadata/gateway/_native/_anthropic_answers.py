"""Anthropic's answers as ours: whole, and streamed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import orjson
from pydantic import BaseModel, ConfigDict

from motadata.core.models import Completion, FinishReason, ToolCall, Usage
from motadata.gateway._native._anthropic_requests import ANSWER_TOOL
from motadata.gateway._native._provider import decoded
from motadata.gateway._requests import ChatRequest
from motadata.gateway._wire import malformed, read
from motadata.gateway._wire_streams import PartialCall, broken_off, estimated_usage
from motadata.gateway.usage import merged_counts, usage_from_anthropic


_FINISH: Final[Mapping[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class _Shape(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Block(_Shape):
    type: str = ""
    text: str | None = None
    id: str | None = None
    name: str | None = None
    input: object = None


class _Delta(_Shape):
    type: str = ""
    text: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class _Answer(_Shape):
    content: list[_Block] = []
    stop_reason: str | None = None
    usage: dict[str, object] | None = None


class _Event(_Shape):
    type: str
    index: int = 0
    message: _Answer | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: dict[str, object] | None = None


def completion(data: bytes, request: ChatRequest) -> Completion:
    """Read a whole answer.

    Raises:
        SDKError: It is none, or carries an error.
    """
    model = request.model
    value = decoded(data, model)
    if not isinstance(value, Mapping) or not isinstance(value.get("content"), list):
        raise malformed(model)
    answer = read(_Answer, value, model)
    text = [block.text or "" for block in answer.content if block.type == "text"]
    uses = [block for block in answer.content if block.type == "tool_use"]
    structured = _is_structured(request)
    said = [use for use in uses if structured and use.name == ANSWER_TOOL]
    calls = tuple(
        ToolCall(use.id or f"call-{number}", use.name or "", _arguments(use.input))
        for number, use in enumerate((use for use in uses if use not in said), 1)
    )
    return Completion(
        text=_arguments(said[0].input) if said else "".join(text),
        model=model,
        finish_reason=_finish(answer.stop_reason, calls=bool(calls), said=bool(said)),
        tool_calls=calls,
        usage=usage_from_anthropic(answer.usage or {}) or Usage(),
    )


class AnthropicCollector:
    """Adds up the events of a streamed answer.

    What the model says before it gives a structured answer is left out, as that answer is the text.
    """

    def __init__(self, request: ChatRequest) -> None:
        self._request = request
        self._structured = _is_structured(request)
        self._text: list[str] = []
        self._calls: dict[int, PartialCall] = {}
        self._said: int | None = None
        self._usage: Mapping[str, object] = {}
        self._stop: str | None = None
        self.is_over = False

    def take(self, event: bytes) -> str:
        """Take in an event's data and return its text, which may be empty.

        Raises:
            SDKError: It is none, or carries an error.
        """
        model = self._request.model
        read_event = read(_Event, decoded(event, model), model)
        kind = read_event.type
        if kind == "content_block_delta" and read_event.delta is not None:
            return self._add(read_event.index, read_event.delta)
        if kind == "content_block_start" and read_event.content_block is not None:
            return self._begin(read_event.index, read_event.content_block)
        if kind == "message_start" and read_event.message is not None:
            self._use(read_event.message.usage)
        elif kind == "message_delta":
            self._use(read_event.usage)
            reason = read_event.delta.stop_reason if read_event.delta is not None else None
            self._stop = reason or self._stop
        elif kind == "message_stop":
            self.is_over = True
        return ""

    def completion(self) -> Completion:
        """Return the whole answer.

        Raises:
            ProviderError: The stream ended before the answer did.
        """
        model = self._request.model
        if self._stop is None or not self.is_over:
            raise broken_off(model)
        said = self._said is not None
        text = "".join(self._text)
        calls = tuple(
            ToolCall(call.id, call.name, "".join(call.arguments) or "{}")
            for place, call in sorted(self._calls.items())
            if place != self._said
        )
        usage = usage_from_anthropic(self._usage)
        if usage is None or not usage.output_tokens:
            usage = estimated_usage(self._request, text)
        finish = _finish(self._stop, calls=bool(calls), said=said)
        return Completion(text, model, finish, calls, usage)

    def _begin(self, place: int, block: _Block) -> str:
        if block.type == "text":
            return self._say(block.text or "")
        if block.type == "tool_use":
            if self._structured and self._said is None and block.name == ANSWER_TOOL:
                self._said = place
            number = len(self._calls) + 1
            self._calls[place] = PartialCall(block.id or f"call-{number}", block.name or "")
        return ""

    def _add(self, place: int, delta: _Delta) -> str:
        if delta.type == "text_delta":
            return self._say(delta.text or "")
        # Other pieces are thoughts and signatures, and arguments of tools that the provider calls.
        if delta.type != "input_json_delta" or place not in self._calls or not delta.partial_json:
            return ""
        if place == self._said:
            self._text.append(delta.partial_json)
            return delta.partial_json
        self._calls[place].arguments.append(delta.partial_json)
        return ""

    def _say(self, text: str) -> str:
        if self._structured and not self._request.tools:
            return ""
        if text:
            self._text.append(text)
        return text

    def _use(self, usage: Mapping[str, object] | None) -> None:
        self._usage = merged_counts(self._usage, usage or {})


def _is_structured(request: ChatRequest) -> bool:
    return request.options.output_schema is not None


def _arguments(value: object) -> str:
    return orjson.dumps(value if isinstance(value, dict) else {}).decode()


def _finish(reason: str | None, *, calls: bool, said: bool) -> FinishReason:
    if said and not calls and reason == "tool_use":
        return "stop"
    if calls and reason in ("end_turn", None):
        return "tool_calls"
    return _FINISH.get(reason or "", "unknown")
