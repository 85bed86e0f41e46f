"""The loads of `faults.py`: what is called, and what must be true of the stores afterwards.

Run as a program, `fault_loads.py <url> <event type> <name> <first number>` with the server's token
on standard input, it is a publisher that may be killed; it prints each number once acknowledged.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import asyncpg
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import ServiceUnavailableError
from pydantic import SecretStr

from motadata.core.database import PostgresDatabase
from motadata.core.errors import SDKError
from motadata.core.messaging import NatsCredentials, create_message_bus
from motadata.core.protocols import Cache, MessageBus


TENANT = "acme"
_COUNT = (
    "insert into conformance_items (tenant_id, id, body) values ($1, $2, '1') on conflict"
    " (tenant_id, id) do update set body = (conformance_items.body::int + 1)::text"
)


@dataclass(frozen=True)
class Account:
    """What a store acknowledged, and what of it is not as it should; None where it means nothing.

    Attributes:
        acknowledged: Writes that a caller was told of.
        lost: Those of them that are not there.
        twice: Writes that are there more than once.
        torn: Transactions, acknowledged or not, of which a part is there.
    """

    acknowledged: int | None = None
    lost: int | None = None
    twice: int | None = None
    torn: int | None = None

    def __add__(self, other: Account) -> Account:
        """Return the account of both."""
        pairs = zip(astuple(self), astuple(other), strict=True)
        return Account(*(mine if more is None else (mine or 0) + more for mine, more in pairs))

    def columns(self) -> str:
        """Return the numbers as columns of a table."""
        return "".join(f"{'-' if number is None else number:>8}" for number in astuple(self))


class CacheLoad:
    """Reads, and one write in ten; a value says under which tenant and key it was written."""

    deadline = 1.0
    workers = 32

    def __init__(self, cache: Cache, *, tenants: Sequence[str] = ("acme", "zeta")) -> None:
        self._cache = cache
        self._tenants = tenants

    async def fill(self) -> None:
        """Write every value once."""
        for tenant in self._tenants:
            for number in range(100):
                await self._write(tenant, f"k{number}")

    async def call(self, worker: int, number: int) -> bool:
        """Read or write one value; a miss is an answer, another's value is not."""
        tenant = self._tenants[worker % len(self._tenants)]
        key = f"k{(worker * 31 + number) % 100}"
        if number % 10 == 0:
            await self._write(tenant, key)
            return True
        found = await self._cache.get(key, tenant_id=tenant)
        return found is None or found == {"tenant": tenant, "key": key, "text": "x" * 500}

    async def settle(self) -> Account:
        """Account for nothing: a cache may forget."""
        return Account()

    async def _write(self, tenant: str, key: str) -> None:
        value = {"tenant": tenant, "key": key, "text": "x" * 500}
        await self._cache.set(key, value, tenant_id=tenant)


class TableLoad:
    """Each caller counts in two rows of its own, by one transaction of two statements.

    A count that nobody confirmed may be there or not, but in both rows or in neither.
    """

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
        """Add one to the caller's rows."""
        del number
        name = f"{self._name}{worker}"
        try:
            async with self._database.transaction(TENANT) as transaction:
                await transaction.execute(_COUNT, TENANT, name)
                if self._hold:
                    await asyncio.sleep(self._hold)
                await transaction.execute(_COUNT, TENANT, f"{name}-twin")
        except SDKError as error:
            # Only a commit whose outcome nobody knows may have counted; all other errors say no.
            self._unknown[name] += not error.retryable
            raise
        self._confirmed[name] += 1
        return True

    async def settle(self) -> Account:
        """Compare the rows with the confirmations since the last time, and with each other."""
        rows = await self._rows()
        lost = twice = torn = 0
        for name in self._confirmed | self._unknown:
            added = rows[name] - self._seen[name]
            lost += max(0, self._confirmed[name] - added)
            twice += max(0, added - self._confirmed[name] - self._unknown[name])
            torn += abs(rows[name] - rows[f"{name}-twin"])
        account = Account(self._confirmed.total(), lost, twice, torn)
        self._seen = rows
        self._confirmed.clear()
        self._unknown.clear()
        return account

    async def _rows(self) -> Counter[str]:
        connection = await _connect(self._administrator)
        try:
            rows = await connection.fetch(
                "select id, body::int n from motadata.conformance_items where id ^@ $1", self._name
            )
        finally:
            await connection.close()
        return Counter({row["id"]: row["n"] for row in rows})


