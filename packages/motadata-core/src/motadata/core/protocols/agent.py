"""The contracts of agents and of what they remember."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from motadata.core.models import Health, TaskResult


class Agent(Protocol):
    """Works on tasks with a language model, tools and memory, for a tenant.

    Raises:
        TenantRequiredError: No tenant is given and none is in scope.
        AgentExecutionError: The task failed.
    """

    async def execute_task(
        self,
        task_type: str,
        parameters: Mapping[str, object],
        *,
        timeout: float | None = None,
        tenant_id: str | None = None,
    ) -> TaskResult:
        """Work on one task to its end; `timeout` is in seconds."""
        ...

    async def health(self) -> Health:
        """Say whether the agent can take tasks."""
        ...


class Memory(Protocol):
    """What was said and learnt before, per tenant and subject (a user, a session)."""

    async def recall(
        self, subject: str, query: str, *, limit: int = 5, tenant_id: str | None = None
    ) -> Sequence[str]:
        """Return what fits `query` best, best first."""
        ...

    async def remember(
        self, subject: str, question: str, answer: str, *, tenant_id: str | None = None
    ) -> None:
        """Keep an exchange; durable when it returns."""
        ...
