"""What a cache on a server is made of, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pydantic import SecretStr

from motadata.core.cache._key import check_jitter, check_ttl
from motadata.core.cache._redis_server import RedisServer
from motadata.core.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisOptions:
    """The options of `create_redis_cache`, which explains them."""

    default_ttl: float
    jitter: float
    tenant_max_bytes: int | None
    timeout: float
    lease: float
    max_connections: int

    def __post_init__(self) -> None:
        """Check each number.

        Raises:
            ConfigurationError: One is out of its range.
            CacheError: The default TTL is not positive.
        """
        positive = {
            "timeout": self.timeout,
            "lease": self.lease,
            "max_connections": self.max_connections,
            "tenant_max_bytes": 1 if self.tenant_max_bytes is None else self.tenant_max_bytes,
        }
        for name, number in positive.items():
            if not (number > 0 and math.isfinite(number)):
                message = f"{name}={number!r} does not fit the cache."
                raise ConfigurationError(message, remedy="Give a positive number.")
        check_jitter(self.jitter)
        check_ttl(self.default_ttl)

    @property
    def quota(self) -> int:
        """Most bytes of one tenant; 0 sets no limit."""
        return self.tenant_max_bytes or 0

    def server(self, redis_url: str | SecretStr) -> RedisServer:
        """Return the server at an address, not yet connected.

        Raises:
            MissingExtraError: `redis` is not installed.
            ConfigurationError: The address is malformed.
        """
        url = redis_url.get_secret_value() if isinstance(redis_url, SecretStr) else redis_url
        return RedisServer(url, timeout=self.timeout, max_connections=self.max_connections)
