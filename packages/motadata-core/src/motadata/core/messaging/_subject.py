"""Every name on the wire: subjects, streams, consumers and message ids; spelt out here only.

    sdk.agent.<from>.<to>.<tenant>          five tokens
    sdk.events.<type>.<tenant>              the type has one to four tokens, the tenant is the last
    sdk.events.<type>.=<lane>.<tenant>      an event with a key, in the lane of its key
    sdk.workflow.<id>.<tenant>              four tokens
    sdk.workflow.<id>.=<lane>.<tenant>      work with a key
    sdk.dead_letters.<consumer>.<tenant>    four tokens

Each token is an `Identifier`, so no separator and no wildcard gets in, and a subject reads in one
way only: `sdk.events.document.updated.acme` is the type `document.updated` of the tenant `acme`. A
pattern for the type `document` has four tokens and can never match it. A lane's `=` fits into no
identifier, so that it is no part of a type.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from zlib import crc32

from motadata.core.errors import InvalidIdentifierError, MessagingError
from motadata.core.protocols.message_bus import MessageKind
from motadata.core.tenancy import Identifier, TenantId


EVENTS: Final = "SDK_EVENTS"
WORK: Final = "SDK_WORK"
DEAD_LETTERS: Final = "SDK_DEAD_LETTERS"

STREAM_SUBJECTS: Final = {
    EVENTS: ("sdk.events.>",),
    WORK: ("sdk.workflow.*.*", "sdk.workflow.*.*.*"),
    DEAD_LETTERS: ("sdk.dead_letters.*.*",),
}

MAX_TYPE_TOKENS: Final = 4
LANES: Final = 8
"""Lanes of keyed messages; a key always has the same one, so the number is part of the grammar."""

_ANY: Final = "*"
_CACHED: Final = 4096

# Between the parts of a name that is no subject; none of these characters fits into an identifier.
_TENANT_MARK: Final = "@"
_ID_MARK: Final = "="
_LANE_MARK: Final = "="
_LANE_TOKENS: Final = tuple(f"{_LANE_MARK}{lane}" for lane in range(LANES))
_FEWEST_TOKENS: Final = 4


@dataclass(frozen=True, slots=True)
class Address:
    """What a subject says.

    Attributes:
        kind: Agent message, event, work or dead letter.
        name: Recipient, event type, workflow id or consumer.
        tenant: Whose it is.
        sender: The sending agent, of an agent message.
        lane: That of its key, of an event or work with a key.
    """

    kind: MessageKind
    name: str
    tenant: TenantId
    sender: Identifier | None = None
    lane: int | None = None


@lru_cache(_CACHED)
def agent_subject(sender: str, recipient: str, tenant: TenantId) -> str:
    """Return the subject of a message from one agent to another."""
    return f"sdk.agent.{Identifier(sender)}.{Identifier(recipient)}.{TenantId(tenant)}"


def agent_pattern(recipient: str, tenant: TenantId | None) -> str:
    """Return what matches every message to an agent, of one tenant or, for None, of all."""
    return f"sdk.agent.{_ANY}.{Identifier(recipient)}.{_tenant_token(tenant)}"


@lru_cache(_CACHED)
def event_subject(event_type: str, tenant: TenantId) -> str:
    """Return the subject of an event."""
    return f"sdk.events.{_event_type(event_type)}.{TenantId(tenant)}"


def event_pattern(event_type: str, tenant: TenantId | None) -> str:
    """Return what matches the events of one type, of one tenant or, for None, of all."""
    return f"sdk.events.{_event_type(event_type)}.{_tenant_token(tenant)}"


@lru_cache(_CACHED)
def work_subject(workflow_id: str, tenant: TenantId) -> str:
    """Return the subject of a workflow's work."""
    return f"sdk.workflow.{Identifier(workflow_id)}.{TenantId(tenant)}"


