"""What a message that was given up is kept with, and how it is read again."""

from __future__ import annotations

from dataclasses import replace

from motadata.core.errors import CodecError, MessagingError
from motadata.core.messaging import _envelope as envelope
from motadata.core.messaging import _subject as subjects
from motadata.core.messaging._handling import Handling
from motadata.core.messaging._transport import Delivery, Incoming
from motadata.core.protocols import BusMessage, DeadLetter


def dead_letter_headers(delivery: Delivery, *, reason: str, error: str) -> dict[str, str]:
    """Return the headers of a dead letter: the message's own, and why it was given up."""
    incoming = delivery.incoming
    headers = {
        name: value
        for name, value in incoming.headers.items()
        if not name.lower().startswith("nats-")
    }
    headers[envelope.DEAD_SUBJECT] = incoming.subject
    headers[envelope.DEAD_REASON] = reason
    headers[envelope.DEAD_ERROR] = error
    headers[envelope.DEAD_DELIVERIES] = str(delivery.deliveries)
    headers[envelope.DEAD_ID] = incoming.headers.get(envelope.STORED_ID, "")
    return headers


def read_dead_letter(sequence: int, incoming: Incoming, handling: Handling) -> DeadLetter:
    """Read what `dead_letter_headers` wrote, as far as it is there.

    The tenant is that of the dead letter's own subject, whatever the rest says.
    """
    headers = incoming.headers
    own = subjects.parse_subject(incoming.subject)
    try:
        address = subjects.parse_subject(headers.get(envelope.DEAD_SUBJECT, incoming.subject))
    except MessagingError:
        address = own
    address = replace(address, tenant=own.tenant)
    count = headers.get(envelope.DEAD_DELIVERIES, "")
    deliveries = int(count) if count.isdecimal() else 1
    original = {**headers, envelope.STORED_ID: headers.get(envelope.DEAD_ID, "")}
    try:
        message = handling.read(
            Incoming(incoming.subject, incoming.data, original), address, deliveries=deliveries
        )
    except CodecError:
        message = BusMessage(
            kind=address.kind,
            name=address.name,
            tenant_id=address.tenant,
            payload=None,
            message_id=subjects.message_id_of(original[envelope.STORED_ID]),
            deliveries=deliveries,
        )
    reason, error = headers.get(envelope.DEAD_REASON, ""), headers.get(envelope.DEAD_ERROR, "")
    return DeadLetter(message=message, reason=reason, error=error, sequence=sequence)
