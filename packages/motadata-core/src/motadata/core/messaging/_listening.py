"""Agent messages on the receiving side: refused or handled, bounded, answered if asked."""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import Context
from typing import Final

from motadata.core.errors import MessagingError, OverloadError, SDKError
from motadata.core.messaging._envelope import (
    Envelope,
    RefusedError,
    check_headers,
    error_line,
)
from motadata.core.messaging._handling import Handling
from motadata.core.messaging._statistics import Counters
from motadata.core.messaging._subject import Address, parse_subject
from motadata.core.messaging._tasks import finish
from motadata.core.messaging._transport import INBOX, Incoming, Listener, Transport
from motadata.core.observability import get_logger
from motadata.core.protocols import Handler
from motadata.core.tenancy import TenantId


_log = get_logger("messaging")

_TASK: Final = "motadata-agent"
_NO_PLACE: Final = "It handles as many messages as it may already."
_MOST_WAITING: Final = 1024
_MOST_WAITING_BYTES: Final = 8 * 1024 * 1024
"""What may wait for a free place: messages without reply, and their bytes; more is dropped."""


class AgentListener:
    """Handles the messages to one agent; the handler runs in a task a message."""

    def __init__(
        self,
        transport: Transport,
        envelope: Envelope,
        counters: Counters,
        handler: Handler,
        *,
        tenant: TenantId | None,
        max_in_flight: int,
        drain_timeout: float,
    ) -> None:
        self._transport = transport
        self._envelope = envelope
        self._handling = Handling(envelope, system=transport.system)
        self._counters = counters
        self._handler = handler
        self._tenant = tenant
        self._max_in_flight = max_in_flight
        self._drain_timeout = drain_timeout
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._started = 0
        self._waiting: deque[tuple[Incoming, Address]] = deque()
        self._waiting_bytes = 0
        self.listener: Listener | None = None

    def receive(self, incoming: Incoming) -> None:
        """Start to handle a message, put it off, or refuse it; called on the event loop."""
        try:
            address = parse_subject(incoming.subject)
            if self._tenant is not None and address.tenant != self._tenant:
                message = "belongs to another tenant"
                raise RefusedError(message)  # noqa: TRY301 - one place refuses
            check_headers(incoming.headers, address)
            if incoming.reply and not incoming.reply.startswith(INBOX):
                # An answer sent there could pass for a message of anybody.
                message = "asks for an answer to no inbox"
                raise RefusedError(message)  # noqa: TRY301 - one place refuses
        except (RefusedError, MessagingError) as error:
            self._counters.refused += 1
            _log.warning("message_refused", subject=incoming.subject[:200], reason=str(error))
            return
        if len(self._tasks) < self._max_in_flight:
            self._start(incoming, address)
        elif incoming.reply:
            # So that the sender can ask elsewhere.
            self._counters.overloaded += 1
            self._refuse(incoming, address, OverloadError(_NO_PLACE))
        else:
            self._put_off(incoming, address)

    async def stop(self) -> None:
        """Listen no more and return when the messages in hand are handled, or given up in time."""
        try:
            if self.listener is not None:
                await self.listener.stop()
            end = asyncio.get_running_loop().time() + self._drain_timeout
            while self._tasks and (left := end - asyncio.get_running_loop().time()) > 0:
                await finish(self._tasks.values(), left)
                # What was cancelled before it began could not leave by itself.
                self._tasks = {n: task for n, task in self._tasks.items() if not task.done()}
        finally:
            for _ in self._waiting:
                self._drop()
            self._waiting.clear()
            # Those that are left had no time, or the caller has none.
            for task in self._tasks.values():
                task.cancel()

    def _start(self, incoming: Incoming, address: Address) -> None:
        self._counters.delivered += 1
        self._started += 1
        # A fresh context: the subscriber's own tenant, trace and deadline are not the message's.
        self._tasks[self._started] = asyncio.get_running_loop().create_task(
            self._work(self._started, incoming, address), name=_TASK, context=Context()
        )

    async def _work(self, number: int, incoming: Incoming, address: Address) -> None:
        result: object = None
        failure: Exception | None = None
        try:
            try:
                message = self._handling.read(incoming, address)
                result = await self._handling.run(
                    self._handler,
                    message,
                    incoming.headers,
                    task=self._tasks[number],
                    timeout=None,
                )
            except Exception as error:  # noqa: BLE001 - the sender gets it, or the log does
                failure = error
                self._counters.failed += 1
                if not incoming.reply:
                    _log.error("handler_failed", error=error, destination=address.name)
            if incoming.reply:
                try:
                    data, headers = self._compose(result, address, error=failure)
                    if self._transport.is_congested:
                        await self._transport.send(incoming.reply, data, headers)
                    else:
                        self._transport.post(incoming.reply, data, headers)
                except SDKError as unsendable:
                    # It has no encoding, or is too large: whoever asked hears that instead.
                    if self._refuse(incoming, address, unsendable):
                        _log.warning("reply_refused", error=unsendable, destination=address.name)
        finally:
            # Here and not in a callback, which would be a turn of the loop of its own.
            self._tasks.pop(number, None)
            if self._waiting:
                self._start_next()

    def _start_next(self) -> None:
        incoming, address = self._waiting.popleft()
        self._waiting_bytes -= len(incoming.data)
        self._start(incoming, address)

    def _put_off(self, incoming: Incoming, address: Address) -> None:
        """Let a message without reply wait for a free place: nobody waits for an answer."""
        size = len(incoming.data)
        too_many = len(self._waiting) >= _MOST_WAITING
        if too_many or self._waiting_bytes + size > _MOST_WAITING_BYTES:
            self._drop()
            return
        self._waiting.append((incoming, address))
        self._waiting_bytes += size

    def _drop(self) -> None:
        self._counters.dropped += 1
        _log.warning("message_dropped", reason="slow_consumer")

    def _refuse(self, incoming: Incoming, address: Address, reason: SDKError) -> bool:
        """Answer at once that there is no answer, and why; tell whether that could be said."""
        try:
            data, headers = self._compose(None, address, error=reason)
            self._transport.post(incoming.reply, data, headers)
        except SDKError as error:
            _log.warning("reply_failed", error=error, destination=address.name)
            return False
        return True

    def _compose(
        self, result: object, address: Address, *, error: Exception | None
    ) -> tuple[bytes, bytes]:
        """Return payload and headers of an answer.

        Raises:
            CodecError: The result has no encoding.
        """
        headers = self._envelope.headers(address.tenant)
        if isinstance(error, SDKError):
            headers += error_line(error.code, retryable=error.retryable)
            result = str(error)
        elif error is not None:
            # Its text may hold anything; its type is enough to find it in the log of who failed.
            _log.error("handler_failed", error=error)
            headers += error_line("internal_error", retryable=False)
            result = f"Its handler raised {type(error).__name__}."
        return self._envelope.encode(result), headers
