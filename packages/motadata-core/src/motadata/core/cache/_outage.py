"""What changed while a server was away, so that it can be told when it is back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal


_MOST_CHANGES: Final = 500

Change = tuple[Literal["key", "pattern", "tag", "tenant"], str, str]
"""What was changed: its kind, its namespace, and the key, pattern or tag."""

EVERYTHING: Final[Change] = ("tenant", "", "")


@dataclass(slots=True, eq=False)
class Outage:
    """A server that does not answer, and who is served from memory meanwhile.

    Attributes:
        partition: The server's name.
        tenants: Who is served from memory.
        probe: The tenant by whose keys its return is noticed.
        changes: What each tenant changed. Who changed more than 500 things changed everything.
        is_returning: Whether the server answers again and is being told; changes go to it, too.
    """

    partition: str
    probe: str
    tenants: set[str] = field(default_factory=set)
    changes: dict[str, dict[Change, None]] = field(default_factory=dict)
    is_returning: bool = False

    def note(self, tenant: str, change: Change | None) -> None:
        """Note that a tenant was served, and what it changed."""
        self.tenants.add(tenant)
        if change is None:
            return
        changes = self.changes.setdefault(tenant, {})
        if change == EVERYTHING or len(changes) >= _MOST_CHANGES:
            changes.clear()
            changes[EVERYTHING] = None
        elif EVERYTHING not in changes:
            changes[change] = None
