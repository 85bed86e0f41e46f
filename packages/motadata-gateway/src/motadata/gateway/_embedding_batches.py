"""Texts to embed travel together: large calls are cut to what a provider takes, small ones merged.

An idle lane sends at the end of the event loop's turn, so that a single text waits for nothing; a
busy one gathers what arrives for a few milliseconds, or until a request is full. Only calls of one
tenant to one model share a request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from motadata.core.errors import ConfigurationError, ProviderError, RateLimitError, SDKError
from motadata.core.models import Completion, Embeddings
from motadata.gateway._call import Call, Proceed
from motadata.gateway._embedding_lanes import Item, Lane, LaneLimits
from motadata.gateway._requests import ChatRequest, EmbeddingRequest
from motadata.gateway._usages import NOTHING_PAID, total


_LaneKey = tuple[str, str, str]

_CHARACTERS_PER_TOKEN: Final = 3
_PAUSE: Final = 0.1
_MOST_TEXTS: Final[Mapping[str, int]] = {
    "bedrock": 96,
    "cohere": 96,
    "gemini": 100,
    "mistral": 128,
    "vertex_ai": 250,
    "voyage": 128,
}
"""Texts of one request, where a provider takes fewer than the default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPolicy:
    """How texts are put together.

    Attributes:
        most_texts: Texts of one request; fewer for providers that take fewer.
        most_tokens: Tokens of one request, estimated.
        most_in_flight: Requests of one tenant to one model at the same time.
        linger: Seconds that a text waits for others while requests are under way.
        most_tries: How often the requests of a large call are sent that fail while others of it
            succeed, the first time included.

    Raises:
        ConfigurationError: A number is out of range.
    """

    most_texts: int = 256
    most_tokens: int = 100_000
    most_in_flight: int = 4
    linger: float = 0.004
    most_tries: int = 2

    def __post_init__(self) -> None:
        """Refuse numbers that cannot work."""
        for name in ("most_texts", "most_tokens", "most_in_flight", "most_tries"):
            if getattr(self, name) < 1:
                message = f"{name}={getattr(self, name)!r} is not positive."
                raise ConfigurationError(message, remedy="Pass 1 or more.")
        if not 0 <= self.linger <= 1:
            message = f"linger={self.linger!r} is out of range."
            raise ConfigurationError(message, remedy="Pass 0 to 1 second.")


