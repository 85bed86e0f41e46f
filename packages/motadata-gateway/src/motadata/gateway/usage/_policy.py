"""How often, how much and how long the usage log writes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from motadata.core.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class UsagePolicy:
    """How calls are written down.

    Attributes:
        interval: Seconds between two writes to the disk; what a crash can lose.
        most_queued: Calls that wait for the next write.
        most_bytes: Bytes on disk that wait for the database, those of dead instances included.
            Above it, as above `most_queued`, calls are counted as dropped and not written down. As
            many bytes again, of all instances together, may be rows that the database refused; what
            is refused above that is dropped and counted in the same way.
        segment_bytes: Size from which on a file of the folder is not added to.
        timeout: Seconds for a statement.
        closing: Seconds that closing waits for the database; the rest is sent by the next instance.
        texts: Whether questions and answers are written down too, as they were before any masking.

    Raises:
        ConfigurationError: A number is out of range.
    """

    interval: float = 0.5
    most_queued: int = 20_000
    most_bytes: int = 256_000_000
    segment_bytes: int = 4_000_000
    timeout: float = 10.0
    closing: float = 5.0
    texts: bool = False

    def __post_init__(self) -> None:
        """Refuse numbers that cannot work."""
        for name in ("interval", "most_queued", "most_bytes", "segment_bytes", "timeout"):
            number = getattr(self, name)
            if not (_is_finite(number) and number > 0):
                message = f"{name}={number!r} is not positive."
                raise ConfigurationError(message, remedy="Pass a positive number.")
        if not (_is_finite(self.closing) and self.closing >= 0):
            message = f"closing={self.closing!r} is no number of seconds."
            raise ConfigurationError(message, remedy="Pass 0 or more seconds.")


def _is_finite(number: object) -> bool:
    return (
        isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)
    )