async def _connect(dsn: str) -> asyncpg.Connection:
    """Connect, again while the server recovers."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await asyncpg.connect(dsn)
            except (OSError, asyncpg.PostgresError):
                await asyncio.sleep(0.1)


class StreamLoad:
    """Events with ids; what is acknowledged must be in the stream, each once.

    A caller that got no acknowledgement stores the same event again, under the same id.
    """

    deadline = 1.0
    workers = 16

    def __init__(self, bus: MessageBus, urls: list[str], token: SecretStr) -> None:
        self.acknowledged: set[str] = set()
        self._bus = bus
        self._urls = urls
        self._token = token
        self._row = 0
        self._unsure: dict[int, str] = {}

    @property
    def event_type(self) -> str:
        """The type of this round's events, or how the types of its callers begin.

        Each has its own, as a stream keeps only so many of one.
        """
        return f"bench.row{self._row}"

    async def call(self, worker: int, number: int) -> bool:
        """Store one event, or the one that is not known to be stored."""
        message_id = self._unsure.setdefault(worker, f"r{self._row}-w{worker}-{number}")
        await self._bus.publish_event(
            f"{self.event_type}.w{worker}",
            {"id": message_id, "text": "x" * 500},
            message_id=message_id,
            tenant_id=TENANT,
        )
        del self._unsure[worker]
        self.acknowledged.add(message_id)
        return True

    async def settle(self) -> Account:
        """Compare the stream with the acknowledgements."""
        # Those of before the look: publishers in other processes go on meanwhile.
        acknowledged = frozenset(self.acknowledged)
        stored = await self._stored()
        lost = len(acknowledged - stored.keys())
        twice = sum(count > 1 for count in stored.values())
        self.acknowledged.clear()
        self._unsure.clear()
        self._row += 1
        return Account(len(acknowledged), lost, twice)

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
            puller = await self._pull(client)
            while messages := await _next_of(puller):
                headers = (one.headers or {} for one in messages)
                seen.update(one["Nats-Msg-Id"].rpartition("=")[2] for one in headers)
        finally:
            await client.close()
        return seen

    async def _pull(self, client: Client) -> JetStreamContext.PullSubscription:
        """Look behind the bus's back, as soon as the stream has a leader that can serve again."""
        config = ConsumerConfig(ack_policy=AckPolicy.NONE, inactive_threshold=10)
        subject = f"sdk.events.{self.event_type}.>"
        async with asyncio.timeout(60):
            while True:
                try:
                    return await client.jetstream().pull_subscribe(
                        subject, stream="SDK_EVENTS", config=config
                    )
                except (NatsTimeoutError, ServiceUnavailableError):
                    await asyncio.sleep(0.1)


async def _next_of(puller: JetStreamContext.PullSubscription) -> list[Msg]:
    try:
        return await puller.fetch(500, timeout=1)
    except TimeoutError:
        return []


async def publish(url: str, event_type: str, name: str, first: int) -> None:
    """Publish from a number on until killed."""
    token = SecretStr(sys.stdin.readline().strip())
    async with create_message_bus(url, credentials=NatsCredentials(token=token)) as bus:
        number = first
        while True:
            # A stream keeps only so many events of one type.
            kind = f"{event_type}.{name}-{number // 50_000}"
            await bus.publish_event(
                kind, {"n": number}, message_id=f"{name}-{number}", tenant_id=TENANT
            )
            print(number, flush=True)
            number += 1


if __name__ == "__main__":
    _, server, kind, publisher, start = sys.argv
    asyncio.run(publish(server, kind, publisher, int(start)))
