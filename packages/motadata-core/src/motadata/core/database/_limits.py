"""How long each step of a transaction may take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from motadata.core.database._driver import Connection, damaged_answers
from motadata.core.errors import DeadlineExceededError, QueryError
from motadata.core.resilience import remaining
from motadata.core.tenancy import TenantId


_GRACE: Final = 2.0
"""Seconds that the server has to report its own timeout before the driver gives up."""
_GRACE_OF_A_DEADLINE: Final = 0.02
"""The same when a deadline ends the wait: its caller waits no longer."""


@dataclass(frozen=True, slots=True)
class Limit:
    """Seconds a step, shortened by the surrounding deadline.

    Attributes:
        tenant: Whose steps they are, for errors.
        timeout: Seconds a step without a deadline.
    """

    tenant: TenantId
    timeout: float

    def __post_init__(self) -> None:
        """Check the timeout.

        Raises:
            QueryError: It is not positive.
        """
        if not self.timeout > 0:
            message = f"The timeout {self.timeout!r} is not positive."
            raise QueryError(message, remedy="Pass seconds above 0.", tenant_id=self.tenant)

    def of_server(self) -> float:
        """Return the seconds that the server may take for a step.

        Raises:
            DeadlineExceededError: The deadline is over.
        """
        left = remaining(self.timeout) or 0.0
        if left <= 0:
            message = "No time is left for the database."
            raise DeadlineExceededError(message, remedy="Allow more time.", tenant_id=self.tenant)
        return left

    def seconds(self) -> float:
        """Return the seconds after which the driver gives up waiting for the server."""
        patience = self.timeout + _GRACE
        left = remaining()
        return patience if left is None else min(patience, left + _GRACE_OF_A_DEADLINE)

    @staticmethod
    def drop_if_silent(connection: Connection, error: BaseException) -> None:
        """Drop the connection when the driver gave up waiting, or reading.

        Waiting on would outlast the caller, and what follows a damaged answer on the connection may
        be another damaged one, or the rest of it.
        """
        if isinstance(error, (TimeoutError, *damaged_answers())):
            connection.terminate()
