"""Pools of connections: one for all tenants, or one for each of a bounded number of them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from motadata.core.database._driver import Connection, Pool, connection_failures, load_driver
from motadata.core.database._failures import unreachable
from motadata.core.database._lending import LendingPool
from motadata.core.database._retiring import Retirement
from motadata.core.database._session import connection_class
from motadata.core.database._types import prepare_connection
from motadata.core.errors import ConfigurationError
from motadata.core.errors import ConnectionError as DatabaseConnectionError
from motadata.core.models import Health
from motadata.core.resilience import time_limit
from motadata.core.tenancy import TenantId


_HEALTH_TIMEOUT: Final = 1.5
_ONE_RETIRES_OF: Final = 4
"""Of so many pools that may be, one may be closing beside them."""


@dataclass(frozen=True, slots=True, repr=False)
class PoolOptions:
    """How connections are made; the address holds a password.

    Attributes:
        dsn: Where the server is, and as whom to connect.
        max_connections: Most connections of a pool.
        timeout: Seconds for connecting.
        statement_cache_size: Prepared statements kept a connection.
        tenant_pools: Most pools of single tenants; 0 means one pool for all.
    """

    dsn: str
    max_connections: int
    timeout: float
    statement_cache_size: int
    tenant_pools: int


@dataclass(slots=True)
class _TenantPool:
    pool: LendingPool
    users: int = 0


class Pools:
    """The pools of an open database; made by `open_pools`."""

    def __init__(self, options: PoolOptions, common: LendingPool) -> None:
        self.common = common
        self._options = options
        self._by_tenant: OrderedDict[TenantId, _TenantPool] = OrderedDict()
        self._retirement = Retirement(max(1, options.tenant_pools // _ONE_RETIRES_OF))

    async def take(self, tenant: TenantId) -> LendingPool:
        """Return the pool that serves a tenant; `give_back` follows when its work is done.

        Raises:
            ConnectionError: As many tenants as there may be pools are at work.
            DeadlineExceededError: The deadline ended while pools that made room were closing.
        """
        if not self._options.tenant_pools:
            return self.common
        own = self._by_tenant.get(tenant)
        if own is None:
            self._make_room(tenant)
            own = _TenantPool(_make_pool(self._options, least=0))
            self._by_tenant[tenant] = own
        own.users += 1
        self._by_tenant.move_to_end(tenant)
        try:
            await own.pool.open()  # opens nothing before the first connection is asked for
            await self._retirement.wait_for_room()
        except BaseException:
            self.give_back(tenant)
            raise
        return own.pool

    def give_back(self, tenant: TenantId) -> None:
        """Say that one piece of a tenant's work is done."""
        if own := self._by_tenant.get(tenant):
            own.users -= 1

    @asynccontextmanager
    async def borrowed(self, timeout: float) -> AsyncIterator[Connection]:
        """Lend a connection that belongs to no tenant, for looking at the server itself.

        It is dropped when the block fails: giving it back would wait for the server again.

        Raises:
            ConnectionError: None was to be had in time, or the server is not reachable.
        """
        connection = await self.common.acquire(tenant=None, timeout=timeout)
        try:
            yield connection
        except BaseException:
            connection.terminate()
            raise
        finally:
            await self.common.release(connection, timeout=timeout)

    async def health(self) -> Health:
        """Say within two seconds whether the server answers; a pool in full use is `degraded`."""
        try:
            async with (
                time_limit(None, what="the database's health"),
                asyncio.timeout(_HEALTH_TIMEOUT),
                self.borrowed(_HEALTH_TIMEOUT / 2) as connection,
            ):
                await connection.fetchval("select 1")
        except TimeoutError:
            return Health("down", detail=f"No answer within {_HEALTH_TIMEOUT:g} s.")
        except DatabaseConnectionError as error:
            is_busy = isinstance(error.__cause__, TimeoutError)
            is_busy = is_busy and self.common.size() >= self._options.max_connections
            return Health("degraded" if is_busy else "down", detail=str(error))
        except connection_failures() as error:
            return Health("down", detail=str(unreachable(error)))
        return Health("ok")

    def _make_room(self, tenant: TenantId) -> None:
        """Retire the pool that has lain idle for longest, when there are as many as may be."""
        if len(self._by_tenant) < self._options.tenant_pools:
            return
        for other, own in self._by_tenant.items():
            if not own.users:
                del self._by_tenant[other]
                self._retirement.add(own.pool)
                return
        message = f"All {self._options.tenant_pools} pools of single tenants are in use."
        raise DatabaseConnectionError(
            message, remedy="Raise tenant_pools, or try later.", tenant_id=tenant
        )

    async def close(self) -> None:
        """Wait for running work to end, then close; after the timeout, close regardless."""
        pools = [self.common, *(own.pool for own in self._by_tenant.values())]
        self._by_tenant.clear()
        await asyncio.gather(self._retirement.close(), *(pool.close() for pool in pools))

    def terminate(self) -> None:
        """Drop all connections."""
        for pool in (self.common, *(own.pool for own in self._by_tenant.values())):
            pool.terminate()


async def open_pools(options: PoolOptions) -> Pools:
    """Connect.

    Raises:
        MissingExtraError: The extra `postgres` is not installed.
        ConfigurationError: The address is malformed.
        ConnectionError: The server is not reachable.
    """
    try:
        pool = _make_pool(options, least=1)
        async with asyncio.timeout(options.timeout):
            await pool.open()
    except ValueError:
        # Without its cause, which quotes the address and with it the password.
        message = "The database address is malformed."
        raise ConfigurationError(
            message, remedy="Write it as postgresql://role:password@host:port/database."
        ) from None
    except connection_failures() as error:
        raise unreachable(error) from error
    return Pools(options, pool)


def _make_pool(options: PoolOptions, *, least: int) -> LendingPool:
    driver = load_driver()
    pool: Pool = driver.create_pool(
        options.dsn,
        min_size=least,
        max_size=options.max_connections,
        init=prepare_connection,
        connection_class=connection_class(),
        command_timeout=options.timeout,
        timeout=options.timeout,
        statement_cache_size=options.statement_cache_size,
    )
    return LendingPool(pool, timeout=options.timeout)
