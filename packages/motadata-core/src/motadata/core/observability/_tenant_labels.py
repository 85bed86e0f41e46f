"""Which tenants have series of their own, so that the number of series has an end.

A series is never taken away again: its counts would fall, and whoever reads them would see a
restart. So a process names at most `limit` tenants, ever. Half of the places go to the first that
come, the rest to those that make up enough of what the nameless ones do.
"""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock
from typing import Final

from motadata.core.tenancy import TenantId


OTHER: Final = "(other)"
"""The label of all tenants without one; no tenant can be called so."""

MOST_TENANTS: Final = 100
"""How many tenants are named where nobody says otherwise."""

_WARM_UP: Final = 100


class TenantLabels:
    """Gives tenants their label; safe for threads.

    Of the nameless tenants the busiest are counted as Metwally, Agrawal and El Abbadi describe
    ("Efficient Computation of Frequent and Top-k Elements in Data Streams", 2005): in a bounded
    table whose least entry gives way, so that a tenant is never counted too low.

    Args:
        limit: Most tenants with a label of their own.
        named: Tenants that have one from the start, whatever they do.
    """

    def __init__(self, limit: int = MOST_TENANTS, named: Iterable[str] = ()) -> None:
        self._own: dict[str, str] = {tenant: tenant for tenant in map(TenantId, named)}
        self._limit = max(limit, len(self._own))
        self._first = (self._limit + len(self._own)) // 2
        self._seen: dict[str, int] = {}
        # What an entry took over from the one that gave way to it, and has not earned itself.
        self._inherited: dict[str, int] = {}
        self._total = 0
        self._lock = Lock()

    def label(self, tenant: str) -> str:
        """Return the tenant itself, or `OTHER`.

        Raises:
            InvalidIdentifierError: It is no tenant's id.
        """
        return self._own.get(tenant) or self._label_of_unnamed(tenant)

    def _label_of_unnamed(self, tenant: str) -> str:
        TenantId(tenant)
        if len(self._own) >= self._limit:
            return OTHER
        with self._lock:
            if len(self._own) < self._first or self._has_earned_it(tenant):
                self._own[tenant] = tenant
                return tenant
            return OTHER

    def _has_earned_it(self, tenant: str) -> bool:
        """Count the tenant; tell whether it alone makes up its share of what is nameless."""
        self._total += 1
        if tenant in self._seen:
            self._seen[tenant] += 1
        elif len(self._seen) < 2 * self._limit:
            self._seen[tenant] = 1
            self._inherited[tenant] = 0
        else:
            least = min(self._seen, key=self._seen.__getitem__)
            self._inherited.pop(least)
            self._inherited[tenant] = self._seen.pop(least)
            self._seen[tenant] = self._inherited[tenant] + 1
        earned = self._seen[tenant] - self._inherited[tenant]
        return self._total >= _WARM_UP and earned * self._limit >= self._total
