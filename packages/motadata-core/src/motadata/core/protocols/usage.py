"""The contract of what adds up the calls of models."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Literal, Protocol


UsageGroup = Literal[
    "day",
    "month",
    "operation",
    "model",
    "provider",
    "feature",
    "user",
    "prompt",
    "error",
    "price_version",
]
"""What calls can be told apart by; days (`2026-03-01`) and months (`2026-03`) are those of UTC."""


class UsageTotal(Protocol):
    """What a group of calls used, added up."""

    @property
    def group(self) -> tuple[str, ...]:
        """What the calls have in common, in the order in which it was asked for."""
        ...

    @property
    def calls(self) -> int:
        """How many there were."""
        ...

    @property
    def input_tokens(self) -> int:
        """Tokens sent."""
        ...

    @property
    def output_tokens(self) -> int:
        """Tokens received."""
        ...

    @property
    def cost_usd(self) -> Decimal:
        """What the providers charged, as far as it is known."""
        ...

    @property
    def saved_usd(self) -> Decimal:
        """What answers from caches and equal calls would have cost."""
        ...

    @property
    def unpriced(self) -> int:
        """How many calls had no known price."""
        ...

    @property
    def failed(self) -> int:
        """How many ended with an error."""
        ...


class UsageReader(Protocol):
    """Adds up what a tenant used.

    Raises:
        TenantRequiredError: No tenant is given and none is in scope.
        InvalidIdentifierError: The tenant's name is malformed.
        ConfigurationError: A group is unknown, or a time has no zone.
        DeadlineExceededError: The deadline of the caller ended it.
    """

    async def usage_by(
        self,
        *groups: UsageGroup,
        since: datetime | None = None,
        until: datetime | None = None,
        tenant_id: str | None = None,
    ) -> Sequence[UsageTotal]:
        """Return what the tenant used, by nothing (one sum), or by one thing or several.

        There is a sum for each group that has calls, and so none at all for who used nothing.

        Args:
            groups: What to tell apart.
            since: Calls that began then or later, to the millisecond; with a time zone.
            until: Calls that began before, to the millisecond; with a time zone.
            tenant_id: None means the tenant of the scope.
        """
        ...
