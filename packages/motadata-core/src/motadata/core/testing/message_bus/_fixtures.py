"""Buses for the behaviours: each stands for a process, all meet on one server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from motadata.core.identifiers import new_id
from motadata.core.protocols import MessageBus
from motadata.core.testing.message_bus._tools import (
    OpenBus,
)


class BusFixtures:
    """The fixtures of every behaviour."""

    @pytest.fixture
    def open_bus(self) -> OpenBus:
        """Supply what opens a bus of one more process on the same server."""
        message = "A subclass supplies the fixture `open_bus`."
        raise NotImplementedError(message)

    @pytest.fixture
    async def bus(self, open_bus: OpenBus) -> AsyncIterator[MessageBus]:
        """Open the bus of the first process."""
        async with open_bus() as bus:
            yield bus

    @pytest.fixture
    async def other_bus(self, open_bus: OpenBus) -> AsyncIterator[MessageBus]:
        """Open the bus of a second process."""
        async with open_bus() as bus:
            yield bus

    @pytest.fixture
    def name(self) -> str:
        """Return a name that no other test uses."""
        return f"t{new_id().hex}"
