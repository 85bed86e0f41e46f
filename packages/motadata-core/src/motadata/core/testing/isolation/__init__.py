"""One property over every store at once: whatever tenants do, none meets what is another's.

    async with World([CacheSite(cache), TableSite(database), LogSite()]) as world:
        await world.run(random_operations(world, seed=7, count=10_000))

Several tenants act at the same time, each in its own order. A site knows what each tenant may see,
and raises `Leak` at the first answer that is another's or that another has changed. Operations are
plain numbers, so that Hypothesis draws and shrinks them (`programs`) and a bench makes a million of
them from one seed (`random_operations`). A customer's own cache, database or bus fits in as well.
"""

from __future__ import annotations

from motadata.core.testing.isolation._buses import BusSite
from motadata.core.testing.isolation._caches import CacheSite
from motadata.core.testing.isolation._metrics import MetricSite
from motadata.core.testing.isolation._network import NetworkSite
from motadata.core.testing.isolation._operations import (
    INTRUDERS,
    TENANTS,
    Operation,
    programs,
    random_operations,
)
from motadata.core.testing.isolation._property import IsolationReport, check_isolation
from motadata.core.testing.isolation._signals import LogSite
from motadata.core.testing.isolation._site import Leak, Site
from motadata.core.testing.isolation._tables import TableSite
from motadata.core.testing.isolation._world import World


__all__ = [
    "INTRUDERS",
    "TENANTS",
    "BusSite",
    "CacheSite",
    "IsolationReport",
    "Leak",
    "LogSite",
    "MetricSite",
    "NetworkSite",
    "Operation",
    "Site",
    "TableSite",
    "World",
    "check_isolation",
    "programs",
    "random_operations",
]
