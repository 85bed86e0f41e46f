"""The bus on NATS, and what makes it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from motadata.core.errors import ConfigurationError
from motadata.core.messaging._bus import DRAIN_TIMEOUT, Bus
from motadata.core.messaging._nats_connection import Connection
from motadata.core.messaging._nats_credentials import NatsCredentials
from motadata.core.messaging._nats_streams import StreamLimits
from motadata.core.messaging._nats_transport import NatsTransport
from motadata.core.messaging._seconds import check_seconds
from motadata.core.protocols import Codec, Durability


class NatsMessageBus(Bus):
    """The message bus on NATS; made by `create_message_bus`."""


def create_message_bus(
    url: str | Sequence[str],
    *,
    credentials: NatsCredentials | None = None,
    durability: Durability = "file",
    monitoring_urls: Sequence[str] = (),
    limits: StreamLimits | None = None,
    codec: Codec | None = None,
    publish_timeout: float = 30.0,
    connect_timeout: float = 10.0,
    drain_timeout: float = DRAIN_TIMEOUT,
) -> NatsMessageBus:
    """Return a message bus over NATS; use it as an async context manager.

    Args:
        url: Address of a server, or addresses of several of one cluster.
        credentials: Who we are there.
        durability: What the acknowledgement of an event or of work must mean. Checked when the bus
            opens: a server that gives less is refused.
        monitoring_urls: The servers' HTTP status addresses; `fsync` cannot be checked without them.
        limits: What the streams keep; used when they are made.
        codec: How payloads are written; None means MessagePack. All registered codecs are read.
        publish_timeout: Seconds for which storing is tried again; an election takes up to ten.
        connect_timeout: Seconds for the first connection. Later ones are tried for ever.
        drain_timeout: Seconds that handlers get to finish when the bus closes.

    Raises:
        ConfigurationError: An argument does not fit.
    """
    check_seconds(above=0, publish_timeout=publish_timeout, connect_timeout=connect_timeout)
    check_seconds(drain_timeout=drain_timeout)
    used = limits or StreamLimits()
    if publish_timeout * 2 > used.duplicate_window:
        message = f"publish_timeout={publish_timeout!r} does not fit the duplicate window."
        raise ConfigurationError(
            message, remedy=f"Give at most half of its {used.duplicate_window:g} s."
        )
    connection = Connection(
        _addresses(url), credentials or NatsCredentials(), connect_timeout=connect_timeout
    )
    transport = NatsTransport(
        connection,
        durability=durability,
        limits=used,
        publish_timeout=publish_timeout,
        monitoring_urls=monitoring_urls,
    )
    return NatsMessageBus(transport, codec=codec, drain_timeout=drain_timeout)


def _addresses(url: object) -> list[str]:
    """Return the addresses that were given, checked by the connection itself.

    Raises:
        ConfigurationError: It is neither a text nor a sequence of texts.
    """
    if isinstance(url, str):
        return [url]
    if isinstance(url, Iterable) and not isinstance(url, bytes | bytearray):
        addresses = list(url)
        if all(isinstance(one, str) for one in addresses):
            return addresses
    message = f"A value of type {type(url).__name__} is no address of a message bus."
    raise ConfigurationError(message, remedy="Pass a text such as 'nats://localhost:4222'.")
