"""Texts to embed travel together: large calls are cut to what a provider takes, small ones merged.

An idle lane sends at the end of the event loop's turn, so that a single text waits for nothing; a
busy one gathers what arrives for a few milliseconds, or until a request is full. Only calls of one
tenant to one model share a request.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from types import TracebackType
from typing import Final, Self

from motadata.core.errors import ConfigurationError, GatewayError, ProviderError, SDKError
from motadata.core.models import Completion, Embeddings, Usage
from motadata.core.tenancy import tenant_scope
from motadata.gateway._call import Call, CallNotes, Proceed
from motadata.gateway._requests import ChatRequest, EmbeddingRequest


_LaneKey = tuple[str, str, str]

_CHARACTERS_PER_TOKEN: Final = 3
_ENDING: Final = 5.0
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

    Raises:
        ConfigurationError: A number is out of range.
    """

    most_texts: int = 256
    most_tokens: int = 100_000
    most_in_flight: int = 4
    linger: float = 0.004

    def __post_init__(self) -> None:
        """Refuse numbers that cannot work."""
        for name in ("most_texts", "most_tokens", "most_in_flight"):
            if getattr(self, name) < 1:
                message = f"{name}={getattr(self, name)!r} is not positive."
                raise ConfigurationError(message, remedy="Pass 1 or more.")
        if not 0 <= self.linger <= 1:
            message = f"linger={self.linger!r} is out of range."
            raise ConfigurationError(message, remedy="Pass 0 to 1 second.")


@dataclass(slots=True, eq=False)
class _Item:
    """Texts of one call that travel together, and where their vectors are awaited."""

    call: Call[EmbeddingRequest]
    texts: tuple[str, ...]
    context: contextvars.Context
    future: asyncio.Future[Embeddings]
    characters: int
    batch: _Batch | None = None


@dataclass(slots=True, eq=False)
class _Batch:
    items: list[_Item]
    task: asyncio.Task[None] = field(init=False)


class EmbeddingBatches:
    """Cuts and merges the texts of `embed`.

    When a merged request is refused for what one of its calls brought, the calls are sent again by
    halves, until the bad one fails alone. What a request cost is split between its calls by the
    length of their texts, and the shares add up exactly.
    """

    def __init__(self, policy: BatchPolicy | None = None) -> None:
        self._policy = policy or BatchPolicy()
        self._lanes: dict[_LaneKey, _Lane] = {}

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
        key = (str(call.tenant_id), call.request.model, call.provider.revision)
        items = [self._item(call, texts) for texts in self._cut(call)]
        lane = self._lanes.get(key)
        if lane is None:
            lane = _Lane(self._policy, self._most_texts(call), proceed, self._ended(key))
            self._lanes[key] = lane
        try:
            async with asyncio.timeout(call.timeout):
                for item in items:
                    lane.add(item)
                parts = await asyncio.gather(*(item.future for item in items))
        except TimeoutError as error:
            message = f"The texts were not embedded within {call.timeout:g} s."
            raise ProviderError(message, remedy="Raise `timeout`.", retryable=True) from error
        finally:
            lane.give_up(items)
        vectors = tuple(vector for part in parts for vector in part.vectors)
        used = added(part.usage for part in parts)
        call.notes.spent = used
        return Embeddings(vectors, parts[0].model, used)

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

    def _ended(self, key: _LaneKey) -> Callable[[_Lane], None]:
        def forget(lane: _Lane) -> None:
            if self._lanes.get(key) is lane:
                del self._lanes[key]

        return forget

    def _item(self, call: Call[EmbeddingRequest], texts: tuple[str, ...]) -> _Item:
        future = asyncio.get_running_loop().create_future()
        context = contextvars.copy_context()
        return _Item(call, texts, context, future, sum(map(len, texts)))

    def _cut(self, call: Call[EmbeddingRequest]) -> Iterator[tuple[str, ...]]:
        texts = call.request.texts
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


