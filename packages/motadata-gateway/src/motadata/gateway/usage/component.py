"""How a platform finds the reports on usage: they fill the role `usage`, beside the gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from motadata.core.platform import ComponentSpec, Platform
from motadata.core.protocols import UsageReader
from motadata.gateway.usage._reports import UsageReports


@asynccontextmanager
async def open_usage(platform: Platform) -> AsyncIterator[UsageReader]:
    """Open the reports on what the platform's gateway writes down."""
    yield UsageReports(platform.database)


COMPONENT: Final = ComponentSpec(
    name="usage",
    open=open_usage,
    # The gateway brings the tables, and writes what is read here.
    requires=("database", "gateway"),
)
