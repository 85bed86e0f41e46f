"""What a bus has done so far, in numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from motadata.core.models import Record


@dataclass(frozen=True, slots=True)
class BusStatistics(Record):
    """Counts since the bus was made.

    Attributes:
        published: Agent messages and requests sent.
        stored: Events and work acknowledged.
        delivered: Messages that reached a handler; a redelivery counts again.
        failed: Handlers that raised or ran out of time.
        redelivered: Events and work that were asked for again.
        dead_lettered: Those given up.
        refused: Messages whose envelope contradicts their subject, or that are none of ours.
        overloaded: Requests that found their agent fully occupied.
        dropped: Agent messages thrown away because their handler is too slow.
    """

    published: int
    stored: int
    delivered: int
    failed: int
    redelivered: int
    dead_lettered: int
    refused: int
    overloaded: int
    dropped: int


@dataclass(slots=True)
class Counters:
    """The counts while they grow; of one event loop, so nothing guards them."""

    published: int = 0
    stored: int = 0
    delivered: int = 0
    failed: int = 0
    redelivered: int = 0
    dead_lettered: int = 0
    refused: int = 0
    overloaded: int = 0
    dropped: int = 0

    def snapshot(self) -> BusStatistics:
        """Return the counts of now."""
        return BusStatistics(**asdict(self))