class _Lane:
    """What one tenant sends to one model."""

    def __init__(
        self,
        policy: BatchPolicy,
        most_texts: int,
        proceed: Proceed[EmbeddingRequest, Embeddings],
        ended: Callable[[_Lane], None],
    ) -> None:
        self._policy = policy
        self._ended = ended
        self._most_texts = most_texts
        self._most_characters = policy.most_tokens * _CHARACTERS_PER_TOKEN
        self._proceed = proceed
        self._pending: deque[_Item] = deque()
        self._in_flight: set[_Batch] = set()
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self._texts = 0
        self._characters = 0

    def add(self, item: _Item) -> None:
        """Take texts along with the next request."""
        self._pending.append(item)
        self._texts += len(item.texts)
        self._characters += item.characters
        loop = asyncio.get_running_loop()
        if self._texts >= self._most_texts or self._characters >= self._most_characters:
            self._send()
        elif self._timer is None and self._in_flight:
            self._timer = loop.call_later(self._policy.linger, self._send)
        elif self._timer is None:
            self._timer = loop.call_soon(self._send)

    def give_up(self, items: Sequence[_Item]) -> None:
        """Wait no more for these; a request that nobody waits for is cancelled."""
        for item in items:
            item.future.cancel()
            if item.future.done() and not item.future.cancelled():
                item.future.exception()
            batch = item.batch
            if batch is not None and all(other.future.done() for other in batch.items):
                batch.task.cancel()
        self._pending = deque(item for item in self._pending if not item.future.done())
        self._texts = sum(len(item.texts) for item in self._pending)
        self._characters = sum(item.characters for item in self._pending)
        self._end_when_idle()

    async def aclose(self) -> None:
        """Cancel what is under way; whoever waits for it is told that the gateway was closed."""
        self.give_up(list(self._pending))
        tasks = {batch.task for batch in self._in_flight}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_ENDING)

    def _end_when_idle(self) -> None:
        if not self._pending and not self._in_flight:
            if self._timer is not None:
                self._timer.cancel()
            self._ended(self)

    def _send(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._pending and len(self._in_flight) < self._policy.most_in_flight:
            batch = _Batch(self._next())
            first = batch.items[0]
            # Alone, a call keeps its trace and its deadline; merged, it must not be cut off by
            # another's.
            context = first.context if len(batch.items) == 1 else contextvars.Context()
            batch.task = asyncio.get_running_loop().create_task(
                self._run(batch), name="gateway-embedding", context=context
            )
            for item in batch.items:
                item.batch = batch
            self._in_flight.add(batch)

    def _next(self) -> list[_Item]:
        items = [self._pending.popleft()]
        texts, characters = len(items[0].texts), items[0].characters
        while self._pending:
            following = self._pending[0]
            texts += len(following.texts)
            characters += following.characters
            if texts > self._most_texts or characters > self._most_characters:
                break
            items.append(self._pending.popleft())
        self._texts -= sum(len(item.texts) for item in items)
        self._characters -= sum(item.characters for item in items)
        return items

    async def _run(self, batch: _Batch) -> None:
        try:
            with tenant_scope(str(batch.items[0].call.tenant_id)):
                await self._embed([item for item in batch.items if not item.future.done()])
        finally:
            self._in_flight.discard(batch)
            for item in batch.items:
                _fail(item, GatewayError("The gateway was closed before the texts were embedded."))
            self._send()
            self._end_when_idle()

    async def _embed(self, items: list[_Item]) -> None:
        if not items:
            return
        first = items[0].call
        texts = tuple(text for item in items for text in item.texts)
        notes = CallNotes() if len(items) > 1 else first.notes
        merged = replace(
            first,
            request=replace(first.request, texts=texts),
            timeout=max(item.call.timeout for item in items),
            notes=notes,
        )
        try:
            result = await self._proceed(merged)
        except SDKError as error:
            if len(items) == 1 or error.retryable:
                for item in items:
                    _fail(item, error)
                return
            middle = len(items) // 2
            await self._embed(items[:middle])
            await self._embed(items[middle:])
            return
        _distribute(items, result, notes)


def _fail(item: _Item, error: SDKError) -> None:
    if not item.future.done():
        item.future.set_exception(error)


def _distribute(items: Sequence[_Item], result: Embeddings, notes: CallNotes) -> None:
    """Give each call its vectors and its share of the cost."""
    shares = split(result.usage, [max(1, item.characters) for item in items])
    start = 0
    for item, share in zip(items, shares, strict=True):
        end = start + len(item.texts)
        if item.call.notes is not notes:
            item.call.notes.provider, item.call.notes.model = notes.provider, notes.model
            item.call.notes.fallback_from = notes.fallback_from
            item.call.notes.price_version = notes.price_version
            item.call.notes.attempts += notes.attempts
        if not item.future.done():
            item.future.set_result(Embeddings(result.vectors[start:end], result.model, share))
        start = end


def split(usage: Usage, weights: Sequence[int]) -> list[Usage]:
    """Return shares of a usage in proportion to weights, that add up to it exactly.

    Each share is the difference of two neighbouring partial sums, so that nothing is lost to
    rounding.
    """
    total = sum(weights)
    shares = []
    passed, tokens_before, cost_before = 0, 0, Decimal(0)
    for weight in weights:
        passed += weight
        tokens = usage.input_tokens * passed // total
        cost = None
        if usage.cost_usd is not None:
            part = (usage.cost_usd * passed / total).quantize(Decimal("1e-12"))
            until = usage.cost_usd if passed == total else part
            cost, cost_before = until - cost_before, until
        shares.append(Usage(tokens - tokens_before, 0, cost))
        tokens_before = tokens
    return shares


def added(usages: Iterator[Usage] | Sequence[Usage]) -> Usage:
    """Return the sum of embeddings' usages; its cost is unknown when one of theirs is."""
    total = Usage(cost_usd=Decimal(0))
    for usage in usages:
        cost = None
        if total.cost_usd is not None and usage.cost_usd is not None:
            cost = total.cost_usd + usage.cost_usd
        total = Usage(total.input_tokens + usage.input_tokens, 0, cost)
    return total
