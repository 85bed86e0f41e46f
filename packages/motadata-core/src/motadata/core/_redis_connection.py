"""Clients of a Redis-protocol server or cluster, made alike for every room that shares one.

What is said over them, and what to do when they fail, is each room's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from motadata.core.errors import MissingExtraError


if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.cluster import RedisCluster
    from redis.asyncio.retry import Retry

_SCHEMES: Final = ("redis", "rediss", "unix")

_SHARE_OF_TIMEOUT: Final = 0.9
"""The driver gives up before the call does, so that the error says what failed."""

_SPARE: Final = 4
"""Connections above what calls take, for listening and for finding out what a server is."""


def require_driver() -> None:
    """Make sure that the driver is there.

    Raises:
        MissingExtraError: `redis` is not installed.
    """
    try:
        import redis.asyncio  # noqa: F401 - to say at once that it is absent
    except ImportError:
        raise MissingExtraError("redis", extra="redis", distribution="motadata-core") from None


def is_address(url: str) -> bool:
    """Tell whether `url` is the address of one server."""
    try:
        parts = urlsplit(url)
        return parts.scheme in _SCHEMES and parts.port != 0 and bool(parts.netloc or parts.path)
    except ValueError:
        return False


def open_single(address: str, *, timeout: float, max_connections: int) -> Redis:
    """Return a client of one server, which connects at its first call.

    Args:
        address: Of one host.
        timeout: Seconds that a call may take.
        max_connections: Most calls at once.
    """
    from redis.asyncio import Redis

    return Redis.from_url(
        address,
        socket_timeout=timeout * _SHARE_OF_TIMEOUT,
        socket_connect_timeout=timeout * _SHARE_OF_TIMEOUT,
        max_connections=max_connections + _SPARE,
        retry=_retries(0),
        protocol=2,
    )


async def connect(address: str, *, timeout: float, max_connections: int) -> Redis | RedisCluster:
    """Return a client of what is at the address: one server, or the cluster that it belongs to.

    Args:
        address: Of one host.
        timeout: Seconds that a call may take.
        max_connections: Most calls at once to each server.

    Raises:
        redis.exceptions.RedisError: Nobody answers there, or the answer is an error.
        OSError: It cannot be reached.
    """
    single = open_single(address, timeout=timeout, max_connections=max_connections)
    try:
        info = await single.info("cluster")
    except BaseException:
        await single.aclose()
        raise
    if not info.get("cluster_enabled"):
        return single
    # Before the cluster is opened: cancelled while closing, nobody would hold the cluster's client.
    await single.aclose()
    return await _open_cluster(address, timeout=timeout, max_connections=max_connections)


async def _open_cluster(address: str, *, timeout: float, max_connections: int) -> RedisCluster:
    from redis.asyncio.cluster import RedisCluster

    cluster = RedisCluster.from_url(
        address,
        socket_timeout=timeout * _SHARE_OF_TIMEOUT,
        socket_connect_timeout=timeout * _SHARE_OF_TIMEOUT,
        max_connections=max_connections + _SPARE,
        require_full_coverage=False,
        retry=_retries(1),
        protocol=2,
    )
    try:
        return await cluster.initialize()
    except BaseException:
        await cluster.aclose()
        raise


def _retries(count: int) -> Retry:
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    return Retry(NoBackoff(), count)
