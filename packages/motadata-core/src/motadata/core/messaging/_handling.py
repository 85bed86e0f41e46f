"""One message and its handler: tenant, trace, deadline and time limit around the call."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import get_args

from motadata.core.errors import DeadlineExceededError
from motadata.core.messaging._envelope import DEADLINE, KEY, STORED_ID, Envelope
from motadata.core.messaging._subject import Address, message_id_of
from motadata.core.messaging._transport import Incoming
from motadata.core.observability import message_calls
from motadata.core.protocols import BusMessage, Handler
from motadata.core.protocols.message_bus import MessageKind
from motadata.core.resilience import Alarms, deadline_scope
from motadata.core.tenancy import tenant_scope


class _Run:
    """A handler that may run only for some time."""

    __slots__ = ("cancels", "expired", "task")

    def __init__(self, task: asyncio.Task[None]) -> None:
        self.task = task
        self.cancels = task.cancelling()
        self.expired = False

    def expire(self) -> None:
        self.expired = True
        self.task.cancel()

    def is_reason_of(self, error: BaseException) -> bool:
        """Tell whether the handler ended so since its time was up.

        Not where somebody else wants it to end as well, who must hear of it.
        """
        is_cancelled_too = self.task.cancelling() > self.cancels + 1
        return self.expired and not (isinstance(error, asyncio.CancelledError) and is_cancelled_too)


class Handling:
    """Reads messages and runs their handlers.

    Args:
        envelope: What payloads are read with.
        system: What carries them, as spans call it.
    """

    def __init__(self, envelope: Envelope, *, system: str) -> None:
        self._envelope = envelope
        self._calls = {
            kind: message_calls("process", destination=kind, system=system)
            for kind in get_args(MessageKind)
        }
        self._limits = Alarms(_Run.expire)

    def read(self, incoming: Incoming, address: Address, *, deliveries: int = 1) -> BusMessage:
        """Return the message as its handler gets it.

        Raises:
            CodecError: The payload cannot be decoded.
        """
        headers = incoming.headers
        stored_id = headers.get(STORED_ID)
        # By their places: names cost a third more.
        return BusMessage(
            address.kind,
            address.name,
            address.tenant,
            self._envelope.decode(headers, incoming.data),
            message_id_of(stored_id) if stored_id else "",
            address.sender,
            headers.get(KEY),
            deliveries,
        )

    async def run(
        self,
        handler: Handler,
        message: BusMessage,
        headers: Mapping[str, str],
        *,
        task: asyncio.Task[None],
        timeout: float | None,
    ) -> object:
        """Run a handler as its message's tenant, within the sender's trace, for a limited time.

        Args:
            handler: What handles the message.
            message: The message.
            headers: Its headers.
            task: The one that this runs in.
            timeout: Seconds that the handler may take; None leaves only the sender's deadline.

        Raises:
            DeadlineExceededError: The sender's deadline or `timeout` passed; the handler was
                cancelled.
            Exception: Whatever the handler raises.
        """
        limit = _time_left(headers, timeout)
        tenant = message.tenant_id
        with (
            tenant_scope(tenant),
            self._calls[message.kind].call(
                tenant_id=tenant,
                traceparent=headers.get("traceparent"),
                tracestate=headers.get("tracestate"),
            ),
        ):
            if limit is None:
                return await handler(message)
            with deadline_scope(limit):
                # As `asyncio.timeout` does it, at a fifth of its cost on every message.
                run = _Run(task)
                moment = self._limits.add(run, limit)
                try:
                    return await handler(message)
                except (TimeoutError, asyncio.CancelledError) as error:
                    if not run.is_reason_of(error):
                        raise
                    raise _took_too_long(message, limit) from error
                finally:
                    self._limits.remove(run, moment)
                    if run.expired:
                        task.uncancel()


def _took_too_long(message: BusMessage, limit: float) -> DeadlineExceededError:
    text = f"The handler of {message.name!r} took longer than the {limit:.3g} s it had."
    return DeadlineExceededError(text, remedy="Allow more time, or do less.")


def _time_left(headers: Mapping[str, str], timeout: float | None) -> float | None:
    """Return the seconds that a handler may take: the sender's or ours, whichever are fewer.

    The sender writes seconds that are left, not an instant: no two clocks are compared.
    """
    text = headers.get(DEADLINE)
    if text is None:
        return timeout
    try:
        left = int(text) / 1000
    except ValueError:
        return timeout
    if left <= 0:
        message = "The sender's deadline had passed when its message arrived."
        raise DeadlineExceededError(message, remedy="Allow more time.")
    return left if timeout is None else min(left, timeout)
