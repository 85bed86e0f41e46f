"""Equal calls of a tenant that are under way at the same time are one call to the provider.

A whole answer is waited for in the task of whoever begins the call. When that one leaves early, the
others share one more call, in a task beside them, which ends when nobody waits any more. Streamed
answers have such a task from the start, and are kept part by part while they last: whoever joins
late first gets what was said so far.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Generic, Self

from motadata.core.errors import SDKError
from motadata.core.models import Completion, Embeddings
from motadata.gateway._call import Call, CallNotes, Proceed, Request
from motadata.gateway._digest import completion_key, texts_key
from motadata.gateway._flights import AbandonedError, Answer, Flight, Reader
from motadata.gateway._landings import Key, Landings
from motadata.gateway._requests import ChatRequest, EmbeddingRequest
from motadata.gateway._usages import NOTHING_PAID


_MOST_FLIGHTS: Final = 2


@dataclass(frozen=True, slots=True)
class _Flights(Generic[Answer]):
    """Calls of one kind: those under way, and those that have just ended."""

    under_way: dict[Key, Flight[Answer]]
    ended: Landings[Answer]


class Deduplication:
    """Joins equal calls of one tenant while they are under way.

    One of those who wait is charged for the call; for the others it is free, and their notes say
    that it was shared and what it would have cost. When the call fails and a second try may help,
    or the one who began it leaves, the others share one more call. Who joined waits no longer than
    its own time limit.

    A call with `cache="bypass"` is neither joined nor joins.
    """

    def __init__(self) -> None:
        self._chats: _Flights[Completion] = _Flights({}, Landings())
        self._embeddings: _Flights[Embeddings] = _Flights({}, Landings())

    async def chat(
        self, call: Call[ChatRequest], proceed: Proceed[ChatRequest, Completion]
    ) -> Completion:
        """Join an equal conversation that is under way, or begin one.

        Raises:
            SDKError: What the call raised.
            ProviderError: The call that was joined took longer than this one may.
        """
        if call.cache_policy == "bypass":
            return await proceed(call)
        kind = "whole" if call.emit is None else "stream"
        key = (str(call.tenant_id), kind, completion_key(call))
        answer = await _joined(self._chats, key, call, proceed)
        return replace(answer, shared=True, usage=NOTHING_PAID) if call.notes.shared else answer

    async def embedding(
        self, call: Call[EmbeddingRequest], proceed: Proceed[EmbeddingRequest, Embeddings]
    ) -> Embeddings:
        """Join an equal embedding that is under way, or begin one.

        Raises:
            SDKError: What the call raised.
            ProviderError: The call that was joined took longer than this one may.
        """
        if call.cache_policy == "bypass":
            return await proceed(call)
        key = (str(call.tenant_id), "embed", texts_key(call))
        result = await _joined(self._embeddings, key, call, proceed)
        return replace(result, usage=NOTHING_PAID) if call.notes.shared else result

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
        chats = [flight.aclose() for flight in self._chats.under_way.values()]
        embeddings = [flight.aclose() for flight in self._embeddings.under_way.values()]
        await asyncio.gather(*chats, *embeddings)
        self._chats.ended.clear()
        self._embeddings.ended.clear()


async def _joined(
    flights: _Flights[Answer],
    key: Key,
    call: Call[Request],
    proceed: Proceed[Request, Answer],
) -> Answer:
    tries, again = 0, False
    while True:
        tries += 1
        flight = flights.under_way.get(key)
        if flight is None and call.cache is not None and call.cache_policy == "use" and tries == 1:
            flight = flights.ended.get(key)
        leads = flight is None
        if flight is None:
            if call.emit is None and not again:
                flight = _registered(flights, key, call, call.notes)
                return await flight.lead(proceed(call))
            flight = _begun(flights, key, call, proceed)
        reader = Reader(call.notes, call.emit, None if leads else call.timeout)
        try:
            return await flight.awaited(reader)
        except AbandonedError:
            tries -= 1
        except SDKError as error:
            joined_it = not leads and error is flight.error
            if not joined_it or reader.position or not error.retryable or tries == _MOST_FLIGHTS:
                raise
        # Those who waited share the next call, which is nobody's own: it ends with none of them.
        again = True


def _registered(
    flights: _Flights[Answer], key: Key, call: Call[Request], notes: CallNotes
) -> Flight[Answer]:
    def ended(flight: Flight[Answer]) -> None:
        if flights.under_way.get(key) is flight:
            del flights.under_way[key]
            if call.cache is not None:
                flights.ended.keep(key, flight)

    flight = flights.under_way[key] = Flight(notes, ended)
    return flight


def _begun(
    flights: _Flights[Answer],
    key: Key,
    call: Call[Request],
    proceed: Proceed[Request, Answer],
) -> Flight[Answer]:
    # Notes of its own: the call may outlive the one who began it, and charge another.
    notes = CallNotes(call_id=call.notes.call_id, kept=call.notes.kept)
    flight = _registered(flights, key, call, notes)
    inner = call.copied()
    inner.emit, inner.notes = None if call.emit is None else flight.take, notes
    flight.depart(lambda: proceed(inner))
    return flight
