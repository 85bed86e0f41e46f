"""One message and its handler: tenant, trace, deadline and time limit around the call."""

from __future__ import annotations

import asyncio

from motadata.core.errors import DeadlineExceededError
from motadata.core.messaging._envelope import DEADLINE, KEY, STORED_ID, decode_payload
from motadata.core.messaging._subject import Address, message_id_of
from motadata.core.messaging._transport import Incoming
from motadata.core.observability import extract_trace, message_call
from motadata.core.protocols import BusMessage, Handler
from motadata.core.resilience import deadline_scope
from motadata.core.tenancy import tenant_scope


def read_message(incoming: Incoming, address: Address, *, deliveries: int = 1) -> BusMessage:
    """Return the message as its handler gets it.

    Raises:
        CodecError: The payload cannot be decoded.
    """
    headers = incoming.headers
    return BusMessage(
        kind=address.kind,
        name=address.name,
        tenant_id=address.tenant,
        payload=decode_payload(headers, incoming.data),
        message_id=message_id_of(headers.get(STORED_ID, "")),
        sender=address.sender,
        key=headers.get(KEY),
        deliveries=deliveries,
    )


async def handle(
    handler: Handler, message: BusMessage, headers: dict[str, str], *, timeout: float | None
) -> object:
    """Run a handler as its message's tenant, within the sender's trace, for a limited time.

    Raises:
        DeadlineExceededError: The sender's deadline or `timeout` passed; the handler was cancelled.
        Exception: Whatever the handler raises.
    """
    limit = _time_left(headers, timeout)
    parent, state = headers.get("traceparent"), headers.get("tracestate")
    carrier = {} if parent is None else {"traceparent": parent}
    if state is not None:
        carrier["tracestate"] = state
    with (
        extract_trace(carrier),
        tenant_scope(message.tenant_id),
        message_call("process", destination=message.kind, tenant_id=message.tenant_id),
    ):
        if limit is None:
            return await handler(message)
        # Not `time_limit`: half its cost, on every message.
        timer = asyncio.timeout(limit)
        try:
            with deadline_scope(limit):
                async with timer:
                    return await handler(message)
        except TimeoutError as error:
            if not timer.expired():
                raise
            text = f"The handler of {message.name!r} took longer than the {limit:.3g} s it had."
            raise DeadlineExceededError(text, remedy="Allow more time, or do less.") from error


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
