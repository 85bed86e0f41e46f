"""A queue that is fair across tenants; the order only, without clocks or futures.

Start-time fair queueing (Goyal, Vin and Cheng, "Start-time Fair Queueing", SIGCOMM 1996): each
tenant's line is served in its order, and among the lines the one that has been served least goes
first. A tenant that sends a flood waits behind its own flood, not before the others.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from dataclasses import dataclass, field
from itertools import count
from typing import Final, Generic, TypeVar

from motadata.core.tenancy import TenantId


T = TypeVar("T")

_KEPT: Final = 64
"""How many tags of tenants that left are kept before those that matter no more are dropped."""


@dataclass(slots=True, eq=False)
class _Line(Generic[T]):
    """What one tenant has waiting.

    Attributes:
        start: The virtual time at which its first item's service starts.
        cost: Of all its items together.
        items: In their order, each with its cost.
    """

    start: float
    cost: float = 0.0
    items: OrderedDict[T, float] = field(default_factory=OrderedDict)


class FairQueue(Generic[T]):
    """Items by tenant, each with a cost. Items are hashable and distinct.

    All operations take at most logarithmic time in the number of tenants, `ahead` and `longest`
    excepted, which look at each tenant that waits. What is removed leaves nothing behind but its
    tenant's place, until that comes up.
    """

    __slots__ = ("_finish", "_heap", "_length", "_lines", "_order", "_total", "_virtual")

    def __init__(self) -> None:
        self._lines: dict[TenantId, _Line[T]] = {}
        self._heap: list[tuple[float, int, TenantId]] = []
        self._finish: dict[TenantId, float] = {}
        self._order = count()
        self._virtual = 0.0
        self._length = 0
        self._total = 0.0

    def __len__(self) -> int:
        """Return how many items wait."""
        return self._length

    def lines(self) -> list[tuple[TenantId, list[T]]]:
        """Return what waits now: each tenant with its items in their order."""
        return [(tenant, list(line.items)) for tenant, line in self._lines.items()]

    @property
    def cost(self) -> float:
        """What all items that wait cost together."""
        return self._total

    def waiting(self, tenant: TenantId) -> int:
        """Return how many items of the tenant wait."""
        line = self._lines.get(tenant)
        return len(line.items) if line else 0

    def push(self, tenant: TenantId, item: T, cost: float) -> None:
        """Put an item at the end of its tenant's line."""
        line = self._lines.get(tenant)
        if line is None:
            start = max(self._virtual, self._finish.get(tenant, 0.0))
            line = self._lines[tenant] = _Line(start)
            heapq.heappush(self._heap, (start, next(self._order), tenant))
        line.items[item] = cost
        line.cost += cost
        self._length += 1
        self._total += cost

    def first(self) -> tuple[TenantId, T, float] | None:
        """Return who is next, with its tenant and cost, and leave it where it is."""
        while self._heap:
            _, _, tenant = self._heap[0]
            line = self._lines[tenant]
            if line.items:
                item = next(iter(line.items))
                return tenant, item, line.items[item]
            # All that waited here has been removed.
            heapq.heappop(self._heap)
            del self._lines[tenant]
        self._forget()
        return None

    def pop(self) -> None:
        """Serve the item that `first` returned: take it out and charge its tenant."""
        start, _, tenant = self._heap[0]
        line = self._lines[tenant]
        item = next(iter(line.items))
        cost = line.items[item]
        self._take_out(line, item)
        self._virtual = max(self._virtual, start)
        line.start = self._finish[tenant] = start + cost
        if line.items:
            heapq.heapreplace(self._heap, (line.start, next(self._order), tenant))
        else:
            heapq.heappop(self._heap)
            del self._lines[tenant]
        if not self._length:
            self._forget()
        elif len(self._finish) > _KEPT + 2 * len(self._lines):
            self._finish = {name: tag for name, tag in self._finish.items() if tag > self._virtual}

    def remove(self, tenant: TenantId, item: T) -> bool:
        """Take an item out of wherever it waits, uncharged; False when it waits no more."""
        line = self._lines.get(tenant)
        if line is None or item not in line.items:
            return False
        self._take_out(line, item)
        if not self._length:
            self._forget()
        return True

    def ahead(self, tenant: TenantId, cost: float) -> float:
        """Return what is served up to the end of an item that would come now, itself included.

        A negative cost asks about an item that waits: it is what stands behind it in its line.
        """
        line = self._lines.get(tenant)
        own = cost + (line.cost if line else 0.0)
        return own + sum(
            min(own, other.cost) for name, other in self._lines.items() if name != tenant
        )

    def longest(self) -> tuple[TenantId, T] | None:
        """Return the last item of the line that costs most."""
        if not self._length:
            return None
        tenant = max(self._lines, key=lambda name: self._lines[name].cost)
        return tenant, next(reversed(self._lines[tenant].items))

    def line_cost(self, tenant: TenantId) -> float:
        """Return what the tenant's items that wait cost together."""
        line = self._lines.get(tenant)
        return line.cost if line else 0.0

    def _take_out(self, line: _Line[T], item: T) -> None:
        cost = line.items.pop(item)
        line.cost = line.cost - cost if line.items else 0.0
        self._length -= 1
        self._total = self._total - cost if self._length else 0.0

    def _forget(self) -> None:
        """Start anew: nobody waits, so nobody is owed anything."""
        self._lines.clear()
        self._heap.clear()
        self._finish.clear()
        self._virtual = 0.0
