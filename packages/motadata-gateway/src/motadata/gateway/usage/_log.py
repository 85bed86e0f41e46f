"""The part of a gateway that writes down every call."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from motadata.core.errors import ConfigurationError, SDKError
from motadata.core.identifiers import new_id_text
from motadata.core.models import Completion, CompletionChunk, Embeddings, Health
from motadata.core.observability import current_trace_id, histogram
from motadata.core.protocols import Database
from motadata.gateway._call import Call, CallNotes, Emit, Proceed
from motadata.gateway._charges import may_be_charged
from motadata.gateway._rendering import render_message
from motadata.gateway._requests import ChatRequest, EmbeddingRequest
from motadata.gateway.usage._delivery import Delivery
from motadata.gateway.usage._policy import UsagePolicy
from motadata.gateway.usage._record import Course, Operation, line_of
from motadata.gateway.usage._spool import Line


_LONGEST_TEXT: Final = 100_000

_first_chunk = histogram(
    "gen_ai.client.operation.time_to_first_chunk",
    unit="s",
    boundaries=(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96),
    description="Time to the first part of a streamed answer.",
)


class UsageLog:
    """Writes one row a call: what it used, what it cost, how long it took and how it ended.

        usage = UsageLog(database, Path("/var/lib/platform/usage"))
        governance = Governance(usage=usage, prices=Pricing(), …)
        async with create_gateway(["openai"], governance=governance) as gateway:

    A call only leaves a line in memory. Twice a second the lines are written to the disk, and from
    there they go to the database; while it is down they wait on disk, and the next start sends what
    a crash left there. Entered and left with the gateway that it is a part of.

    Several gateways of one event loop may share a log, at once or one after the other: the first
    that enters opens it, the last that leaves closes it, and who enters then opens it again. While
    it is not open it passes no call on, so that none is paid for that nobody would write down. A
    call that began before the log was closed and ends later is left on the disk, and sent by the
    next opening, as are those that the database did not take in time.

    Args:
        database: Where `motadata.gateway.migrations` has run.
        directory: Where lines wait; on a local disk. Instances may share it.
        policy: None means the defaults.
    """

    def __init__(
        self, database: Database, directory: Path, policy: UsagePolicy | None = None
    ) -> None:
        self._policy = policy or UsagePolicy()
        self._database = database
        self._directory = Path(directory)
        self._delivery = self._new_delivery()
        self._users = 0
        self._turn = asyncio.Lock()

    async def chat(
        self, call: Call[ChatRequest], proceed: Proceed[ChatRequest, Completion]
    ) -> Completion:
        """Write a conversation down, however it ends.

        Raises:
            ConfigurationError: The log is not open; nobody was asked.
            SDKError: What the call raised.
        """
        if not self._delivery.is_open:
            raise _not_open()
        course = _begun(call.notes)
        passed = call
        if call.emit is not None:
            passed = replace(call, emit=_timing_first(call.emit, call.notes, course))
        try:
            answer = await proceed(passed)
        except BaseException as error:
            _failed(course, call.notes, error)
            self._take(call, course, "chat")
            raise
        course.finish_reason = answer.finish_reason
        if self._policy.texts:
            course.answered = answer.text[:_LONGEST_TEXT]
        if answer.cached and not call.notes.model:
            _name(call.notes, answer.model)
        self._take(call, course, "chat")
        if answer.call_id == call.notes.call_id:
            return answer
        return replace(answer, call_id=call.notes.call_id)

    async def embedding(
        self, call: Call[EmbeddingRequest], proceed: Proceed[EmbeddingRequest, Embeddings]
    ) -> Embeddings:
        """Write an embedding down, however it ends; its texts are never kept.

        Raises:
            ConfigurationError: The log is not open; nobody was asked.
            SDKError: What the call raised.
        """
        if not self._delivery.is_open:
            raise _not_open()
        course = _begun(call.notes)
        try:
            result = await proceed(call)
        except BaseException as error:
            _failed(course, call.notes, error)
            self._take(call, course, "embedding")
            raise
        if call.notes.cached and not call.notes.model:
            _name(call.notes, result.model)
        self._take(call, course, "embedding")
        return result

    async def flush(self) -> None:
        """Return when the database has every call that has ended since the log was opened.

        It waits as long as the database is down: put it under a timeout. What an earlier opening
        or another instance left on the disk is not waited for.

        Raises:
            ConfigurationError: The log is not open.
            GatewayError: It was closed, or failed, before the database had all; the rest waits on
                the disk.
        """
        if not self._delivery.is_open:
            raise _not_open()
        await self._delivery.arrived()

    async def health(self) -> Health:
        """Say whether rows arrive, and how many bytes of them wait on disk."""
        delivery = self._delivery
        if not delivery.running:
            return Health("down", detail="The usage log is not open, or has failed.")
        if delivery.dropped:
            return Health("degraded", detail=f"{delivery.dropped} calls were not written down.")
        if delivery.failing:
            waiting = f"{delivery.waiting_bytes} bytes of calls wait on disk"
            return Health("degraded", detail=f"{waiting}: {delivery.failing}.")
        return Health("ok")

    async def __aenter__(self) -> Self:
        """Open the folder, and take over what instances left that are gone; join who did so before.

        Raises:
            ConfigurationError: The directory cannot be written.
        """
        async with self._turn:
            if not self._delivery.is_open:
                delivery = self._new_delivery()
                await delivery.start(self._delivery)
                self._delivery = delivery
            self._users += 1
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Write what is left, if nobody else uses the log.

        What the database does not take in time waits on disk.
        """
        # Before waiting: who is cancelled while another one opens or closes the log has left it.
        self._users -= 1
        async with self._turn:
            if not self._users:
                await self._delivery.close()

    def _new_delivery(self) -> Delivery:
        return Delivery(self._database, self._directory, self._policy)

    def _take(
        self,
        call: Call[ChatRequest] | Call[EmbeddingRequest],
        course: Course,
        operation: Operation,
    ) -> None:
        course.seconds = time.perf_counter() - course.started
        course.lost = max(course.lost, call.notes.lost)
        if self._policy.texts:
            course.asked = _asked(call.request)
        trace_id = current_trace_id() or ""
        body = line_of(call, course, operation=operation, trace_id=trace_id)
        self._delivery.take(Line(str(call.tenant_id), body))


