"""What the SDK says about itself: each log line must name the tenant for whom it was written."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, Self

from motadata.core.observability import configure_observability, get_logger, span
from motadata.core.tenancy import tenant_scope
from motadata.core.testing.isolation._operations import TENANTS, Operation, choose
from motadata.core.testing.isolation._site import Leak, attempt


_log: Final = get_logger("isolation")


class LogSite:
    """Log lines from nested scopes, spans and tasks, all tenants at once.

    It takes over the process's logging while it is entered.
    """

    name = "logs"

    def __init__(self, *, weight: int = 1) -> None:
        self.weight = weight
        self.unknown = 0
        self.lines = 0
        self._leak: str | None = None
        self._verbs = (self._in_scope, self._nested, self._in_span, self._in_task)

    async def __aenter__(self) -> Self:
        """Take every log line of the process from now on."""
        configure_observability(level="INFO", sink=self._take)
        return self

    async def __aexit__(self, *details: object) -> None:
        """Write log lines where they go by default."""
        configure_observability(level="WARNING")

    async def act(self, tenant: str, operation: Operation) -> None:
        """Write lines for a tenant.

        Raises:
            Leak: One of the lines so far, of whoever, named the wrong tenant.
        """
        await attempt(lambda: choose(self._verbs, operation.verb)(tenant, operation), operation)
        await self.settle()

    async def settle(self) -> None:
        """Look whether a line named the wrong tenant.

        Raises:
            Leak: One did.
        """
        if self._leak is not None:
            message, self._leak = self._leak, None
            raise Leak(message)

    async def reset(self) -> None:
        """Forget what was seen."""
        self._leak = None

    def _take(self, line: Mapping[str, object]) -> None:
        self.lines += 1
        owner = line.get("owner")
        if owner is not None and line.get("tenant") != owner:
            self._leak = f"{self.name}: a line of {owner!r} names {line.get('tenant')!r}."

    async def _in_scope(self, tenant: str, operation: Operation) -> None:
        with tenant_scope(tenant):
            self.write(tenant)
            for _ in range(operation.key % 4):
                await asyncio.sleep(0)
            self.write(tenant)

    async def _nested(self, tenant: str, operation: Operation) -> None:
        other = choose(TENANTS, operation.other)
        with tenant_scope(tenant):
            with tenant_scope(other):
                await asyncio.sleep(0)
                self.write(other)
            self.write(tenant)

    async def _in_span(self, tenant: str, operation: Operation) -> None:
        other = choose(TENANTS, operation.other)
        with tenant_scope(other), span("isolation.act", tenant_id=tenant):
            await asyncio.sleep(0)
            self.write(tenant)

    async def _in_task(self, tenant: str, operation: Operation) -> None:
        async def write() -> None:
            await asyncio.sleep(0)
            self.write(tenant)

        with tenant_scope(tenant):
            task = asyncio.create_task(write())
        with tenant_scope(choose(TENANTS, operation.other)):
            await task

    def write(self, owner: str) -> None:
        """Write one line; its owner is what its tenant must be."""
        _log.info("isolation_line", owner=owner)
