"""A lane: what one tenant sends to one embedding model, under way or still gathering texts."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from motadata.core.errors import GatewayError, ValidationError
from motadata.core.models import Embeddings, Usage
from motadata.core.tenancy import tenant_scope
from motadata.gateway._call import Call, CallNotes, Proceed
from motadata.gateway._requests import EmbeddingRequest
from motadata.gateway._usages import split, total


_ENDING: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneLimits:
    """What one request may hold, and how many of them there may be at a time."""

    texts: int
    characters: int
    in_flight: int
    linger: float


@dataclass(slots=True, eq=False)
class Item:
    """Texts of one call that travel together, and where their vectors are awaited.

    Attributes:
        charged: What the provider charged for these texts, also when they failed.
        gone: Whether its call reads no more what is charged.
    """

    call: Call[EmbeddingRequest]
    texts: tuple[str, ...]
    characters: int = field(init=False)
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    future: asyncio.Future[Embeddings] = field(init=False)
    batch: _Batch | None = None
    charged: Usage | None = None
    gone: bool = False

    def __post_init__(self) -> None:
        """Measure the texts."""
        self.characters = sum(map(len, self.texts))
        self.future = asyncio.get_running_loop().create_future()

    def fail(self, error: Exception) -> None:
        """Tell whoever still waits that there will be no vectors."""
        if not self.future.done():
            self.future.set_exception(error)


@dataclass(slots=True, eq=False)
class _Batch:
    items: list[Item]
    task: asyncio.Task[None] = field(init=False)


class Lane:
    """What one tenant sends to one model."""

    def __init__(
        self,
        limits: LaneLimits,
        proceed: Proceed[EmbeddingRequest, Embeddings],
        ended: Callable[[Lane], None],
    ) -> None:
        self._limits = limits
        self._ended = ended
        self._proceed = proceed
        self._pending: deque[Item] = deque()
        self._in_flight: set[_Batch] = set()
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self._texts = 0
        self._characters = 0

    def add(self, item: Item) -> None:
        """Take texts along with the next request."""
        self._pending.append(item)
        self._texts += len(item.texts)
        self._characters += item.characters
        full = self._texts >= self._limits.texts or self._characters >= self._limits.characters
        if full:
            self._send()
        elif self._timer is None:
            loop = asyncio.get_running_loop()
            if self._in_flight:
                self._timer = loop.call_later(self._limits.linger, self._send)
            else:
                self._timer = loop.call_soon(self._send)

    def withdraw(self, items: Sequence[Item]) -> None:
        """Leave out those that were not sent yet; nobody waits for them any more."""
        for item in items:
            if item.batch is None:
                item.future.cancel()
        self._pending = deque(item for item in self._pending if not item.future.done())
        self._texts = sum(len(item.texts) for item in self._pending)
        self._characters = sum(item.characters for item in self._pending)

    async def leave(self, items: Sequence[Item]) -> None:
        """Wait no more for these; a request that nobody waits for is cancelled, and has ended."""
        if any(item.batch is None for item in items):
            self.withdraw(items)
        unwanted = set()
        for item in items:
            item.future.cancel()
            if not item.future.cancelled():
                item.future.exception()
            batch = item.batch
            under_way = batch is not None and not batch.task.done()
            if batch and under_way and all(other.future.done() for other in batch.items):
                batch.task.cancel()
                unwanted.add(batch.task)
            else:
                item.gone = True
        self._end_when_idle()
        if unwanted:
            await asyncio.wait(unwanted, timeout=_ENDING)

    async def aclose(self) -> None:
        """Cancel what is under way; whoever waits for it is told that the gateway was closed."""
        for item in self._pending:
            item.fail(_closed())
        self._pending.clear()
        tasks = {batch.task for batch in self._in_flight}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_ENDING)
        self._end_when_idle()

    def _end_when_idle(self) -> None:
        if not self._pending and not self._in_flight:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._ended(self)

    def _send(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._pending and len(self._in_flight) < self._limits.in_flight:
            batch = _Batch(self._next())
            first = batch.items[0]
            # Alone, a call keeps its trace and its deadline; merged, it must not be cut off by
            # another's.
            context = first.context if len(batch.items) == 1 else contextvars.Context()
            batch.task = asyncio.get_running_loop().create_task(
                self._run(batch), name="gateway-embedding", context=context
            )
            # Not within the task: one that is cancelled before its first step runs nothing.
            batch.task.add_done_callback(partial(self._landed, batch))
            for item in batch.items:
                item.batch = batch
            self._in_flight.add(batch)

    def _next(self) -> list[Item]:
        items = [self._pending.popleft()]
        texts, characters = len(items[0].texts), items[0].characters
        while self._pending:
            following = self._pending[0]
            texts += len(following.texts)
            characters += following.characters
            if texts > self._limits.texts or characters > self._limits.characters:
                break
            items.append(self._pending.popleft())
        self._texts -= sum(len(item.texts) for item in items)
        self._characters -= sum(item.characters for item in items)
        return items

    async def _run(self, batch: _Batch) -> None:
        with tenant_scope(str(batch.items[0].call.tenant_id)):
            await self._embed(batch, batch.items)

    def _landed(self, batch: _Batch, _task: asyncio.Task[None]) -> None:
        self._in_flight.discard(batch)
        for item in batch.items:
            item.fail(_closed())
        self._send()
        self._end_when_idle()

    async def _embed(self, batch: _Batch, items: list[Item]) -> None:
        items = [item for item in items if not item.future.done()]
        if not items:
            return
        first = items[0].call
        texts = tuple(text for item in items for text in item.texts)
        # Notes of its own: a call may have several requests under way, a request several calls.
        notes = CallNotes(call_id=first.notes.call_id)
        request = EmbeddingRequest(first.request.model, texts)
        timeout = max(item.call.timeout for item in items)
        try:
            result = await self._proceed(
                replace(first, request=request, timeout=timeout, notes=notes)
            )
        except Exception as error:  # noqa: BLE001 - it is raised where the vectors are awaited
            # Halves help against what one of them brought, and multiply every other failure.
            if len(items) > 1 and isinstance(error, ValidationError):
                middle = len(items) // 2
                await self._embed(batch, items[:middle])
                await self._embed(batch, items[middle:])
                return
            for item in items:
                item.fail(error)
        else:
            _hand_over(items, result)
        finally:
            _charge(items, batch.items, notes)


def _hand_over(items: Sequence[Item], result: Embeddings) -> None:
    """Give each call its vectors and its share of what they cost."""
    present = [item for item in items if not item.future.done()]
    shares = iter(split(result.usage, _weights(present)) if present else ())
    start = 0
    for item in items:
        end = start + len(item.texts)
        if not item.future.done():
            part = Embeddings(result.vectors[start:end], result.model, next(shares))
            item.future.set_result(part)
        start = end


def _charge(items: list[Item], beside: list[Item], notes: CallNotes) -> None:
    """Tell calls what a request did, and split what it cost between those that still wait.

    When nobody does, one pays for all who has not read yet what it is charged: of these calls, or
    of those `beside` them, whose texts were to be sent along.
    """
    for item in items:
        theirs = item.call.notes
        theirs.provider, theirs.model = notes.provider, notes.model
        theirs.fallback_from = notes.fallback_from or theirs.fallback_from
        theirs.price_version = notes.price_version
        theirs.attempts += notes.attempts
        theirs.lost += notes.lost
    if notes.spent is None:
        return
    staying = [item for item in items if not item.future.cancelled()]
    staying = staying or [item for item in (*items, *beside) if not item.gone][:1] or items[:1]
    for item, share in zip(staying, split(notes.spent, _weights(staying)), strict=True):
        item.charged = total((item.charged, share))


def _weights(items: Sequence[Item]) -> list[int]:
    return [max(1, item.characters) for item in items]


def _closed() -> GatewayError:
    message = "The gateway was closed before the texts were embedded."
    return GatewayError(message, remedy="Close it after its last call.")