class EmbeddingBatches:
    """Cuts and merges the texts of `embed`.

    When a merged request is refused for what one of its calls brought, the calls are sent again by
    halves, until the bad one fails alone. What a request cost is split between its calls by the
    length of their texts, and the shares add up exactly.
    """

    def __init__(self, policy: BatchPolicy | None = None) -> None:
        self._policy = policy or BatchPolicy()
        self._lanes: dict[_LaneKey, Lane] = {}

    async def chat(
        self, call: Call[ChatRequest], proceed: Proceed[ChatRequest, Completion]
    ) -> Completion:
        """Pass a conversation on as it is."""
        return await proceed(call)

    async def embedding(
        self, call: Call[EmbeddingRequest], proceed: Proceed[EmbeddingRequest, Embeddings]
    ) -> Embeddings:
        """Return the vectors of all texts, in order.

        Raises:
            SDKError: What the provider raised for these texts.
            ProviderError: They were not all embedded within the call's time limit.
        """
        kept = call.notes.kept
        # A text that occurs twice is sent once.
        missing = tuple(text for text in dict.fromkeys(call.request.texts) if text not in kept)
        lane = self._lane(call, proceed)
        sent: list[Item] = []
        try:
            async with asyncio.timeout(call.timeout):
                await self._embedded(lane, call, missing, sent)
        except TimeoutError as error:
            message = f"The texts were not embedded within {call.timeout:g} s."
            raise ProviderError(message, remedy="Raise `timeout`.", retryable=True) from error
        finally:
            came = [item for item in sent if _came(item)]
            try:
                await lane.leave(sent)
            finally:
                call.notes.spent = total((call.notes.spent, *(item.charged for item in sent)))
                if kept or len(came) < len(sent):
                    for item in came:
                        kept.update(zip(item.texts, item.future.result().vectors, strict=True))
        return _put_together(call, came)

    async def _embedded(
        self, lane: Lane, call: Call[EmbeddingRequest], texts: tuple[str, ...], sent: list[Item]
    ) -> None:
        """Send texts in requests; those that fail while others succeed are sent once more alone.

        Everything that was sent is added to `sent`.

        Raises:
            SDKError: What the provider raised for the first that failed for good.
        """
        items = [Item(call, part) for part in self._cut(call, texts)] if texts else []
        for tries in range(1, self._policy.most_tries + 1):
            sent.extend(items)
            for item in items:
                lane.add(item)
            error = await _outcome(lane, items)
            if error is None:
                return
            helps = isinstance(error, SDKError) and error.retryable
            if not helps or tries == self._policy.most_tries or not any(map(_came, sent)):
                raise error
            asked = error.retry_after if isinstance(error, RateLimitError) else None
            if asked is not None and asked >= call.timeout:
                raise error
            await asyncio.sleep(_PAUSE if asked is None else asked)
            items = [Item(call, item.texts) for item in items if not _came(item)]

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Cancel what is still under way."""
        await asyncio.gather(*(lane.aclose() for lane in list(self._lanes.values())))

    def _ended(self, key: _LaneKey) -> Callable[[Lane], None]:
        def forget(lane: Lane) -> None:
            if self._lanes.get(key) is lane:
                del self._lanes[key]

        return forget

    def _lane(
        self, call: Call[EmbeddingRequest], proceed: Proceed[EmbeddingRequest, Embeddings]
    ) -> Lane:
        key = (str(call.tenant_id), call.request.model, call.provider.revision)
        lane = self._lanes.get(key)
        if lane is None:
            limits = LaneLimits(
                texts=self._most_texts(call),
                characters=self._policy.most_tokens * _CHARACTERS_PER_TOKEN,
                in_flight=self._policy.most_in_flight,
                linger=self._policy.linger,
            )
            lane = self._lanes[key] = Lane(limits, proceed, self._ended(key))
        return lane

    def _cut(
        self, call: Call[EmbeddingRequest], texts: tuple[str, ...]
    ) -> Iterator[tuple[str, ...]]:
        most_texts = self._most_texts(call)
        most_characters = self._policy.most_tokens * _CHARACTERS_PER_TOKEN
        start, characters = 0, 0
        for position, text in enumerate(texts):
            full = position - start >= most_texts or characters + len(text) > most_characters
            if full and position > start:
                yield texts[start:position]
                start, characters = position, 0
            characters += len(text)
        yield texts[start:]

    def _most_texts(self, call: Call[EmbeddingRequest]) -> int:
        return min(self._policy.most_texts, _MOST_TEXTS.get(call.provider.name, 1 << 30))


async def _outcome(lane: Lane, items: Sequence[Item]) -> Exception | None:
    """Wait for all vectors; return the first error, once what was sent beside it has come in.

    What is under way when a request fails is paid for; it is worth waiting for.
    """
    futures = [item.future for item in items]
    if len(futures) == 1:
        try:
            await futures[0]
        except Exception as failure:  # noqa: BLE001 - returned
            return failure
    if len(futures) < 2:  # noqa: PLR2004 - nothing to wait for beside it
        return None
    await asyncio.wait(futures, return_when=asyncio.FIRST_EXCEPTION)
    errors = [future.exception() for future in futures if future.done()]
    error = next((error for error in errors if isinstance(error, Exception)), None)
    if error is not None:
        lane.withdraw(items)
        await asyncio.wait(futures)
    return error


def _came(item: Item) -> bool:
    """Tell whether the vectors of these texts are there."""
    future = item.future
    return future.done() and not future.cancelled() and future.exception() is None


def _put_together(call: Call[EmbeddingRequest], came: Sequence[Item]) -> Embeddings:
    if len(came) == 1 and came[0].texts == call.request.texts:
        return came[0].future.result()
    parts = [item.future.result() for item in came]
    model = parts[0].model if parts else call.request.model
    used = total(part.usage for part in parts) or NOTHING_PAID
    vectors = dict(call.notes.kept)
    for item, part in zip(came, parts, strict=True):
        vectors.update(zip(item.texts, part.vectors, strict=True))
    return Embeddings(tuple(vectors[text] for text in call.request.texts), model, used)
