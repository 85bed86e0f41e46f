"""The contract of the message bus: what agents say, what has happened, and work to be done.

| kind | subject | delivered |
|---|---|---|
| agent message | `sdk.agent.<from>.<to>.<tenant>` | at most once, to who listens now |
| event | `sdk.events.<type>.<tenant>` | at least once, to every named consumer |
| work | `sdk.workflow.<id>.<tenant>` | at least once, to one worker, then gone |

Events and work with a key have a lane before the tenant: `sdk.events.<type>.=<lane>.<tenant>`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from motadata.core.models import Health, Record
from motadata.core.tenancy import TenantId


Durability = Literal["fsync", "replicated", "file", "memory"]
"""What an acknowledgement of a stored message means.

`fsync`: it is on the server's disk. `replicated`: a majority of three servers has it, so that one
may be lost; a power cut of all of them at once may lose the last two minutes. `file`: the operating
system of one server has it, which survives a crash of the server and not a power cut. `memory`: it
is gone when the server ends.
"""

MessageKind = Literal["agent", "event", "work", "dead_letter"]


@dataclass(frozen=True, slots=True)
class BusMessage(Record):
    """A message as its handler gets it; kind, name, sender and tenant come from the subject.

    Attributes:
        kind: Which of the three it is, or a `dead_letter`.
        name: The agent it is for, the type of the event, or the workflow's id.
        tenant_id: Whom it belongs to; the handler runs in this tenant's scope.
        payload: What was sent.
        message_id: The sender's id of it; the same in every delivery. Empty for agent messages.
        sender: The agent that sent it; None for events and work.
        key: Messages of one key and tenant are handled one after the other, oldest first, by all
            processes of a consumer together.
        deliveries: How often it has been handed out, this time included.
    """

    kind: MessageKind
    name: str
    tenant_id: TenantId
    payload: object
    message_id: str = ""
    sender: str | None = None
    key: str | None = None
    deliveries: int = 1


@dataclass(frozen=True, slots=True)
class PublishedMessage(Record):
    """The receipt of a stored message.

    Attributes:
        message_id: The id under which repeating the call stores nothing new.
        sequence: Its place in the stream; later ones are higher.
        duplicate: Whether it had been stored by an earlier call already.
        durability: What the acknowledgement means.
    """

    message_id: str
    sequence: int
    duplicate: bool
    durability: Durability


@dataclass(frozen=True, slots=True)
class DeadLetter(Record):
    """A message that was given up.

    Attributes:
        message: The message, with `payload` None when it could not be understood.
        reason: `handler_failed`, `refused` or `undecodable`.
        error: Code of the last error, or its type.
        sequence: Its place among the dead letters.
    """

    message: BusMessage
    reason: str
    error: str
    sequence: int


@dataclass(frozen=True, slots=True)
class ConsumerOptions:
    """How messages are handed out.

    Attributes:
        max_in_flight: Most messages in handlers at once, in this process.
        max_deliveries: Tries before a message becomes a dead letter.
        first_delay: Seconds before the second try; doubled for each one after it.
        max_delay: Seconds; no wait is longer.
        ack_wait: Seconds without a sign of life after which a message goes to another process.
        handler_timeout: Seconds that a handler may take; then it is cancelled and has failed.
        start: What a consumer gets first when it is new: all that is kept, or only what comes.
        forget_after: Seconds without any process after which the consumer's place is forgotten;
            None keeps it for ever.
    """

    max_in_flight: int = 32
    max_deliveries: int = 5
    first_delay: float = 1.0
    max_delay: float = 60.0
    ack_wait: float = 30.0
    handler_timeout: float = 300.0
    start: Literal["all", "new"] = "all"
    forget_after: float | None = None


Handler = Callable[[BusMessage], Awaitable[object]]
"""Handles one message. Its result answers a request; for events and work it means nothing:
returning at all acknowledges the message, and raising hands it out again later."""

DEFAULT_CONSUMER: Final = ConsumerOptions()


class Subscription(Protocol):
    """A handler at work."""

    async def stop(self) -> None:
        """Take no more messages and return when those in hand are handled."""
        ...


class MessageBus(Protocol):
    """Carries messages between the parts of a platform, tenant by tenant.

    Agents, workflows, consumers, message ids and keys are identifiers; an event type is one to four
    of them joined by dots (`document.updated`). A payload is anything that the codec encodes.

    A handler runs in the scope of the message's tenant and within the sender's trace. Only the
    methods that say `all_tenants` hear more than one tenant: they are for the platform's operator.

    Raises:
        TenantRequiredError: No tenant is given and none is in scope.
        InvalidIdentifierError: A name breaks the grammar.
        CodecError: A payload has no encoding.
        OverloadError: A bound of the bus is reached.
        MessagingError: The bus cannot be reached or refuses; `retryable` says what to do.
    """

    async def publish(
        self, recipient: str, payload: object, *, sender: str, tenant_id: str | None = None
    ) -> None:
        """Send a message to an agent; nobody has to be listening, and nothing is kept."""
        ...

    async def request(
        self,
        recipient: str,
        payload: object,
        *,
        sender: str,
        timeout: float = 5.0,
        tenant_id: str | None = None,
    ) -> object:
        """Send a message to an agent and return its answer.

        Raises:
            DeadlineExceededError: No answer came in `timeout` seconds, or the surrounding deadline.
            MessagingError: Nobody listens, the handler failed, or what was asked or answered is
                too large, which no repeat helps.
            ConfigurationError: The timeout is no number of seconds.
        """
        ...

    async def subscribe(
        self,
        recipient: str,
        handler: Handler,
        *,
        shared: bool = True,
        max_in_flight: int = 64,
        tenant_id: str | None = None,
    ) -> Subscription:
        """Handle what is sent to an agent of the tenant.

        When it returns, its server passes messages on; the others of a cluster do a moment later.

        Args:
            recipient: The agent.
            handler: What handles a message; its result answers a request.
            shared: Whether each message goes to one of all who subscribe so, or to every one.
            max_in_flight: Most messages in the handler at once; a request beyond is refused.
            tenant_id: Whose agent it is.
        """
        ...

    async def subscribe_all_tenants(
        self, recipient: str, handler: Handler, *, shared: bool = True, max_in_flight: int = 64
    ) -> Subscription:
        """Handle what any tenant sends to an agent; for the operator of the platform."""
        ...

    async def publish_event(
        self,
        event_type: str,
        payload: object,
        *,
        message_id: str | None = None,
        key: str | None = None,
        tenant_id: str | None = None,
    ) -> PublishedMessage:
        """Store an event and return when it is acknowledged.

        Repeating the call with the same `message_id`, event type and tenant within the bus's window
        stores nothing new.
        """
        ...

    async def consume(
        self,
        consumer: str,
        handler: Handler,
        *,
        event_types: Sequence[str],
        options: ConsumerOptions = DEFAULT_CONSUMER,
        tenant_id: str | None = None,
    ) -> Subscription:
        """Handle each event of these types of the tenant, from where this consumer left off.

        Processes that use one consumer name share its events.
        """
        ...

    async def consume_all_tenants(
        self,
        consumer: str,
        handler: Handler,
        *,
        event_types: Sequence[str],
        options: ConsumerOptions = DEFAULT_CONSUMER,
    ) -> Subscription:
        """Handle each event of these types of every tenant; for the operator of the platform."""
        ...

    async def submit_work(
        self,
        workflow_id: str,
        payload: object,
        *,
        message_id: str | None = None,
        key: str | None = None,
        tenant_id: str | None = None,
    ) -> PublishedMessage:
        """Store a piece of work for whoever works on the workflow; as `publish_event` otherwise."""
        ...

    async def work(
        self,
        workflow_id: str,
        handler: Handler,
        *,
        options: ConsumerOptions = DEFAULT_CONSUMER,
        tenant_id: str | None = None,
    ) -> Subscription:
        """Handle the work of one workflow of the tenant; each piece goes to one worker."""
        ...

    async def work_all_tenants(
        self, workflow_id: str, handler: Handler, *, options: ConsumerOptions = DEFAULT_CONSUMER
    ) -> Subscription:
        """Handle the work of one workflow for every tenant; for the operator of the platform.

        Raises:
            MessagingError: A worker of one tenant takes the same workflow's work already.
        """
        ...

    async def dead_letters(
        self, name: str, *, limit: int = 100, tenant_id: str | None = None
    ) -> Sequence[DeadLetter]:
        """Return what a consumer, or a workflow's workers, gave up for the tenant, oldest first.

        A consumer and a workflow of one name share their dead letters; `message.kind` tells.
        """
        ...

    async def health(self) -> Health:
        """Say whether the bus carries messages, and what its acknowledgements are worth."""
        ...