def _not_open() -> ConfigurationError:
    message = "The usage log is not open, so nothing is written down."
    remedy = "Enter the gateway, or the log itself, with `async with`, and call within the block."
    return ConfigurationError(message, remedy=remedy)


def _begun(notes: CallNotes) -> Course:
    notes.call_id = new_id_text()
    return Course(time.time(), time.perf_counter())


def _name(notes: CallNotes, model: str) -> None:
    """Note whose answer came from a cache; a name without a provider is a route's, and says less.

    Vectors are kept under the name that was asked, so nobody knows which model of a route it was.
    """
    provider, slash, _ = model.partition("/")
    if slash:
        notes.provider, notes.model = provider, model


def _timing_first(emit: Emit, notes: CallNotes, course: Course) -> Emit:
    """Return `emit`, which notes the time of the first part that it passes on."""
    waiting = True

    async def passed(chunk: CompletionChunk) -> None:
        nonlocal waiting
        if waiting:
            waiting = False
            notes.first_token = time.perf_counter() - course.started
            attributes = {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": notes.provider,
                "gen_ai.request.model": notes.model,
            }
            _first_chunk.record(notes.first_token, attributes)
        await emit(chunk)

    return passed


def _failed(course: Course, notes: CallNotes, error: BaseException) -> None:
    """Note how a call failed, and whether that lost what it used.

    Routing counts the requests that it sees fail. One that nobody waited for any more it does not
    see, nor does it see any where there is none: that one is counted here.
    """
    course.error = _code(error)
    unknown = notes.attempts > 0 and notes.spent is None and may_be_charged(error)
    course.lost = int(unknown)


def _code(error: BaseException) -> str:
    if isinstance(error, SDKError):
        return error.code
    return "cancelled" if isinstance(error, asyncio.CancelledError) else "internal_error"


def _asked(request: ChatRequest | EmbeddingRequest) -> str | None:
    if not isinstance(request, ChatRequest):
        return None
    turns = (f"{turn.role}: {render_message(turn)}" for turn in request.messages)
    return "\n\n".join(turns)[:_LONGEST_TEXT]
