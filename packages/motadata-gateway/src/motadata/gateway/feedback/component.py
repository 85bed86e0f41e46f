"""How a platform finds feedback: it fills the role `feedback`, beside the gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from motadata.core.platform import ComponentSpec, Platform
from motadata.gateway.feedback._feedback import Feedback


@asynccontextmanager
async def open_feedback(platform: Platform) -> AsyncIterator[Feedback]:
    """Open feedback on the platform's database."""
    yield Feedback(platform.database)


COMPONENT: Final = ComponentSpec(
    name="feedback",
    open=open_feedback,
    # The gateway brings the table, with that of the calls.
    requires=("database", "gateway"),
)