def work_pattern(workflow_id: str, tenant: TenantId | None) -> str:
    """Return what matches a workflow's work, of one tenant or, for None, of all."""
    return f"sdk.workflow.{Identifier(workflow_id)}.{_tenant_token(tenant)}"


def dead_letter_subject(consumer: str, tenant: TenantId) -> str:
    """Return the subject of what a consumer gave up."""
    return f"sdk.dead_letters.{Identifier(consumer)}.{TenantId(tenant)}"


def lane_of(key: str, tenant: TenantId) -> int:
    """Return the lane of a key: the same in every process and every version."""
    return crc32(f"{TenantId(tenant)}.{Identifier(key)}".encode()) % LANES


def in_lane(subject: str, lane: int) -> str:
    """Return the subject, or pattern, of an event or work for what is in one lane of it."""
    rest, _, tenant = subject.rpartition(".")
    return f"{rest}.{_LANE_MARK}{lane}.{tenant}"


def consumer_name(name: str, tenant: TenantId | None, lane: int | None = None) -> str:
    """Return a consumer's name in its stream; no two tenants' names are equal."""
    whole = f"{Identifier(name)}{_TENANT_MARK}{'' if tenant is None else TenantId(tenant)}"
    return whole if lane is None else f"{whole}{_LANE_MARK}{lane}"


def stored_id(subject: str, message_id: str) -> str:
    """Return the id by which a stream recognises a repeated message.

    The subject is part of it: one tenant's id must not swallow another's message.
    """
    return f"{subject}{_ID_MARK}{message_id}"


def message_id_of(stored: str) -> str:
    """Return the sender's own part of an id that `stored_id` made."""
    return stored.rpartition(_ID_MARK)[2]


def dead_letter_id(stream: str, consumer: str, sequence: int) -> str:
    """Return the id under which a message is given up once, however often that is tried."""
    return f"{stream}{_ID_MARK}{consumer}{_ID_MARK}{sequence}"


@lru_cache(_CACHED)
def parse_subject(subject: str) -> Address:
    """Return what a subject says.

    Raises:
        MessagingError: It is none of ours.
    """
    tokens = subject.split(".")
    try:
        return _parse(tokens)
    except (InvalidIdentifierError, ValueError):
        message = f"{subject[:200]!r} is no subject of the SDK."
        raise MessagingError(
            message, remedy="See the subject grammar in docs/guides/messaging.md.", retryable=False
        ) from None


def _parse(tokens: list[str]) -> Address:
    lane: int | None = None
    if len(tokens) > _FEWEST_TOKENS and tokens[-2].startswith(_LANE_MARK):
        lane = _LANE_TOKENS.index(tokens.pop(-2))
    match tokens:
        case ["sdk", "agent", sender, recipient, tenant] if lane is None:
            return Address("agent", Identifier(recipient), TenantId(tenant), Identifier(sender))
        case ["sdk", "events", *event_type, tenant] if event_type:
            name = _event_type(".".join(event_type))
            return Address("event", name, TenantId(tenant), lane=lane)
        case ["sdk", "workflow", workflow_id, tenant]:
            return Address("work", Identifier(workflow_id), TenantId(tenant), lane=lane)
        case ["sdk", "dead_letters", consumer, tenant] if lane is None:
            return Address("dead_letter", Identifier(consumer), TenantId(tenant))
    raise ValueError(tokens)


def _event_type(event_type: object) -> str:
    if not isinstance(event_type, str):
        message = f"{event_type!r} is not a valid event type."
        raise InvalidIdentifierError(message, remedy="Use identifiers joined by dots.")
    tokens = event_type.split(".")
    if len(tokens) > MAX_TYPE_TOKENS:
        message = f"{event_type[:200]!r} is not a valid event type."
        raise InvalidIdentifierError(message, remedy=f"Use at most {MAX_TYPE_TOKENS} tokens.")
    return ".".join(Identifier(token) for token in tokens)


def _tenant_token(tenant: TenantId | None) -> str:
    return _ANY if tenant is None else TenantId(tenant)
