"""A call to the provider under way, and those who wait for it: what each gets and who is charged.

What a provider charged is charged to exactly one of those who waited, whoever of them leaves, and
when: to the one who makes the call in a task of its own; of a call in a task beside all of them, to
the one who was told the price of a stream, else to the first who takes the outcome, and when all of
them left, to the last. Settling never suspends: no cancellation can fall between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import TracebackType
from typing import Final, Generic, TypeVar

from motadata.core.errors import GatewayError, ProviderError
from motadata.core.models import Completion, CompletionChunk, Embeddings
from motadata.gateway._call import CallNotes, Emit
from motadata.gateway._usages import NOTHING_PAID, total


Answer = TypeVar("Answer", Completion, Embeddings)

_PARTS_AHEAD: Final = 16
_ENDING: Final = 5.0


class Reader:
    """One of those who wait for a call.

    Args:
        notes: Of the one who waits; told what the call did and what it is charged.
        emit: Takes the parts of a streamed answer.
        timeout: Seconds that it waits for the answer, or for each part of it; None when the call
            itself keeps to them.
    """

    __slots__ = ("_timeout", "emit", "notes", "outcome", "position")

    def __init__(self, notes: CallNotes, emit: Emit | None, timeout: float | None) -> None:
        self.notes = notes
        self.emit = emit
        self.position = 0
        self.outcome: asyncio.Future[None] | None = None
        self._timeout = timeout

    async def patiently(self, event: Awaitable[object]) -> None:
        """Wait for an event as long as the one who waits wants to.

        Raises:
            ProviderError: It took longer.
        """
        if self._timeout is None:
            await event
            return
        try:
            async with asyncio.timeout(self._timeout):
                await event
        except TimeoutError as error:
            message = f"The equal call under way said nothing for {self._timeout:g} s."
            raise ProviderError(
                message, remedy="Try again, or raise `timeout`.", retryable=True
            ) from error


class AbandonedError(Exception):
    """Whoever made the call left before the answer came; those who wait begin another."""


class Flight(Generic[Answer]):
    """One call to the provider: made by the one who began it, or in a task beside all who wait.

    Args:
        notes: Of the call.
        ended: Called once, when nobody may join it any more.
    """

    __slots__ = (
        "_changed",
        "_closed",
        "_ended",
        "_landed",
        "_leader",
        "_parts",
        "_passed",
        "_payer",
        "_readers",
        "_settled",
        "_task",
        "_trace",
        "_verdicts",
        "abandoned",
        "answer",
        "error",
        "notes",
    )

    def __init__(self, notes: CallNotes, ended: Callable[[Flight[Answer]], None]) -> None:
        self.notes = notes
        self.error: Exception | None = None
        self.answer: Answer | None = None
        self.abandoned = False
        self._trace: TracebackType | None = None
        self._ended: Callable[[Flight[Answer]], None] | None = ended
        self._task: asyncio.Task[None] | None = None
        self._leader: asyncio.Task[object] | None = None
        self._closed = self._landed = self._settled = False
        # What the notes hold before is of the one who leads, and of nobody who joins.
        self._verdicts = len(notes.verdicts)
        self._readers: dict[Reader, None] = {}
        self._payer: Reader | None = None
        self._parts: list[CompletionChunk] = []
        self._changed: asyncio.Event | None = None
        self._passed: asyncio.Event | None = None

    async def lead(self, work: Awaitable[Answer]) -> Answer:
        """Make the call here, in the task of the one who begins it, and return its answer.

        A task of its own would cost as much as a step of the gateway. The price is that the call
        ends with whoever makes it: those who wait are told by an `AbandonedError` to begin another.

        Raises:
            SDKError: What the call raised.
            GatewayError: The gateway was closed.
        """
        leader = self._leader = asyncio.current_task()
        self._settled = True  # the notes of the call are the leader's own
        try:
            self.answer = await work
        except Exception as error:
            self.error, self._trace = error, error.__traceback__
            raise
        except BaseException as error:
            ends = self._closed and isinstance(error, asyncio.CancelledError)
            if ends and leader is not None and not leader.uncancel():
                raise _closed_error() from None
            self.abandoned = not self._closed
            raise
        finally:
            self._land()
        return self.answer

    def depart(self, work: Callable[[], Awaitable[Answer]]) -> None:
        """Begin the call in a task beside those who wait."""
        self._task = asyncio.create_task(self._fly(work), name="gateway-call")

    async def awaited(self, reader: Reader) -> Answer:
        """Return the answer; who leaves early ends a task that nobody else waits for.

        Raises:
            SDKError: What the call raised.
            AbandonedError: Whoever made it left.
            ProviderError: The reader waited longer than it wanted to.
        """
        self._readers[reader] = None
        informed = False
        try:
            if reader.emit is not None:
                await self._read(reader, reader.emit)
            elif not self._landed:
                reader.outcome = asyncio.get_running_loop().create_future()
                await reader.patiently(reader.outcome)
            informed = True
            return self._taken()
        finally:
            await self._leave(reader, informed=informed)

    async def take(self, part: CompletionChunk) -> None:
        """Keep a part for everybody; wait for the one who reads fastest, and for no one else."""
        self._parts.append(part)
        self._tell()
        while self._readers and self._ahead() >= _PARTS_AHEAD:
            self._passed = asyncio.Event()
            await self._passed.wait()

    async def aclose(self) -> None:
        """Cancel the call; those who wait are told that the gateway was closed."""
        self._closed = True
        try:
            if self._leader is not None and not self._landed:
                self._leader.cancel()
            if self._task is not None and not self._landed:
                self._task.cancel()
                await asyncio.wait({self._task}, timeout=_ENDING)
        finally:
            self._land()  # a task that is cancelled before its first step never lands itself

    async def _fly(self, work: Callable[[], Awaitable[Answer]]) -> None:
        try:
            self.answer = await work()
        except Exception as error:  # noqa: BLE001 - raised again by each one who waits
            self.error, self._trace = error, error.__traceback__
        finally:
            self._land()

    def _land(self) -> None:
        if self._landed:
            return
        self._landed = True
        self._leader = None
        self._tell_ended()
        for reader in self._readers:
            if reader.outcome is not None and not reader.outcome.done():
                reader.outcome.set_result(None)
        self._tell()

    def _tell_ended(self) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(self)

    def _taken(self) -> Answer:
        if self.error is not None:
            # The same error for all: it must not collect the frames of each.
            raise self.error.with_traceback(self._trace)
        if self.abandoned:
            raise AbandonedError
        if self.answer is None:
            raise _closed_error()
        return self.answer

    async def _read(self, reader: Reader, emit: Emit) -> None:
        """Pass on what there is and what comes, until the call has ended."""
        while True:
            while reader.position < len(self._parts):
                await emit(self._own(self._parts[reader.position], reader))
                reader.position += 1
                self._let_pass()
            if self._landed:
                return
            if self._changed is None:
                self._changed = asyncio.Event()
            await reader.patiently(self._changed.wait())

    def _own(self, part: CompletionChunk, reader: Reader) -> CompletionChunk:
        """Return a part as one reader gets it: the last one names its call and its price."""
        if part.finish_reason is None:
            return part
        if self._payer is None:
            self._payer = reader
        usage = part.usage if self._payer is reader else NOTHING_PAID
        return replace(part, call_id=reader.notes.call_id, usage=usage)

    def _ahead(self) -> int:
        return len(self._parts) - max(reader.position for reader in self._readers)

    def _tell(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    def _let_pass(self) -> None:
        if self._passed is not None:
            self._passed.set()
            self._passed = None

    async def _leave(self, reader: Reader, *, informed: bool) -> None:
        del self._readers[reader]
        if self._payer is reader and not informed and self._readers:
            self._payer = None
        self._let_pass()
        try:
            if self._task is not None and not self._landed and not self._readers:
                self._tell_ended()
                await self.aclose()
        finally:
            if self._landed:
                self._settle(reader, informed=informed)

    def _settle(self, reader: Reader, *, informed: bool) -> None:
        """Note what the call did, and what it cost or saved the one who leaves."""
        if self.abandoned or (not informed and (self._readers or self._settled)):
            return
        theirs, notes = self.notes, reader.notes
        notes.provider, notes.model = theirs.provider, theirs.model
        notes.fallback_from, notes.price_version = theirs.fallback_from, theirs.price_version
        notes.kept = theirs.kept
        found = theirs.verdicts[self._verdicts :]
        notes.verdicts.extend(each for each in found if each not in notes.verdicts)
        if not self._settled and (self._payer is None or self._payer is reader):
            self._settled = True
            notes.attempts += theirs.attempts
            notes.lost += theirs.lost
            notes.spent = total((notes.spent, theirs.spent))
        elif self.answer is not None:
            notes.shared, notes.saved_usd = True, self.answer.usage.cost_usd


def _closed_error() -> GatewayError:
    message = "The gateway was closed while the call was under way."
    return GatewayError(message, remedy="Close it after its last call.")
