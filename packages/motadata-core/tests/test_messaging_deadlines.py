"""Calls of the bus on a halted server end with the caller's deadline, and leave nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import psutil
import pytest

from motadata.core.embedded import EmbeddedNats
from motadata.core.errors import DeadlineExceededError, MessagingError, OverloadError, SDKError
from motadata.core.messaging import (
    NatsCredentials,
    NatsMessageBus,
    create_in_process_bus,
    create_message_bus,
)
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


async def answers(bus: MessageBus) -> bool:
    try:
        return await bus.request("echo", 1, sender="triage", timeout=1, tenant_id="acme") == 1
    except SDKError:
        return False


class Blocked:
    """A handler that never comes to an end by itself."""

    def __init__(self) -> None:
        self._begun, self._cancelled = asyncio.Event(), asyncio.Event()

    async def handle(self, _: BusMessage) -> object:
        self._begun.set()
        try:
            return await asyncio.Event().wait()
        finally:
            self._cancelled.set()

    async def has_begun(self) -> None:
        async with asyncio.timeout(5):
            await self._begun.wait()

    async def was_cancelled(self) -> None:
        async with asyncio.timeout(5):
            await self._cancelled.wait()


CALLS: dict[str, Callable[[MessageBus], Awaitable[object]]] = {
    "subscribe": lambda bus: bus.subscribe("late", echo, tenant_id="acme"),
    "consume": lambda bus: bus.consume(
        "late", Recorder(), event_types=["ticket.opened"], tenant_id="acme"
    ),
    "dead_letters": lambda bus: bus.dead_letters("late", tenant_id="acme"),
    "publish_event": lambda bus: bus.publish_event("ticket.opened", 1, tenant_id="acme"),
    "health": lambda bus: bus.health(),
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


async def test_subscription_that_ends_on_a_halted_server_ends_with_the_deadline(tmp_path: Path):
    loop = asyncio.get_running_loop()
    blocked = Blocked()
    async with running(tmp_path) as (server, bus):
        subscription = await bus.subscribe("late", blocked.handle, tenant_id="acme")
        await bus.subscribe("echo", echo, tenant_id="acme")
        await bus.publish("late", 1, sender="triage", tenant_id="acme")
        await blocked.has_begun()
        with halted(server):
            began = loop.time()
            with pytest.raises(DeadlineExceededError), deadline_scope(0.2):
                await subscription.stop()
            assert loop.time() - began < 0.2 + LATE
        await blocked.was_cancelled()
        # The driver subscribes again to all that it still knows.
        await server.kill()
        await server.start()
        async with asyncio.timeout(15):
            while not await answers(bus):  # noqa: ASYNC110 - nobody tells that it is connected
                await asyncio.sleep(0.05)
        with pytest.raises(MessagingError, match="nobody listens"):
            await bus.request("late", 1, sender="triage", timeout=5, tenant_id="acme")


async def test_server_that_takes_nothing_more_holds_nobody_beyond_the_deadline(tmp_path: Path):
    loop = asyncio.get_running_loop()
    async with running(tmp_path) as (server, bus):
        subscription = await bus.subscribe("late", echo, tenant_id="acme")
        calls = [*CALLS.values(), lambda _: subscription.stop()]
        with halted(server):
            for _ in range(6_000):
                bus._transport.post("nobody", b"x" * 1_200, b"")
                await asyncio.sleep(0)
            for call in calls:
                began = loop.time()
                with pytest.raises((DeadlineExceededError, OverloadError)), deadline_scope(0.2):
                    await call(bus)
                assert loop.time() - began < 0.2 + LATE
            began = loop.time()
            assert (await bus.health()).status == "down"
            assert loop.time() - began < 1 + LATE


async def test_feed_that_ends_on_a_halted_server_ends_with_the_deadline(tmp_path: Path):
    loop = asyncio.get_running_loop()
    blocked = Blocked()
    async with running(tmp_path) as (server, bus):
        feed = await bus.consume(
            "all", blocked.handle, event_types=["ticket.opened"], tenant_id="acme"
        )
        await bus.publish_event("ticket.opened", 1, tenant_id="acme")
        await blocked.has_begun()
        with halted(server):
            began = loop.time()
            with pytest.raises(DeadlineExceededError), deadline_scope(0.2):
                await feed.stop()
            assert loop.time() - began < 0.2 + LATE
        await blocked.was_cancelled()


async def test_bus_in_this_process_that_ends_waits_for_no_handler_beyond_the_deadline():
    blocked = Blocked()

    async def use() -> None:
        async with create_in_process_bus() as bus:
            await bus.subscribe("late", blocked.handle, tenant_id="acme")
            await bus.publish("late", 1, sender="triage", tenant_id="acme")
            await blocked.has_begun()

    began = time.monotonic()
    with pytest.raises(DeadlineExceededError), deadline_scope(0.2):
        await use()
    took = time.monotonic() - began

    await blocked.was_cancelled()
    assert took < 0.2 + LATE


async def test_entering_and_leaving_on_a_halted_server_end_with_the_deadline(tmp_path: Path):
    loop = asyncio.get_running_loop()
    async with EmbeddedNats(tmp_path) as server:
        credentials = NatsCredentials(token=server.token)
        with halted(server):
            began = loop.time()
            with pytest.raises(DeadlineExceededError), deadline_scope(0.2):
                async with create_message_bus(server.url, credentials=credentials):
                    pass
            assert loop.time() - began < 0.2 + LATE

        async with AsyncExitStack() as stack:
            bus = create_message_bus(server.url, credentials=credentials)
            await stack.enter_async_context(bus)
            await bus.subscribe("echo", echo, tenant_id="acme")
            with halted(server):
                began = loop.time()
                with pytest.raises(DeadlineExceededError), deadline_scope(0.2):
                    await stack.aclose()
                assert loop.time() - began < 0.2 + LATE


async def test_tasks_of_the_background_have_no_deadline(
    tmp_path: Path, begun_tasks: list[tuple[str, float | None]]
):
    with deadline_scope(30):
        async with running(tmp_path) as (_, bus):
            await bus.subscribe("echo", echo, tenant_id="acme")
            feed = await bus.consume(
                "all", Recorder(), event_types=["ticket.opened"], tenant_id="acme"
            )
            await bus.publish_event("ticket.opened", 1, tenant_id="acme")
            assert await bus.request("echo", 1, sender="triage", tenant_id="acme") == 1
            await feed.stop()

    ours = [one for one in begun_tasks if "." in one[0] and "JetStream" not in one[0]]
    left = {name for name, seconds in ours if seconds is not None}
    assert left <= {"Consumption.stop", "AgentListener.stop"}
    assert ("NatsFeed._keep_asking", None) in begun_tasks


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
