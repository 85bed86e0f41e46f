"""What a call will use, before anybody knows: prompts by characters, answers by their limit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from motadata.core.models import Completion, Embeddings, Usage
from motadata.core.prompts import EstimatedTokens, count_message
from motadata.gateway._call import Call
from motadata.gateway._requests import ChatRequest, EmbeddingRequest


@dataclass(frozen=True, slots=True)
class Estimator:
    """Estimates what requests use.

    Attributes:
        answer_tokens: Taken for an answer whose request sets no `max_tokens`.
        counter: Counts characters; it may be fed with what providers counted.
    """

    answer_tokens: int = 1024
    counter: EstimatedTokens = field(default_factory=EstimatedTokens)

    def chat(self, request: ChatRequest) -> Usage:
        """Return what a conversation uses if its answer is as long as it may be."""
        counter, model = self.counter, request.model
        tokens = sum(count_message(message, counter, model=model) for message in request.messages)
        for tool in request.tools:
            shown = f"{tool.name}{tool.description}{tool.parameters}"
            tokens += counter.count(shown, model=model)
        return Usage(tokens, request.max_tokens or self.answer_tokens)

    def of(self, call: Call[ChatRequest]) -> Usage:
        """Return what a conversation uses; parts that ask for the same call share the work."""
        known = call.notes.estimated
        if known is not None and known[0] is self and known[1] is call.request:
            return known[2]
        usage = self.chat(call.request)
        call.notes.estimated = (self, call.request, usage)
        return usage

    def embedding(self, request: EmbeddingRequest) -> Usage:
        """Return what texts to embed use."""
        counter, model = self.counter, request.model
        return Usage(sum(counter.count(text, model=model) for text in request.texts), 0)

    def used(self, answer: Completion | Embeddings, spent: Usage | None, expected: Usage) -> Usage:
        """Return what a call has used: what its provider says, or else what can be seen of it."""
        usage = spent or answer.usage
        if usage.input_tokens or usage.output_tokens:
            return usage
        if isinstance(answer, Embeddings):
            return Usage(expected.input_tokens, 0, usage.cost_usd)
        seen = self.counter.count(answer.text, model=answer.model)
        return Usage(expected.input_tokens, seen, usage.cost_usd)


USUAL: Final = Estimator()
"""What parts use to which none is given. It is one for all, so that they can share estimates."""
