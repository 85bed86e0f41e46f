"""Equal calls of a tenant that are under way at the same time are one call to the provider.

The call runs in a task of its own, so that whoever began it may leave without taking the answer
from the others; when nobody waits any more it is cancelled. A streamed answer is kept part by part
while it lasts: whoever joins late first gets what was said so far.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

from motadata.core.errors import GatewayError, SDKError
from motadata.core.models import Completion, CompletionChunk, Embeddings, Usage
from motadata.gateway._call import Call, CallNotes, Emit, Proceed
from motadata.gateway._digest import completion_key, texts_key
from motadata.gateway._requests import ChatRequest, EmbeddingRequest


Answer = TypeVar("Answer", Completion, Embeddings)

_Key = tuple[str, str, str]

_MOST_FLIGHTS: Final = 2
_PARTS_AHEAD: Final = 16
_ENDING: Final = 5.0
NOTHING_PAID: Final = Usage(cost_usd=Decimal(0))


@dataclass(slots=True, eq=False)
class _Flight(Generic[Answer]):
    """One call to the provider, and who waits for it.

    Attributes:
        notes: What happens to the call itself: the notes of the one who began it.
        waiting: Those who wait, in the order in which they came; the first one pays.
        parts: What a streamed answer said so far.
        changed: Set when there is another part; then replaced.
        passed: Set when somebody passed a part on, or left.
        abandoned: Whether everybody left, so that nobody may join any more.
    """

    notes: CallNotes
    task: asyncio.Task[Answer] = field(init=False)
    waiting: list[_Reader] = field(default_factory=list)
    parts: list[CompletionChunk] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    passed: asyncio.Event = field(default_factory=asyncio.Event)
    abandoned: bool = False

    def leave(self, reader: _Reader) -> None:
        """Wait no more."""
        self.waiting.remove(reader)
        self.passed.set()

    async def take(self, part: CompletionChunk) -> None:
        """Keep a part for everybody; wait for the one who reads fastest, and for no one else."""
        self.parts.append(part)
        self._tell()
        while self.waiting and self._ahead() >= _PARTS_AHEAD:
            self.passed.clear()
            await self.passed.wait()

    def ended(self, _task: asyncio.Task[Answer]) -> None:
        """Wake those who wait for a part that will not come."""
        self._tell()

    def _ahead(self) -> int:
        return len(self.parts) - max(reader.position for reader in self.waiting)

    def _tell(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


class Deduplication:
    """Joins equal calls of one tenant while they are under way.

    One of those who wait is charged for the call; for the others it is free, and their notes say
    that it was shared and what it would have cost. When the call fails and a second try may help,
    the one who began it gets the error, and the others share one more call.

    A call with `cache="bypass"` is neither joined nor joins.
    """

    def __init__(self) -> None:
        self._chats: dict[_Key, _Flight[Completion]] = {}
        self._embeddings: dict[_Key, _Flight[Embeddings]] = {}

    async def chat(
        self, call: Call[ChatRequest], proceed: Proceed[ChatRequest, Completion]
    ) -> Completion:
        """Join an equal conversation that is under way, or begin one.

        Raises:
            SDKError: What the call raised.
        """
        if call.cache_policy == "bypass":
            return await proceed(call)
        kind = "whole" if call.emit is None else "stream"
        key = (str(call.tenant_id), kind, completion_key(call))

        def begun() -> _Flight[Completion]:
            flight: _Flight[Completion] = _Flight(call.notes)
            inner = call if call.emit is None else replace(call, emit=flight.take)
            flight.task = _started(proceed(inner))
            return flight

        for tries in range(1, _MOST_FLIGHTS + 1):
            flight = self._chats.get(key)
            leads = flight is None or flight.abandoned
            if flight is None or flight.abandoned:
                flight = self._launched(self._chats, key, begun())
            reader = _Reader(flight, call.notes, call.emit)
            try:
                answer = await _awaited(flight, reader)
            except SDKError as error:
                if leads or reader.position or not error.retryable or tries == _MOST_FLIGHTS:
                    raise
                continue
            return replace(answer, shared=True, usage=NOTHING_PAID) if call.notes.shared else answer
        raise AssertionError  # the last try returns or raises

    async def embedding(
        self, call: Call[EmbeddingRequest], proceed: Proceed[EmbeddingRequest, Embeddings]
    ) -> Embeddings:
        """Join an equal embedding that is under way, or begin one.

        Raises:
            SDKError: What the call raised.
        """
        if call.cache_policy == "bypass":
            return await proceed(call)
        key = (str(call.tenant_id), "embed", texts_key(call))

        def begun() -> _Flight[Embeddings]:
            flight: _Flight[Embeddings] = _Flight(call.notes)
            flight.task = _started(proceed(call))
            return flight

        for tries in range(1, _MOST_FLIGHTS + 1):
            flight = self._embeddings.get(key)
            leads = flight is None or flight.abandoned
            if flight is None or flight.abandoned:
                flight = self._launched(self._embeddings, key, begun())
            try:
                result = await _awaited(flight, _Reader(flight, call.notes, None))
            except SDKError as error:
                if leads or not error.retryable or tries == _MOST_FLIGHTS:
                    raise
                continue
            return replace(result, usage=NOTHING_PAID) if call.notes.shared else result
        raise AssertionError  # the last try returns or raises

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
        tasks = {
            *(flight.task for flight in self._chats.values()),
            *(flight.task for flight in self._embeddings.values()),
        }
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_ENDING)

    @staticmethod
    def _launched(
        flights: dict[_Key, _Flight[Answer]], key: _Key, flight: _Flight[Answer]
    ) -> _Flight[Answer]:
        flights[key] = flight

        def landed(task: asyncio.Task[Answer]) -> None:
            if flights.get(key) is flight:
                del flights[key]
            flight.ended(task)
            if not task.cancelled():
                task.exception()  # it may have failed after the last who waited had left

        flight.task.add_done_callback(landed)
        return flight


class _Reader:
    """One of those who wait: it passes a flight's parts on."""

    def __init__(
        self,
        flight: _Flight[Completion] | _Flight[Embeddings],
        notes: CallNotes,
        emit: Emit | None,
    ) -> None:
        self._flight = flight
        self._emit = emit
        self.notes = notes
        self.position = 0

    async def read(self) -> None:
        """Pass on what there is and what comes, until the flight has ended."""
        flight = self._flight
        while self._emit is not None:
            changed = flight.changed
            while self.position < len(flight.parts):
                part = flight.parts[self.position]
                await self._emit(self._own(part))
                self.position += 1
                flight.passed.set()
            if flight.task.done():
                return
            if changed is flight.changed:
                await changed.wait()

    def pays(self) -> bool:
        """Tell whether this is the one who is charged."""
        return self._flight.waiting[0] is self

    def _own(self, part: CompletionChunk) -> CompletionChunk:
        if part.finish_reason is None or self.pays():
            return part
        return replace(part, call_id=self.notes.call_id, usage=NOTHING_PAID)


