"""What no bus carries or waits for: it says so at once, to whoever can do something about it."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import pytest

from motadata.core.errors import ConfigurationError, MessagingError
from motadata.core.protocols import BusMessage, MessageBus
from motadata.core.testing.message_bus._fixtures import BusFixtures
from motadata.core.testing.message_bus._tools import WAIT, Recorder, answers


class RefusalBehaviour(BusFixtures):
    """What every bus does with messages that are too large, and with times that are none."""

    @pytest.fixture
    def too_large(self) -> str:
        """Return a text that the bus does not carry; override it where the bus carries more."""
        return "x" * 1_100_000

    async def test_asker_hears_at_once_that_the_answer_is_too_large(
        self, bus: MessageBus, other_bus: MessageBus, name: str, too_large: str
    ) -> None:
        async def answer(message: BusMessage) -> object:
            return too_large if message.payload == "everything" else "little"

        await other_bus.subscribe(name, answer, max_in_flight=1, tenant_id="acme")
        await answers(bus, name)

        # At once: an asker that heard nothing would get a `DeadlineExceededError`.
        with pytest.raises(MessagingError) as caught:
            await bus.request(name, "everything", sender="triage", timeout=WAIT, tenant_id="acme")

        assert not caught.value.retryable
        # The agent is there for the next one.
        await answers(bus, name)

    async def test_asker_hears_at_once_that_the_text_of_an_error_is_too_large(
        self, bus: MessageBus, other_bus: MessageBus, name: str, too_large: str
    ) -> None:
        async def answer(message: BusMessage) -> object:
            if message.payload == "everything":
                raise MessagingError(too_large)
            return "little"

        await other_bus.subscribe(name, answer, tenant_id="acme")
        await answers(bus, name)

        with pytest.raises(MessagingError) as caught:
            await bus.request(name, "everything", sender="triage", timeout=WAIT, tenant_id="acme")

        assert not caught.value.retryable
        assert len(str(caught.value)) < len(too_large)

    async def test_message_that_is_too_large_is_refused_however_it_is_sent(
        self, bus: MessageBus, name: str, too_large: str
    ) -> None:
        sendings: tuple[Callable[[], Awaitable[object]], ...] = (
            lambda: bus.publish(name, too_large, sender="triage", tenant_id="acme"),
            lambda: bus.request(name, too_large, sender="triage", tenant_id="acme"),
            lambda: bus.publish_event(name, too_large, tenant_id="acme"),
            lambda: bus.submit_work(name, too_large, tenant_id="acme"),
        )
        for send in sendings:
            with pytest.raises(MessagingError) as caught:
                await send()
            assert not caught.value.retryable

    @pytest.mark.parametrize("timeout", [math.nan, math.inf, -math.inf, "x", None], ids=repr)
    async def test_time_for_a_request_that_is_none_is_refused(
        self, bus: MessageBus, name: str, timeout: float
    ) -> None:
        with pytest.raises(ConfigurationError, match="timeout="):
            await bus.request(name, 1, sender="triage", timeout=timeout, tenant_id="acme")

    async def test_request_may_be_given_more_time_than_anybody_has(
        self, bus: MessageBus, name: str
    ) -> None:
        await bus.subscribe(name, Recorder(), tenant_id="acme")

        got = await bus.request(name, 7, sender="triage", timeout=1e308, tenant_id="acme")

        assert got == 7
