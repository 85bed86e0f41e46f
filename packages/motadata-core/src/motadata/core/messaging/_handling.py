"""One message and its handler: tenant, trace, deadline and time limit around the call."""

from __future__ import annotations

import asyncio

from motadata.core.errors import DeadlineExceededError
from motadata.core.messaging._alarms import Alarms
from motadata.core.messaging._envelope import DEADLINE, KEY, STORED_ID, Envelope
from motadata.core.messaging._subject import Address, message_id_of
from motadata.core.messaging._transport import Incoming
from motadata.core.observability import extract_trace, message_call
from motadata.core.protocols import BusMessage, Handler
from motadata.core.resilience import deadline_scope
from motadata.core.tenancy import tenant_scope


class _Run:
    """A handler that may run only for some time."""

    __slots__ = ("cancels", "expired", "task")

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.task: asyncio.Task[object] = task
        self.cancels = task.cancelling()
        self.expired = False

    def expire(self) -> None:
        self.expired = True
        self.task.cancel()

    @property
    def is_cancelled_too(self) -> bool:
        """Whether somebody else wants it to end as well, who must hear of it."""
        return self.task.cancelling() > self.cancels + 1


class Handling:
    """Reads messages and runs their handlers.

    Args:
        envelope: What payloads are read with.
        system: What carries them, as spans call it.
    """

    def __init__(self, envelope: Envelope, *, system: str) -> None:
        self._envelope = envelope
        self._system = system
        self._limits = Alarms(_Run.expire)

    def read(self, incoming: Incoming, address: Address, *, deliveries: int = 1) -> BusMessage:
        """Return the message as its handler gets it.

        Raises:
            CodecError: The payload cannot be decoded.
        """
        headers = incoming.headers
        return BusMessage(
            kind=address.kind,
            name=address.name,
            tenant_id=address.tenant,
            payload=self._envelope.decode(headers, incoming.data),
            message_id=message_id_of(headers.get(STORED_ID, "")),
            sender=address.sender,
            key=headers.get(KEY),
            deliveries=deliveries,
        )

    async def run(
        self,
        handler: Handler,
        message: BusMessage,
        headers: dict[str, str],
        *,
        timeout: float | None,
    ) -> object:
        """Run a handler as its message's tenant, within the sender's trace, for a limited time.

        Raises:
            DeadlineExceededError: The sender's deadline or `timeout` passed; the handler was
                cancelled.
            Exception: Whatever the handler raises.
        """
        limit = _time_left(headers, timeout)
        parent, state = headers.get("traceparent"), headers.get("tracestate")
        carrier = {} if parent is None else {"traceparent": parent}
        if state is not None:
            carrier["tracestate"] = state
        tenant = message.tenant_id
        with (
            extract_trace(carrier),
            tenant_scope(tenant),
            message_call(
                "process", destination=message.kind, system=self._system, tenant_id=tenant
            ),
        ):
            if limit is None:
                return await handler(message)
            with deadline_scope(limit):
                return await self._run_for(limit, handler, message)

    async def _run_for(self, limit: float, handler: Handler, message: BusMessage) -> object:
        # As `asyncio.timeout` does it, at a fifth of its cost on every message.
        run = _Run()
        moment = self._limits.add(run, limit)
        try:
            return await handler(message)
        except (TimeoutError, asyncio.CancelledError) as error:
            if not run.expired or (
                isinstance(error, asyncio.CancelledError) and run.is_cancelled_too
            ):
                raise
            text = f"The handler of {message.name!r} took longer than the {limit:.3g} s it had."
            raise DeadlineExceededError(text, remedy="Allow more time, or do less.") from error
        finally:
            self._limits.remove(run, moment)
            if run.expired:
                run.task.uncancel()


def _time_left(headers: dict[str, str], timeout: float | None) -> float | None:
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