async def _awaited(flight: _Flight[Answer], reader: _Reader) -> Answer:
    """Return the flight's answer; leaving early cancels the flight when nobody else waits."""
    flight.waiting.append(reader)
    try:
        await reader.read()
        answer = await asyncio.shield(flight.task)
    except asyncio.CancelledError:
        waiter = asyncio.current_task()
        if flight.task.cancelled() and not (waiter and waiter.cancelling()):
            message = "The gateway was closed while the call was under way."
            raise GatewayError(message, remedy="Close it after its last call.") from None
        raise
    finally:
        if not flight.task.done():
            flight.leave(reader)
            if not flight.waiting:
                flight.abandoned = True
                flight.task.cancel()
                await asyncio.wait({flight.task}, timeout=_ENDING)
    _copy(flight.notes, reader, answer.usage.cost_usd)
    return answer


def _copy(theirs: CallNotes, reader: _Reader, cost: Decimal | None) -> None:
    """Note what the call did, for one who did not begin it, and what it saved if it is shared."""
    notes = reader.notes
    if notes is theirs:
        return
    notes.provider, notes.model = theirs.provider, theirs.model
    notes.fallback_from, notes.first_token = theirs.fallback_from, theirs.first_token
    answered = [verdict for verdict in theirs.verdicts if verdict.stage == "output"]
    notes.verdicts = [*notes.verdicts, *answered]
    if reader.pays():
        notes.attempts, notes.spent = theirs.attempts, theirs.spent
    else:
        notes.shared, notes.saved_usd = True, cost


def _started(work: Awaitable[Answer]) -> asyncio.Task[Answer]:
    async def run() -> Answer:
        return await work

    return asyncio.create_task(run(), name="gateway-call")
