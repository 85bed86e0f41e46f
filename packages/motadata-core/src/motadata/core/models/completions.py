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
        cached_input_tokens: Those of `input_tokens` that the provider read from its prompt cache.
        cache_write_tokens: Those of `input_tokens` that it wrote to its prompt cache.
        reasoning_tokens: Those of `output_tokens` that the model thought and did not say.
        web_searches: Searches that the provider made for the answer and charges apart.
        long_cache_write_tokens: Those of `cache_write_tokens` that it keeps for an hour, at a
            higher price than the usual five minutes.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal | None = None
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    web_searches: int = 0
    long_cache_write_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Completion(Record):
    """The whole answer of a chat model.

    Attributes:
        model: The model that answered, which a fallback can make another than the one asked.
        cached: Whether it came from the response cache, in which case nothing was paid for it.
        shared: Whether an equal call that was already under way answered it, and paid for it.
        fallback_from: The model that was asked when another one answered in its place.
        call_id: Names the call in the usage log and to feedback; empty when nothing records it.
    """

    text: str
    model: str
    finish_reason: FinishReason = "stop"
    tool_calls: tuple[ToolCall, ...] = ()
    usage: Usage = Usage()
    cached: bool = False
    shared: bool = False
    fallback_from: str | None = None
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class CompletionChunk(Record):
    """A part of a streamed answer; the last one carries the finish reason, tool calls and usage.

    Attributes:
        model: Set on the last part: the model that answered.
        call_id: Set on the last part, as in `Completion`.
    """

    text: str
    finish_reason: FinishReason | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    usage: Usage | None = None
    model: str | None = None
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class Embeddings(Record):
    """One vector a text, in the order of the texts; all of one dimension and of length 1."""

    vectors: tuple[tuple[float, ...], ...]
    model: str
    usage: Usage = Usage()
