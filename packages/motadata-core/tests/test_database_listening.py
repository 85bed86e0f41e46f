"""What becomes of listeners: when connections break, when they are slow, when they leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
from hypothesis import given
from hypothesis import strategies as st

from motadata.core.database import PostgresDatabase
from motadata.core.database._topics import Topic
from motadata.core.protocols import Notification
from motadata.core.tenancy import Identifier, TenantId
from motadata.core.testing.plugin import DatabaseDsns


NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
LISTENING = "query ilike 'listen%' or query = 'select 1'"


async def _next(notifications: AsyncIterator[Notification]) -> Notification:
    async with asyncio.timeout(15):
        return await anext(notifications)


async def _say(database: PostgresDatabase, payload: str) -> None:
    async with database.transaction("acme") as transaction:
        await transaction.notify("items", payload)


async def _cut(dsns: DatabaseDsns) -> int:
    """End the backends that serve listeners, and return how many there were."""
    administrator = await asyncpg.connect(dsns.administrator)
    count = await administrator.fetchval(
        "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity"
        f" where datname = current_database() and usename = $1 and ({LISTENING})",
        dsns.runtime_role,
    )
    await administrator.close()
    return int(count)


async def test_broken_connection_is_restored_and_said_to_have_missed(
    database: PostgresDatabase, database_dsns: DatabaseDsns
):
    async with database.listen("items", tenant_id="acme") as notifications:
        await _say(database, "before")
        first = await _next(notifications)
        assert await _cut(database_dsns) >= 1
        second = await _next(notifications)
        await _say(database, "after")
        third = await _next(notifications)

    assert [first, second, third] == [
        Notification("items", "before"),
        Notification("items", missed=True),
        Notification("items", "after"),
    ]


async def test_slow_listener_is_told_that_it_missed_some(database: PostgresDatabase):
    async with (
        database.listen("items", tenant_id="acme") as notifications,
        database.listen("all-said", tenant_id="acme") as end,
    ):
        async with database.transaction("acme") as transaction:
            for number in range(1500):
                await transaction.notify("items", str(number))
            await transaction.notify("all-said")
        await _next(end)  # on the same connection, so that the others have arrived before it
        heard = [await _next(notifications) for _ in range(1001)]
        await _say(database, "later")
        later = await _next(notifications)

    assert [one.payload for one in heard[:1000]] == [str(number) for number in range(1000)]
    assert heard[1000].missed
    assert later == Notification("items", "later")


async def test_listeners_of_one_topic_both_hear(database: PostgresDatabase):
    async with database.listen("items", tenant_id="acme") as one:
        async with database.listen("items", tenant_id="acme") as other:
            await _say(database, "both")
            heard = [await _next(one), await _next(other)]
        await _say(database, "one")
        alone = await _next(one)

    assert [notification.payload for notification in (*heard, alone)] == ["both", "both", "one"]


async def test_notification_that_names_another_tenant_is_not_heard(
    database: PostgresDatabase, database_dsns: DatabaseDsns
):
    hers, his = (Topic(TenantId(tenant), Identifier("items")) for tenant in ("acme", "globex"))

    async with database.listen("items", tenant_id="acme") as notifications:
        connection = await asyncpg.connect(database_dsns.runtime)
        for packed in (his.pack("forged"), "forged", ""):
            await connection.execute("select pg_notify($1, $2)", hers.channel, packed)
        await connection.close()
        await _say(database, "real")
        heard = await _next(notifications)

    assert heard.payload == "real"


async def test_closing_the_database_ends_listening(database_dsns: DatabaseDsns):
    from motadata.core.database import create_database

    before = set(asyncio.all_tasks())
    async with (
        create_database(database_dsns.runtime) as database,
        database.listen("items", tenant_id="acme"),
    ):
        pass

    assert set(asyncio.all_tasks()) - before == set()


@given(NAMES, NAMES, NAMES, NAMES, st.text(st.characters(exclude_categories=["Cs"]), max_size=9))
def test_no_two_topics_share_a_channel_or_a_payload(
    tenant: str, topic: str, other_tenant: str, other_topic: str, payload: str
):
    one = Topic(TenantId(tenant), Identifier(topic))
    other = Topic(TenantId(other_tenant), Identifier(other_topic))
    payload = payload.replace("\0", "")

    assert (one.channel == other.channel) == (one == other)
    assert len(one.channel) <= 63
    assert one.unpack(one.pack(payload)) == payload
    assert (other.unpack(one.pack(payload)) is None) == (one != other)
