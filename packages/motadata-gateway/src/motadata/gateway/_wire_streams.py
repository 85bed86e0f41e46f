"""Streamed answers in OpenAI's shapes, added up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from motadata.core.errors import ProviderError
from motadata.core.models import Completion, ToolCall, Usage
from motadata.gateway._rendering import render_message
from motadata.gateway._requests import ChatRequest
from motadata.gateway._wire import (
    MessageShape,
    ResponseShape,
    ToolCallShape,
    finish_reason,
    read,
    read_usage,
)


_CHARACTERS_PER_TOKEN: Final = 4


@dataclass(slots=True)
class PartialCall:
    """A wish to call a tool, as far as it has come."""

    id: str
    name: str = ""
    arguments: list[str] = field(default_factory=list)

    def whole(self) -> ToolCall:
        """Return what came of it."""
        return ToolCall(self.id, self.name, "".join(self.arguments))


class StreamCollector:
    """Adds up the parts of a streamed answer: text, pieces of tool calls, usage, finish reason.

    Usage is read from whichever part carries it. When none does, tokens are estimated at four
    characters each, so that a limit or a budget never counts a streamed answer as free.
    """

    def __init__(self, request: ChatRequest) -> None:
        self._request = request
        self._text: list[str] = []
        self._refusal: list[str] = []
        self._calls: list[PartialCall] = []
        self._place: dict[int, PartialCall] = {}
        self._usage: Usage | None = None
        self._finish: str | None = None
        self._complete = True

    def text_of(self, part: object) -> str:
        """Take in one part and return its text, which may be empty.

        Raises:
            ProviderError: It has not the shape of one.
        """
        text = _plain_text(part)
        if text is not None:
            self._text.append(text)
            return text
        chunk = read(ResponseShape, part, self._request.model)
        if chunk.usage is not None:
            self._usage = read_usage(chunk.usage) or self._usage
        if not chunk.choices or chunk.choices[0].index:
            return ""
        choice = chunk.choices[0]
        self._finish = choice.finish_reason or self._finish
        return self._take(choice.delta) if choice.delta is not None else ""

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
            raise broken_off(model)
        text, calls = "".join(self._text), tuple(call.whole() for call in self._calls)
        usage = self._usage or estimated_usage(self._request, text)
        if self._refusal and not text:
            return Completion("".join(self._refusal), model, "content_filter", (), usage)
        finish = finish_reason(self._finish, calls=bool(calls))
        return Completion(text, model, finish, calls, usage)

    def _take(self, delta: MessageShape) -> str:
        for position, call in enumerate(delta.tool_calls or ()):
            self._add_call(position if call.index is None else call.index, call)
        if delta.refusal:
            self._refusal.append(delta.refusal)
            return delta.refusal
        text = delta.text
        if text:
            self._text.append(text)
        return text

    def _add_call(self, place: int, piece: ToolCallShape) -> None:
        known = self._place.get(place)
        # Gemini's compatible interface gives every parallel call the place 0 and an id of its own.
        if known is None or (piece.id and piece.function.name and piece.id != known.id):
            known = PartialCall(piece.id or f"call-{len(self._calls) + 1}")
            self._place[place] = known
            self._calls.append(known)
        name = piece.function.name or ""
        if name != known.name:  # some repeat it with every piece
            known.name += name
        if piece.function.arguments:
            known.arguments.append(piece.function.arguments)


def _plain_text(part: object) -> str | None:
    """Return the text of a part that says nothing else; None for every other one.

    Nearly all parts are of this kind, and checking them as a whole costs three times as much.
    """
    if not isinstance(part, dict) or part.get("usage") is not None:
        return None
    choices = part.get("choices")
    if not isinstance(choices, list) or len(choices) != 1:
        return None
    choice = choices[0]
    if not isinstance(choice, dict) or choice.get("index") or choice.get("finish_reason"):
        return None
    delta = choice.get("delta")
    if not isinstance(delta, dict) or delta.get("tool_calls") or delta.get("refusal"):
        return None
    text = delta.get("content")
    return text if isinstance(text, str) and text else None


def broken_off(model: str) -> ProviderError:
    """Return the error that a stream ended before the answer did."""
    message = f"The stream of the model {model!r} ended before the answer did."
    return ProviderError(message, remedy="Try again.", retryable=True)


def estimated_usage(request: ChatRequest, text: str) -> Usage:
    """Return what an answer used by its characters, for a provider that does not say."""
    sent = sum(len(render_message(message)) for message in request.messages)
    return Usage(-(-sent // _CHARACTERS_PER_TOKEN), -(-len(text) // _CHARACTERS_PER_TOKEN))
