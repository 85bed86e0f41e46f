"""A gateway without a model: deterministic vectors and answers, for tests and for trying out.

It keeps the whole contract of `motadata.core.protocols.Gateway` and calls nothing. Vectors are
hashed bags of words, so that texts that share words are near each other; answers quote the
passages.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from motadata.core.errors import ConfigurationError, MissingExtraError, SDKError, ValidationError
from motadata.core.models import (
    Completion,
    CompletionChunk,
    Embeddings,
    Health,
    Message,
    Passage,
    ToolCall,
    ToolDefinition,
    Usage,
)
from motadata.core.protocols import CachePolicy
from motadata.core.tenancy import TenantId, resolve_tenant


DIMENSIONS: Final = 64
"""Length of the vectors of `FakeGateway`."""

UNKNOWN: Final = "I don't know."
"""What `FakeGateway` answers when no passage shares a word with the question."""

_MODEL: Final = "fake/quote"
_EMBEDDING_MODEL: Final = "fake/words"
_WORD: Final = re.compile(r"\w+")
_SENTENCE: Final = re.compile(r"[^.!?\n]+[.!?]*")
_STOP_WORDS: Final = frozenset(
    "a an and are as at be by can did do does for from how i if in is it me my not of on or "  # noqa: SIM905 - a list of words reads best as text
    "that the there this to was we what when where which who whom whose why with you".split()
)


@dataclass(frozen=True, slots=True)
class GatewayCall:
    """One call that reached a `FakeGateway`.

    Attributes:
        method: `generate`, `stream` or `embed`.
        messages: What was said; empty for `embed`.
        texts: What was to be embedded; empty for the others.
    """

    method: str
    tenant_id: TenantId
    model: str
    messages: tuple[Message, ...] = ()
    texts: tuple[str, ...] = ()


class FakeGateway:
    """Answers from the passages it is given, and embeds by the words of a text.

    With passages an answer is the sentences that share most words with the question, each with
    its mark (`[2]`), or `I don't know.`; without, it repeats the question. A tool whose name occurs
    in the last message is called without arguments. A token is a word.

    Args:
        embeddings: False makes `embed` fail as it does when the embedding model is not installed.

    Attributes:
        calls: Every call that passed validation, in order.
    """

    def __init__(self, *, embeddings: bool = True) -> None:
        self.calls: list[GatewayCall] = []
        self._embeddings = embeddings
        self._failures: deque[SDKError] = deque()

    def fail_next(self, error: SDKError) -> None:
        """Make the next call that is valid raise `error`; several are raised in their order."""
        self._failures.append(error)

    async def generate_async(
        self,
        prompt: str | Sequence[Message],
        *,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        tools: Sequence[ToolDefinition] = (),
        timeout: float | None = None,
        cache: CachePolicy = "use",
        tenant_id: str | None = None,
    ) -> Completion:
        """Return the whole answer; there is no response cache, whatever `cache` says.

        Raises:
            TenantRequiredError: No tenant is given and none is in scope.
            ValidationError: There is no message, or a parameter is out of range.
            ConfigurationError: The model is not one of `fake/…`.
        """
        if cache not in ("use", "refresh", "bypass"):
            message = f"cache={cache!r} is no cache policy."
            raise ValidationError(message, remedy="Use 'use', 'refresh' or 'bypass'.")
        messages = self._begin(
            "generate", prompt, model, temperature, max_tokens, timeout, tenant_id
        )
        return _answer(messages, model or _MODEL, max_tokens, tools)

    async def stream(
        self,
        prompt: str | Sequence[Message],
        *,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        tools: Sequence[ToolDefinition] = (),
        timeout: float | None = None,
        tenant_id: str | None = None,
    ) -> AsyncIterator[CompletionChunk]:
        """Yield the answer word by word; the last chunk is empty and carries the rest.

        Raises:
            TenantRequiredError: No tenant is given and none is in scope.
            ValidationError: There is no message, or a parameter is out of range.
            ConfigurationError: The model is not one of `fake/…`.
        """
        messages = self._begin("stream", prompt, model, temperature, max_tokens, timeout, tenant_id)
        answer = _answer(messages, model or _MODEL, max_tokens, tools)
        for piece in re.findall(r"\S+\s*", answer.text):
            yield CompletionChunk(piece)
        yield CompletionChunk(
            "",
            finish_reason=answer.finish_reason,
            tool_calls=answer.tool_calls,
            usage=answer.usage,
        )

    async def embed(
        self,
        texts: Sequence[str],
        *,
        model: str | None = None,
        timeout: float | None = None,
        tenant_id: str | None = None,
    ) -> Embeddings:
        """Return one vector of 64 numbers a text.

        Raises:
            TenantRequiredError: No tenant is given and none is in scope.
            ValidationError: A text is empty, or `texts` is a single string.
            MissingExtraError: The gateway was made with `embeddings=False`.
            ConfigurationError: The model is not one of `fake/…`.
        """
        tenant = resolve_tenant(tenant_id)
        _check_number("timeout", timeout, above=0)
        if isinstance(texts, str):
            raise ValidationError("embed takes a sequence of texts.", remedy="Pass [text].")
        for position, text in enumerate(texts):
            if not text.strip():
                message = f"Text {position} is empty."
                raise ValidationError(message, remedy="Leave empty texts out.")
        name = _known_model(model or _EMBEDDING_MODEL)
        if not self._embeddings:
            raise MissingExtraError("tokenizers", extra="offline", distribution="motadata-gateway")
        self._record(GatewayCall("embed", tenant, name, texts=tuple(texts)))
        tokens = sum(len(_WORD.findall(text)) for text in texts)
        vectors = tuple(word_vector(text) for text in texts)
        return Embeddings(vectors, name, Usage(input_tokens=tokens))

    async def health(self) -> Health:
        """Say that it serves; degraded when it was made with `embeddings=False`."""
        if self._embeddings:
            return Health("ok")
        return Health("degraded", detail="No embedding model; install 'motadata-gateway[offline]'.")

    def _begin(
        self,
        method: str,
        prompt: str | Sequence[Message],
        model: str | None,
        temperature: float | None,
        max_tokens: int | None,
        timeout: float | None,
        tenant_id: str | None,
    ) -> tuple[Message, ...]:
        tenant = resolve_tenant(tenant_id)
        messages = (Message("user", prompt),) if isinstance(prompt, str) else tuple(prompt)
        if not messages:
            raise ValidationError("There is no message.", remedy="Pass a prompt or messages.")
        last = messages[-1]
        if last.role in ("user", "system") and not last.content.strip() and not last.passages:
            raise ValidationError("The last message is empty.", remedy="Give it content.")
        _check_number("temperature", temperature, at_least=0)
        _check_number("max_tokens", max_tokens, at_least=1)
        _check_number("timeout", timeout, above=0)
        name = _known_model(model or _MODEL)
        self._record(GatewayCall(method, tenant, name, messages=messages))
        return messages

    def _record(self, call: GatewayCall) -> None:
        self.calls.append(call)
        if self._failures:
            raise self._failures.popleft()


def _check_number(
    name: str, value: float | None, *, at_least: float | None = None, above: float | None = None
) -> None:
    if value is None:
        return
    low = at_least is not None and value < at_least
    low = low or (above is not None and value <= above)
    if low or not math.isfinite(value):
        message = f"{name}={value!r} is out of range."
        raise ValidationError(message, remedy="Leave it out to get the default.")


def _known_model(model: str) -> str:
    if not model.startswith("fake/"):
        message = f"The fake gateway knows no model {model!r}."
        raise ConfigurationError(message, remedy=f"Use {_MODEL!r} or {_EMBEDDING_MODEL!r}.")
    return model


def _answer(
    messages: tuple[Message, ...],
    model: str,
    max_tokens: int | None,
    tools: Sequence[ToolDefinition],
) -> Completion:
    last = messages[-1]
    called = [tool for tool in tools if tool.name in last.content and last.role != "tool"]
    words = sum(len(_WORD.findall(message.content)) for message in messages)
    if called:
        calls = tuple(ToolCall(f"call-{i}", tool.name, "{}") for i, tool in enumerate(called, 1))
        return Completion("", model, "tool_calls", calls, Usage(words, len(calls)))
    text = _quote(last.content, last.passages) if last.passages else f"You said: {last.content}"
    pieces = re.findall(r"\S+\s*", text)
    answer = Completion(text, model, "stop", usage=Usage(words, len(pieces)))
    if max_tokens is None or len(pieces) <= max_tokens:
        return answer
    cut = "".join(pieces[:max_tokens]).rstrip()
    return replace(answer, text=cut, finish_reason="length", usage=Usage(words, max_tokens))


def _quote(question: str, passages: Sequence[Passage]) -> str:
    wanted = _content_words(question)
    scored = [
        (
            len(wanted & _content_words(f"{passage.title} {sentence}")),
            passage.number,
            sentence.strip(),
        )
        for passage in passages
        for sentence in _SENTENCE.findall(passage.text)
        if wanted & _content_words(sentence)
    ]
    best = sorted(scored, key=lambda item: -item[0])[:2]
    return " ".join(f"{sentence} [{number}]" for _, number, sentence in best) or UNKNOWN


def _content_words(text: str) -> set[str]:
    return {_stem(word) for word in _WORD.findall(text.lower())} - _STOP_WORDS


def _stem(word: str) -> str:
    return word[:-1] if word.endswith("s") and len(word) > 3 else word


def word_vector(text: str) -> tuple[float, ...]:
    """Return the sum of a signed unit vector a word, at length 1; texts of equal words are equal.

    A text without words counts by its characters.
    """
    words = [_stem(word) for word in _WORD.findall(text.lower())]
    meaningful = [word for word in words if word not in _STOP_WORDS] or words or list(text.strip())
    values = [0.0] * DIMENSIONS
    for word in meaningful:
        digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=4).digest()
        number = int.from_bytes(digest, "big")
        values[number % DIMENSIONS] += 1.0 if number & 0x80000000 else -1.0
    length = math.sqrt(sum(value * value for value in values))
    if length == 0:  # opposite words cancelled each other
        values[0] = length = 1.0
    return tuple(value / length for value in values)
