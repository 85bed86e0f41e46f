"""Agent messages on the receiving side: refused or handled, bounded, answered if asked."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import Final

from motadata.core.errors import CodecError, MessagingError, OverloadError, SDKError
from motadata.core.messaging._envelope import (
    ERROR,
    RefusedError,
    check_headers,
    content_type_of,
    error_reply,
    make_headers,
)
from motadata.core.messaging._handling import handle, read_message
from motadata.core.messaging._statistics import Counters
from motadata.core.messaging._subject import Address, parse_subject
from motadata.core.messaging._tasks import finish
from motadata.core.messaging._transport import INBOX, Incoming, Listener, Transport
from motadata.core.observability import get_logger
from motadata.core.protocols import Codec, Handler
from motadata.core.tenancy import TenantId


_log = get_logger("messaging")

_MOST_WAITING: Final = 1.0
"""Seconds; how long a message without reply waits for a free place before it is dropped."""


class AgentListener:
    """Handles the messages to one agent; the handler runs in a task a message."""

    def __init__(
        self,
        transport: Transport,
        codec: Codec,
        counters: Counters,
        handler: Handler,
        *,
        tenant: TenantId | None,
        max_in_flight: int,
        drain_timeout: float,
    ) -> None:
        self._transport = transport
        self._codec = codec
        self._content_type = content_type_of(codec)
        self._counters = counters
        self._handler = handler
        self._tenant = tenant
        self._max_in_flight = max_in_flight
        self._drain_timeout = drain_timeout
        self._tasks: set[asyncio.Task[None]] = set()
        self._free = asyncio.Event()
        self.listener: Listener | None = None

    async def receive(self, incoming: Incoming) -> None:
        """Start to handle a message, or refuse it."""
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
        if not await self._has_place(incoming):
            return
        self._counters.delivered += 1
        # A fresh context: the subscriber's own tenant, trace and deadline are not the message's.
        task = asyncio.get_running_loop().create_task(
            self._answer(incoming, address), context=Context()
        )
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    async def stop(self) -> None:
        """Listen no more and return when the messages in hand are handled, or given up in time."""
        if self.listener is not None:
            await self.listener.stop()
        await finish(self._tasks, self._drain_timeout)

    async def _has_place(self, incoming: Incoming) -> bool:
        if len(self._tasks) < self._max_in_flight:
            return True
        if not incoming.reply:
            # Nobody waits for an answer: it waits here, and the rest in the bounded queue behind.
            self._free.clear()
            try:
                async with asyncio.timeout(_MOST_WAITING):
                    await self._free.wait()
            except TimeoutError:
                self.dropped()
                return False
            return True
        self._counters.overloaded += 1
        refusal = OverloadError("It handles as many messages as it may already.")
        try:
            await self._reply(incoming, None, error=refusal)
        except SDKError as error:
            _log.warning("reply_failed", error=error)
        return False

    def dropped(self) -> None:
        """Note that a message was thrown away because the handler is too slow."""
        self._counters.dropped += 1
        _log.warning("message_dropped", reason="slow_consumer")

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._free.set()

    async def _answer(self, incoming: Incoming, address: Address) -> None:
        result: object = None
        failure: Exception | None = None
        try:
            message = read_message(incoming, address)
            result = await handle(self._handler, message, incoming.headers, timeout=None)
        except Exception as error:  # noqa: BLE001 - the sender gets it, or the log does
            failure = error
            self._counters.failed += 1
            if not incoming.reply:
                _log.error("handler_failed", error=error, destination=address.name)
        if not incoming.reply:
            return
        try:
            await self._reply(incoming, result, error=failure, tenant=address.tenant)
        except CodecError as error:
            await self._reply(incoming, None, error=error, tenant=address.tenant)
        except SDKError as error:
            _log.warning("reply_failed", error=error, destination=address.name)

    async def _reply(
        self,
        incoming: Incoming,
        result: object,
        *,
        error: Exception | None,
        tenant: TenantId | None = None,
    ) -> None:
        headers = make_headers(self._content_type, tenant or parse_subject(incoming.subject).tenant)
        if isinstance(error, SDKError):
            headers[ERROR] = error_reply(error.code, retryable=error.retryable)
            result = str(error)
        elif error is not None:
            # Its text may hold anything; its type is enough to find it in the log of who failed.
            _log.error("handler_failed", error=error)
            headers[ERROR] = error_reply("internal_error", retryable=False)
            result = f"Its handler raised {type(error).__name__}."
        await self._transport.send(incoming.reply, self._codec.encode(result), headers)
