"""The contract of a message bus as tests: subclass and give the fixture `open_bus`.

    class TestMine(MessageBusConformance):
        @pytest.fixture
        def open_bus(self) -> OpenBus:
            return lambda: create_mine("nats://…")

Each call of `open_bus` stands for a process: what it returns is entered by the test, and all of
them meet on one server. Every test uses names of its own, so the server may be shared and need not
be empty. A bus that carries more than a megabyte gives the fixture `too_large` as well.
"""

from __future__ import annotations

from motadata.core.testing.message_bus._agents import AgentBehaviour
from motadata.core.testing.message_bus._lifecycle import LifecycleBehaviour
from motadata.core.testing.message_bus._refusals import RefusalBehaviour
from motadata.core.testing.message_bus._stored import StoredBehaviour
from motadata.core.testing.message_bus._tenants import TenantBehaviour
from motadata.core.testing.message_bus._tools import (
    QUICK,
    WAIT,
    OpenBus,
    Recorder,
    answers,
    dead_letters_of,
    eventually,
)


__all__ = [
    "QUICK",
    "WAIT",
    "MessageBusConformance",
    "OpenBus",
    "Recorder",
    "answers",
    "dead_letters_of",
    "eventually",
]


class MessageBusConformance(
    AgentBehaviour, StoredBehaviour, TenantBehaviour, LifecycleBehaviour, RefusalBehaviour
):
    """What every implementation of `motadata.core.protocols.MessageBus` must do."""
