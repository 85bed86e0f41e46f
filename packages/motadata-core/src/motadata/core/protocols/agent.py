"""The contracts of agents and of what they remember."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from motadata.core.models import Health, TaskResult


class Agent(Protocol):
    """Works on tasks with a language model, tools and memory, for a tenant.

    Nothing of what one tenant says shows in the results of another. Cancelling a task ends the work
    on it, the model's and the tools' included.

    Raises:
        TenantRequiredError: No tenant is given and none is in scope.
        InvalidIdentifierError: The tenant's name is malformed.
        AgentExecutionError: The task failed: its type is unknown, its parameters do not fit, it
            took longer than `timeout`, or `timeout` is not positive. It repeats no parameter.
        DeadlineExceededError: The deadline of the caller ended it.
    """

    async def execute_task(
        self,
        task_type: str,
        parameters: Mapping[str, object],
        *,
        timeout: float | None = None,
        tenant_id: str | None = None,
    ) -> TaskResult:
        """Work on one task to its end.

        Args:
            task_type: What is to be done; which types there are is the agent's to say.
            parameters: What it is to be done with; they are not changed.
            timeout: Seconds that it may take; None leaves the agent's own limit.
            tenant_id: None means the tenant of the scope.
        """
        ...

    async def health(self) -> Health:
        """Say whether the agent can take tasks."""
        ...


class Memory(Protocol):
    """What was said and learnt before, per tenant and subject (a user, a session).

    Nothing of one tenant or subject is recalled for another.

    Raises:
        TenantRequiredError: No tenant is given and none is in scope.
        InvalidIdentifierError: The tenant's name is malformed.
        AgentError: The subject, the query, the question or the answer is blank, or the limit is not
            positive; nothing was kept.
        DeadlineExceededError: The deadline of the caller ended it.
    """

    async def recall(
        self, subject: str, query: str, *, limit: int = 5, tenant_id: str | None = None
    ) -> Sequence[str]:
        """Return what fits `query` best, best first, at most `limit` texts.

        A text holds the answer of an exchange in the words in which it was given. Where nothing is
        known there is none.
        """
        ...

    async def remember(
        self, subject: str, question: str, answer: str, *, tenant_id: str | None = None
    ) -> None:
        """Keep an exchange; durable when it returns.

        When it is cancelled or fails, all of the exchange is kept, or nothing.
        """
        ...
