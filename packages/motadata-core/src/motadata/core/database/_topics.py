"""The one constructor of notification channels, and what travels on them.

PostgreSQL has no rights on channels, and their names end at 63 bytes. So the name is a digest of
tenant and topic, and what arrives must name both again: a notification that somebody else put on
the channel is none of the tenant's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from motadata.core.errors import QueryError
from motadata.core.tenancy import Identifier, TenantId


_MOST_BYTES: Final = 7000
"""PostgreSQL takes less than 8000, with tenant and topic in front."""


@dataclass(frozen=True, slots=True)
class Topic:
    """What a tenant's notifications are about."""

    tenant: TenantId
    name: Identifier

    @property
    def channel(self) -> str:
        """Name of the channel: lower-case letters, digits and `_`, 49 characters."""
        digest = hashlib.sha256(self._head.encode()).hexdigest()
        return f"motadata_{digest[:40]}"

    def pack(self, payload: str) -> str:
        """Return what to send.

        Raises:
            QueryError: The payload is too long, or text that PostgreSQL cannot hold.
        """
        try:
            size = len(payload.encode())
        except UnicodeEncodeError:
            size = -1
        if not 0 <= size <= _MOST_BYTES or "\0" in payload:
            message = f"The payload of a notification about {str(self.name)!r} does not fit."
            raise QueryError(
                message,
                remedy=f"Send at most {_MOST_BYTES} bytes of UTF-8 without NUL; put more into a"
                " table, and its key into the notification.",
                tenant_id=self.tenant,
            )
        return self._head + payload

    def unpack(self, packed: str) -> str | None:
        """Return the payload, or None when it is not of this tenant and topic."""
        return packed[len(self._head) :] if packed.startswith(self._head) else None

    @property
    def _head(self) -> str:
        # Neither part can hold the slash or the line end.
        return f"{self.tenant}/{self.name}\n"
