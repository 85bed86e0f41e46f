"""The envelope: what stands in the headers around a payload, and what is refused there."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from motadata.core.codec import get_codec
from motadata.core.errors import CodecError, InvalidIdentifierError, MessagingError
from motadata.core.messaging._subject import Address, lane_of
from motadata.core.observability import inject_trace
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

    def headers(self, tenant: str) -> dict[str, str]:
        """Return the headers of an outgoing message, with the current trace."""
        headers = {CONTENT_TYPE: self._content_type, TENANT: tenant}
        inject_trace(headers)
        return headers

    def decode(self, headers: dict[str, str], data: bytes) -> object:
        """Return the payload.

        Raises:
            CodecError: The content type, the version or the bytes cannot be read.
        """
        content_type = headers.get(CONTENT_TYPE, "")
        if content_type == self._content_type:
            return self._decode(data)
        return _codec_of(content_type).decode(data)


def check_headers(headers: dict[str, str], address: Address) -> None:
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


def error_reply(code: str, *, retryable: bool) -> str:
    """Return the header that marks a reply as a failure."""
    return f"{code};{'retry' if retryable else 'final'}"


def reply_failure(recipient: str, header: str, text: object) -> MessagingError:
    """Return the error that a reply's failure header stands for."""
    code, _, outlook = header.partition(";")
    detail = text if isinstance(text, str) else ""
    message = f"The agent {recipient!r} did not answer ({code[:64]}). {detail[:500]}".rstrip()
    return MessagingError(message, retryable=outlook == "retry")


@lru_cache(64)
def _codec_of(content_type: str) -> Codec:
    media_type, _, version = content_type.partition(";")
    if f";{version}" != _VERSION:
        message = f"The envelope {content_type[:80]!r} is of an unknown version."
        raise CodecError(message, remedy=f"Known is {_VERSION[1:]}; upgrade motadata-core.")
    return get_codec(media_type)
