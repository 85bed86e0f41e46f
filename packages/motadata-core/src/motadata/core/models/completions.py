"""What a model answers: completions, their chunks when streamed, embeddings, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from motadata.core.models._record import Record
from motadata.core.models.messages import ToolCall


FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "unknown"]


@dataclass(frozen=True, slots=True)
class Usage(Record):
    """Tokens and money of one call, or of several added up.

    Attributes:
        input_tokens: Tokens sent, those read from the provider's own cache included.
        output_tokens: Tokens received.
        cost_usd: Price in US dollars; None when the model has no known price.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Completion(Record):
    """The whole answer of a chat model.

    Attributes:
        model: The model that answered, which a fallback can make another than the one asked.
        cached: Whether it came from the response cache, in which case nothing was paid for it.
    """

    text: str
    model: str
    finish_reason: FinishReason = "stop"
    tool_calls: tuple[ToolCall, ...] = ()
    usage: Usage = Usage()
    cached: bool = False


@dataclass(frozen=True, slots=True)
class CompletionChunk(Record):
    """A part of a streamed answer; the last one carries the finish reason, tool calls and usage."""

    text: str
    finish_reason: FinishReason | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Embeddings(Record):
    """One vector a text, in the order of the texts; all of one dimension and of length 1."""

    vectors: tuple[tuple[float, ...], ...]
    model: str
    usage: Usage = Usage()
