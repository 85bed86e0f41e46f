"""Calls of the bus on a halted server end with the caller's deadline, and leave nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import psutil
import pytest

from motadata.core.embedded import EmbeddedNats
from motadata.core.errors import DeadlineExceededError, MessagingError
from motadata.core.messaging import NatsCredentials, NatsMessageBus, create_message_bus
from motadata.core.protocols import BusMessage, MessageBus
from motadata.core.resilience import deadline_scope
from motadata.core.testing.message_bus import Recorder


pytest.importorskip("nats")

LATE = 2.0
"""Seconds above a deadline; a busy machine needs some, a hang takes more."""


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[tuple[EmbeddedNats, NatsMessageBus]]:
    async with EmbeddedNats(directory) as server:
        credentials = NatsCredentials(token=server.token)
        async with create_message_bus(server.url, credentials=credentials) as bus:
            yield server, bus


@contextmanager
def halted(server: EmbeddedNats) -> Iterator[None]:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    try:
        # Its threads stop one after another.
        while psutil.Process(server.pid).status() != psutil.STATUS_STOPPED:
            time.sleep(0.001)
        time.sleep(0.05)
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


async def echo(message: BusMessage) -> object:
    return message.payload


CALLS: dict[str, Callable[[MessageBus], Awaitable[object]]] = {
    "subscribe": lambda bus: bus.subscribe("late", echo, tenant_id="acme"),
    "consume": lambda bus: bus.consume(
        "late", Recorder(), event_types=["ticket.opened"], tenant_id="acme"
    ),
    "dead_letters": lambda bus: bus.dead_letters("late", tenant_id="acme"),
}


@pytest.mark.parametrize("call", CALLS)
async def test_call_on_a_halted_server_ends_with_the_deadline(tmp_path: Path, call: str):
    loop = asyncio.get_running_loop()
    async with running(tmp_path) as (server, bus):
        await bus.subscribe("echo", echo, tenant_id="acme")
        with halted(server):
            began = loop.time()
            with pytest.raises(DeadlineExceededError), deadline_scope(0.2):
                await CALLS[call](bus)
            assert loop.time() - began < 0.2 + LATE
        # The answers to what was given up come now, and must not end the driver's reading.
        for number in range(3):
            assert number == await bus.request(
                "echo", number, sender="triage", timeout=5, tenant_id="acme"
            )


async def test_subscription_that_was_given_up_hears_nothing(tmp_path: Path):
    async with running(tmp_path) as (server, bus):
        with halted(server), pytest.raises(DeadlineExceededError), deadline_scope(0.2):
            await CALLS["subscribe"](bus)
        # The server has worked off what was sent before when this is taken.
        await bus.subscribe("echo", echo, tenant_id="acme")
        with pytest.raises(MessagingError, match="nobody listens"):
            await bus.request("late", 1, sender="triage", timeout=5, tenant_id="acme")


async def test_subscribing_on_a_halted_server_without_a_deadline_is_an_error_of_the_bus(
    tmp_path: Path,
):
    async with running(tmp_path) as (server, bus):
        with halted(server), pytest.raises(MessagingError) as caught:
            await CALLS["subscribe"](bus)
        assert caught.value.retryable


async def test_publishing_while_too_much_waits_ends_with_the_deadline(tmp_path: Path):
    loop = asyncio.get_running_loop()
    async with running(tmp_path) as (server, bus):
        with halted(server):
            began = loop.time()

            async def flood() -> None:
                while loop.time() - began < LATE:
                    await bus.publish("late", "x" * 500_000, sender="triage", tenant_id="acme")

            with pytest.raises(DeadlineExceededError), deadline_scope(0.2):
                await flood()
            assert loop.time() - began < 0.2 + LATE
