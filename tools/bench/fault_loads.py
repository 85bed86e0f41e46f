"""The loads of `faults.py`: what is called, and what must be true of the stores afterwards.

Run as a program, `fault_loads.py <url> <event type> <name> <first number>` with the server's token
on standard input, it is a publisher that may be killed; it prints each number once acknowledged.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter

import asyncpg
import nats
from nats.js.api import AckPolicy, ConsumerConfig
from pydantic import SecretStr

from motadata.core.database import PostgresDatabase
from motadata.core.errors import SDKError
from motadata.core.messaging import NatsCredentials, create_message_bus
from motadata.core.protocols import Cache, MessageBus


TENANT = "acme"

Account = tuple[int | None, int | None, int | None]
"""Acknowledged, lost, stored twice."""


class CacheLoad:
    """Reads, and one write in ten; a value says under which tenant and key it was written."""

    deadline = 1.0
    workers = 32

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    async def fill(self) -> None:
        """Write every value once."""
        for tenant in ("acme", "zeta"):
            for number in range(100):
                await self._write(tenant, f"k{number}")

    async def call(self, worker: int, number: int) -> bool:
        """Read or write one value; a miss is an answer, another's value is not."""
        tenant, key = ("acme", "zeta")[worker % 2], f"k{(worker * 31 + number) % 100}"
        if number % 10 == 0:
            await self._write(tenant, key)
            return True
        found = await self._cache.get(key, tenant_id=tenant)
        return found is None or found == {"tenant": tenant, "key": key, "text": "x" * 500}

    async def settle(self) -> Account:
        """Account for nothing: a cache may forget."""
        return None, None, None

    async def _write(self, tenant: str, key: str) -> None:
        value = {"tenant": tenant, "key": key, "text": "x" * 500}
        await self._cache.set(key, value, tenant_id=tenant)


class TableLoad:
    """Each caller counts in a row of its own; a count that nobody confirmed may be there or not."""

    deadline = 1.0

    def __init__(
        self,
        database: PostgresDatabase,
        administrator: str,
        *,
        name: str = "w",
        workers: int = 16,
        hold: float = 0,
    ) -> None:
        self.workers = workers
        self._name = name
        self._database = database
        self._administrator = administrator
        self._hold = hold
        self._confirmed: Counter[str] = Counter()
        self._unknown: Counter[str] = Counter()
        self._seen: Counter[str] = Counter()

    async def call(self, worker: int, number: int) -> bool:
        """Add one to the caller's row."""
        del number
        name = f"{self._name}{worker}"
        try:
            async with self._database.transaction(TENANT) as transaction:
                await transaction.execute(
                    "insert into conformance_items (tenant_id, id, body) values ($1, $2, '1')"
                    " on conflict (tenant_id, id)"
                    " do update set body = (conformance_items.body::int + 1)::text",
                    TENANT,
                    name,
                )
                if self._hold:
                    await asyncio.sleep(self._hold)
        except SDKError as error:
            # Only a commit whose outcome nobody knows may have counted; all other errors say no.
            self._unknown[name] += not error.retryable
            raise
        self._confirmed[name] += 1
        return True

    async def settle(self) -> Account:
        """Compare the rows with the confirmations since the last time."""
        connection = await _connect(self._administrator)
        try:
            rows = await connection.fetch(
                "select id, body::int n from motadata.conformance_items where id ^@ $1", self._name
            )
        finally:
            await connection.close()
        lost = twice = 0
        for row in rows:
            name, added = row["id"], row["n"] - self._seen[row["id"]]
            lost += max(0, self._confirmed[name] - added)
            twice += max(0, added - self._confirmed[name] - self._unknown[name])
            self._seen[name] = row["n"]
        confirmed = self._confirmed.total()
        self._confirmed.clear()
        self._unknown.clear()
        return confirmed, lost, twice


async def _connect(dsn: str) -> asyncpg.Connection:
    """Connect, again while the server recovers."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await asyncpg.connect(dsn)
            except (OSError, asyncpg.PostgresError):
                await asyncio.sleep(0.1)


class StreamLoad:
    """Events with ids; what is acknowledged must be in the stream, each once."""

    deadline = 30.0
    workers = 16

    def __init__(self, bus: MessageBus, urls: list[str], token: SecretStr) -> None:
        self.acknowledged: set[str] = set()
        self._bus = bus
        self._urls = urls
        self._token = token
        self._row = 0

    @property
    def event_type(self) -> str:
        """The type of this row's events; each has its own, as a stream keeps only so many."""
        return f"bench.row{self._row}"

    async def call(self, worker: int, number: int) -> bool:
        """Store one event."""
        message_id = f"r{self._row}-w{worker}-{number}"
        await self._bus.publish_event(
            self.event_type,
            {"id": message_id, "text": "x" * 500},
            message_id=message_id,
            tenant_id=TENANT,
        )
        self.acknowledged.add(message_id)
        return True

    async def settle(self) -> Account:
        """Compare the stream with the acknowledgements."""
        stored = await self._stored()
        account = (
            len(self.acknowledged),
            len(self.acknowledged - stored.keys()),
            sum(count > 1 for count in stored.values()),
        )
        self.acknowledged.clear()
        self._row += 1
        return account

    async def leader(self) -> str:
        """Return the name of the server that leads the stream of events."""
        client = await nats.connect(self._urls, token=self._token.get_secret_value())
        try:
            information = await client.jetstream().stream_info("SDK_EVENTS")
        finally:
            await client.close()
        return str(information.cluster and information.cluster.leader)

    async def _stored(self) -> Counter[str]:
        client = await nats.connect(self._urls, token=self._token.get_secret_value())
        seen: Counter[str] = Counter()
        try:
            config = ConsumerConfig(ack_policy=AckPolicy.NONE, inactive_threshold=10)
            stream = client.jetstream()
            subject = f"sdk.events.{self.event_type}.>"
            puller = await stream.pull_subscribe(subject, stream="SDK_EVENTS", config=config)
            while True:
                messages = await puller.fetch(500, timeout=1)
                headers = (one.headers or {} for one in messages)
                seen.update(one["Nats-Msg-Id"].rpartition("=")[2] for one in headers)
        except TimeoutError:
            return seen
        finally:
            await client.close()


async def publish(url: str, event_type: str, name: str, first: int) -> None:
    """Publish from a number on until killed."""
    token = SecretStr(sys.stdin.readline().strip())
    async with create_message_bus(url, credentials=NatsCredentials(token=token)) as bus:
        number = first
        while True:
            message_id = f"{name}-{number}"
            await bus.publish_event(
                event_type, {"n": number}, message_id=message_id, tenant_id=TENANT
            )
            print(number, flush=True)
            number += 1


if __name__ == "__main__":
    _, server, kind, publisher, start = sys.argv
    asyncio.run(publish(server, kind, publisher, int(start)))
