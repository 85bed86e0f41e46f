"""What a test asks of a Redis-protocol cluster beside the SDK: who holds the keys, who is well."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from pydantic import SecretStr
from redis.asyncio import Redis
from redis.exceptions import RedisError


if TYPE_CHECKING:
    from motadata.core.embedded import EmbeddedRedisCluster

_POLL: Final = 0.05


def all_hosts(cluster: EmbeddedRedisCluster) -> SecretStr:
    """Return the addresses of all servers in one, for a client that must not depend on one."""
    first, *others = [url.get_secret_value() for url in cluster.urls]
    return SecretStr(",".join([first, *(other.rpartition("@")[2] for other in others)]))


async def primary_ports(cluster: EmbeddedRedisCluster) -> list[int]:
    """Return the ports of the servers that hold keys now; another than yesterday after a kill."""
    ports = []
    for port, url in zip(cluster.ports, cluster.urls, strict=True):
        async with Redis.from_url(url.get_secret_value()) as client:
            if (await client.info("replication"))["role"] == "master":
                ports.append(port)
    return ports


async def until_whole(cluster: EmbeddedRedisCluster, *, timeout: float = 60.0) -> None:
    """Wait until every server sees every other, and whoever holds keys has a successor.

    Only then does the cluster outlive the next kill.

    Raises:
        TimeoutError: It is not by then.
    """
    async with asyncio.timeout(timeout):
        for url in cluster.urls:
            async with Redis.from_url(url.get_secret_value()) as client:
                while not await _is_content(client, len(cluster.ports)):  # noqa: ASYNC110 - no event tells
                    await asyncio.sleep(_POLL)


async def _is_content(client: Redis, size: int) -> bool:
    """Tell whether one server sees the whole cluster, and is followed or has caught up."""
    try:
        state = await client.execute_command("CLUSTER INFO")  # type: ignore[no-untyped-call]  # theirs
        nodes = await client.execute_command("CLUSTER NODES")  # type: ignore[no-untyped-call]  # as above
        own = await client.info("replication")
    except RedisError:
        return False
    if own["role"] == "master":
        ready = any(
            own.get(f"slave{number}", {}).get("state") == "online" for number in range(size)
        )
    else:
        ready = own["master_link_status"] == "up"
    well = [one for one in nodes.values() if one["connected"] and "fail" not in one["flags"]]
    return ready and state["cluster_state"] == "ok" and len(well) == size
