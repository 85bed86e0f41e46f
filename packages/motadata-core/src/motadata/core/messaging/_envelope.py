"""The envelope: what stands in the headers around a payload, and what is refused there."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from motadata.core.codec import get_codec
from motadata.core.errors import CodecError, InvalidIdentifierError, MessagingError
from motadata.core.messaging._frames import header_lines
from motadata.core.messaging._subject import Address, lane_of
from motadata.core.protocols import Codec


CONTENT_TYPE: Final = "content-type"
TENANT: Final = "motadata-tenant"
SENDER: Final = "motadata-sender"
KEY: Final = "motadata-key"
DEADLINE: Final = "motadata-deadline"
ERROR: Final = "motadata-error"

DEAD_SUBJECT: Final = "motadata-dead-subject"
DEAD_REASON: Final = "motadata-dead-reason"
DEAD_ERROR: Final = "motadata-dead-error"
DEAD_DELIVERIES: Final = "motadata-dead-deliveries"
DEAD_ID: Final = "motadata-dead-id"

STORED_ID: Final = "Nats-Msg-Id"
"""The header by which JetStream recognises a repeated message."""

_VERSION: Final = ";v=1"
_MOST_TENANTS: Final = 4096


class RefusedError(Exception):
    """A message is not what it claims to be; it never reaches a handler.

    Stays within this package: the receiving side counts it, logs it and gives the message up.
    """


class Envelope:
    """How a bus writes payloads, the headers around them, and reads whatever it knows.

    Args:
        codec: What payloads are written with. It reads those of its own kind, with the models that
            it knows; the registered codecs read the others.
    """

    __slots__ = ("_content_type", "_decode", "encode")

    def __init__(self, codec: Codec) -> None:
        self._content_type = codec.content_type + _VERSION
        self._decode = codec.decode
        self.encode = codec.encode

    def headers(self, tenant: str) -> bytes:
        """Return the headers that every message of a tenant has, as lines."""
        return _same_lines(self._content_type, tenant)

    def decode(self, headers: Mapping[str, str], data: bytes) -> object:
        """Return the payload.

        Raises:
            CodecError: The content type, the version or the bytes cannot be read.
        """
        content_type = headers.get(CONTENT_TYPE, "")
        if content_type == self._content_type:
            return self._decode(data)
        return _codec_of(content_type).decode(data)


def trace_lines(parent: str, state: str) -> bytes:
    """Return the headers by which whoever gets a message continues the trace, as lines."""
    if state:
        return header_lines({"tracestate": state, "traceparent": parent})
    return f"traceparent: {parent}\r\n".encode()


def deadline_line(seconds: float) -> bytes:
    """Return the header that says how long the sender waits, as a line."""
    return f"{DEADLINE}: {int(seconds * 1000)}\r\n".encode()


def check_headers(headers: Mapping[str, str], address: Address) -> None:
    """Compare what an envelope claims with what its subject says.

    Raises:
        RefusedError: They disagree, or the envelope names no tenant.
    """
    claimed = headers.get(TENANT)
    if claimed != address.tenant:
        message = "names another tenant" if claimed is not None else "names no tenant"
        raise RefusedError(message)
    key = headers.get(KEY)
    if (None if key is None else _lane(key, address)) != address.lane:
        message = "names a key of another lane"
        raise RefusedError(message)
    sender = headers.get(SENDER)
    if sender is not None and sender != address.sender:
        message = "names another sender"
        raise RefusedError(message)


def _lane(key: str, address: Address) -> int | None:
    try:
        return lane_of(key, address.tenant)
    except InvalidIdentifierError:
        return None


def error_line(code: str, *, retryable: bool) -> bytes:
    """Return the header that marks a reply as a failure, as a line."""
    return header_lines({ERROR: f"{code};{'retry' if retryable else 'final'}"})


def reply_failure(recipient: str, header: str, text: object) -> MessagingError:
    """Return the error that a reply's failure header stands for."""
    code, _, outlook = header.partition(";")
    detail = text if isinstance(text, str) else ""
    message = f"The agent {recipient!r} did not answer ({code[:64]}). {detail[:500]}".rstrip()
    return MessagingError(message, retryable=outlook == "retry")


@lru_cache(_MOST_TENANTS)
def _same_lines(content_type: str, tenant: str) -> bytes:
    return header_lines({CONTENT_TYPE: content_type, TENANT: tenant})


@lru_cache(64)
def _codec_of(content_type: str) -> Codec:
    media_type, _, version = content_type.partition(";")
    if f";{version}" != _VERSION:
        message = f"The envelope {content_type[:80]!r} is of an unknown version."
        raise CodecError(message, remedy=f"Known is {_VERSION[1:]}; upgrade motadata-core.")
    return get_codec(media_type)
