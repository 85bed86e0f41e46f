"""The bus on a NATS cluster of three: the contract, and the loss of a leader under load."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from motadata.core.embedded import EmbeddedNatsCluster
from motadata.core.messaging import NatsCredentials, NatsMessageBus, create_message_bus
from motadata.core.testing.message_bus import MessageBusConformance, OpenBus, Recorder


if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js import JetStreamContext

pytest.importorskip("nats")


def open_on(cluster: EmbeddedNatsCluster) -> NatsMessageBus:
    return create_message_bus(
        cluster.urls,
        credentials=NatsCredentials(token=cluster.token),
        durability="replicated",
    )


class TestReplicatedMessageBus(MessageBusConformance):
    @pytest.fixture
    def open_bus(self, embedded_nats_cluster: EmbeddedNatsCluster) -> OpenBus:
        return lambda: open_on(embedded_nats_cluster)


async def leader_of(cluster: EmbeddedNatsCluster, stream: str) -> str:
    import nats

    client = await nats.connect(cluster.urls, token=cluster.token.get_secret_value())
    try:
        info = await client.jetstream().stream_info(stream)
    finally:
        await client.close()
    return info.cluster.leader


@pytest.mark.timeout(120)
async def test_killing_the_leader_under_load_loses_nothing_and_stores_nothing_twice(
    embedded_nats_cluster: EmbeddedNatsCluster,
):
    await lose_leaders(embedded_nats_cluster, "leader.lost", rounds=1)


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_killing_one_leader_after_another_loses_nothing_and_stores_nothing_twice(
    embedded_nats_cluster: EmbeddedNatsCluster,
):
    await lose_leaders(embedded_nats_cluster, "leaders.lost", rounds=8)


async def lose_leaders(cluster: EmbeddedNatsCluster, event_type: str, *, rounds: int) -> None:
    async with open_on(cluster) as publisher, open_on(cluster) as worker:
        handled = Recorder()
        acknowledged: dict[str, int] = {}
        stop = asyncio.Event()
        await worker.consume("all", handled, event_types=[event_type], tenant_id="acme")

        async def publish(number: int) -> None:
            while not stop.is_set():
                receipt = await publisher.publish_event(event_type, number, tenant_id="acme")
                acknowledged[receipt.message_id] = receipt.sequence

        publishers = [asyncio.create_task(publish(number)) for number in range(8)]
        for _ in range(rounds):
            before = len(acknowledged)
            await eventually_within(60, lambda: len(acknowledged) > before + 200)  # noqa: B023
            leader = await leader_of(cluster, "SDK_EVENTS")
            await cluster.kill(leader)
            before = len(acknowledged)
            try:
                await eventually_within(60, lambda: len(acknowledged) > before + 200)  # noqa: B023
            finally:
                await cluster.start(leader)
        stop.set()
        await asyncio.gather(*publishers)
        await eventually_within(
            60, lambda: set(acknowledged) <= {one.message_id for one in handled.messages}
        )
    stored = await stored_ids(cluster, f"sdk.events.{event_type}.acme")
    assert {one.rpartition("=")[2] for one in stored} >= set(acknowledged)
    assert [one for one, count in stored.items() if count > 1] == []


async def eventually_within(seconds: float, condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the condition has no event
            await asyncio.sleep(0.05)


async def subscribed_once_healed(client: Client, subject: str) -> JetStreamContext.PullSubscription:
    """Look behind the bus's back, as soon as the stream has a leader that can serve again."""
    from nats.errors import TimeoutError as NatsTimeoutError
    from nats.js.api import ConsumerConfig
    from nats.js.errors import ServiceUnavailableError

    config = ConsumerConfig(ack_policy="none", inactive_threshold=10)
    async with asyncio.timeout(60):
        while True:
            try:
                return await client.jetstream().pull_subscribe(
                    subject, stream="SDK_EVENTS", config=config
                )
            except (NatsTimeoutError, ServiceUnavailableError):
                await asyncio.sleep(0.1)


async def stored_ids(cluster: EmbeddedNatsCluster, subject: str) -> Counter[str]:
    import nats

    client = await nats.connect(cluster.urls, token=cluster.token.get_secret_value())
    seen: Counter[str] = Counter()
    try:
        puller = await subscribed_once_healed(client, subject)
        while True:
            try:
                messages = await puller.fetch(500, timeout=1)
            except TimeoutError:
                break
            seen.update(message.headers["Nats-Msg-Id"] for message in messages)
    finally:
        await client.close()
    return seen
