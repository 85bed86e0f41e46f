"""The provider of the models that need no key and no network: `motadata/…`."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Final

from motadata.core.errors import ConfigurationError, ValidationError
from motadata.core.models import Completion, CompletionChunk, Embeddings, Health, Usage
from motadata.gateway._embedder import OfflineEmbedder
from motadata.gateway._extractive import answer_from_passages
from motadata.gateway._requests import ChatRequest, EmbeddingRequest
from motadata.gateway._routing import OFFLINE


EXTRACTIVE_MODEL: Final = "motadata/extractive"
EMBEDDING_MODEL: Final = "motadata/all-MiniLM-L6-v2"

_PIECE: Final = re.compile(r"\S+\s*|\s+")


class OfflineProvider:
    """Serves `motadata/extractive` and `motadata/all-MiniLM-L6-v2`.

    The first is no language model: it composes its answer only from sentences of the passages of
    the last message that best answer that message, each followed by its mark, and says
    `I don't know.` when none does. System instructions, earlier turns, tools and temperature do not
    change that. A token of it is a word.
    """

    def __init__(self, *, threads: int = 1) -> None:
        self._embedder = OfflineEmbedder(threads=threads)

    @property
    def name(self) -> str:
        """`motadata`."""
        return OFFLINE

    @property
    def revision(self) -> str:
        """Another one with the weights than without, as the choice of sentences differs."""
        return "1-lexical" if self._embedder.missing else "1"

    async def complete(self, request: ChatRequest) -> Completion:
        """Compose the answer; see the class.

        Raises:
            ConfigurationError: The model is none of the two, or embeds only.
        """
        if request.model != EXTRACTIVE_MODEL:
            raise _not_served(request.model, "answers", EXTRACTIVE_MODEL)
        question = request.messages[-1]
        if question.role != "user":
            message = (
                f"{EXTRACTIVE_MODEL} answers the user's turn; the last is the {question.role}'s."
            )
            raise ValidationError(message, remedy="End with a message whose role is 'user'.")
        embedder = None if self._embedder.missing else self._embedder
        text = await answer_from_passages(question.content, question.passages, embedder)
        read = sum(len(passage.text.split()) for passage in question.passages)
        usage = Usage(read + len(question.content.split()), len(text.split()))
        pieces = _PIECE.findall(text)
        limit = request.max_tokens
        if limit is None or usage.output_tokens <= limit:
            return Completion(text, request.model, usage=usage)
        cut = "".join(pieces[:limit]).rstrip()
        return Completion(cut, request.model, "length", usage=Usage(usage.input_tokens, limit))

    async def stream(self, request: ChatRequest) -> AsyncIterator[CompletionChunk]:
        """Yield the composed answer word by word.

        Raises:
            ConfigurationError: The model is none of the two, or embeds only.
        """
        answer = await self.complete(request)
        for piece in _PIECE.findall(answer.text):
            yield CompletionChunk(piece)
        yield CompletionChunk("", answer.finish_reason, usage=answer.usage)

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Embed on the CPU, off the event loop.

        Raises:
            MissingExtraError: A library of the extra `offline` is not installed.
            ConfigurationError: The weights are not installed, or the model is another one.
        """
        if request.model != EMBEDDING_MODEL:
            raise _not_served(request.model, "embeds", EMBEDDING_MODEL)
        vectors, tokens = await self._embedder.embed(request.texts)
        return Embeddings(tuple(vectors), request.model, Usage(input_tokens=tokens))

    async def health(self) -> Health:
        """Say whether the weights are there."""
        missing = self._embedder.missing
        if missing is None:
            return Health("ok", detail=f"{EXTRACTIVE_MODEL} and {EMBEDDING_MODEL} serve.")
        detail = f"{EMBEDDING_MODEL} is not installed. Install it with: {missing}"
        return Health("degraded", detail=detail)

    async def aclose(self) -> None:
        """Let the threads end."""
        self._embedder.close()


def _not_served(model: str, verb: str, right: str) -> ConfigurationError:
    message = f"No offline model {model!r} {verb}."
    return ConfigurationError(message, remedy=f"Use {right!r}.")
