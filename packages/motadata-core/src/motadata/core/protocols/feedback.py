"""The contract of what keeps people's feedback on answers."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol
from uuid import UUID

from motadata.core.models import FeedbackInsights, FeedbackReceipt, Signal


class FeedbackLog(Protocol):
    """Keeps feedback on calls, and adds it up, for a tenant.

    Raises:
        TenantRequiredError: No tenant is given and none is in scope.
        ValidationError: What was said cannot be kept.
    """

    async def record(
        self,
        call_id: str,
        signal: Signal,
        *,
        user: str = "",
        feedback_id: UUID | None = None,
        tenant_id: str | None = None,
    ) -> FeedbackReceipt:
        """Keep what somebody says about a call.

        Args:
            call_id: The `call_id` of the answer.
            signal: What is said. A second one of its kind by the same user replaces the first.
            user: Who says it: an opaque id, never a name or an address.
            feedback_id: What makes a repeated call the same feedback; None means that call, user
                and kind do.
            tenant_id: None means the tenant of the scope.
        """
        ...

    async def insights(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        tenant_id: str | None = None,
    ) -> FeedbackInsights:
        """Return how each version of a prompt fares with each model.

        Args:
            since: Feedback first given from then on; with a time zone.
            until: Feedback first given before then; with a time zone.
            tenant_id: None means the tenant of the scope.
        """
        ...
