"""The foundation of the Motadata AI SDK: what every component shares, and nothing that is heavy.

    from motadata.core import create_platform, tenant_scope

    async with create_platform() as platform:
        with tenant_scope("acme"):
            answer = await platform.knowledge_base.query("Who approves a change?")

Here are the everyday names. The rooms have the rest: `errors`, `tenancy`, `models`, `protocols`,
`codec`, `cache`, `database`, `embedded`, `observability`, `platform`, `settings`, `testing`.

A name is imported from its room when it is first used, so that `import motadata.core` costs next to
nothing and never touches a driver.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from motadata.core._version import __version__
from motadata.core.errors import SDKError
from motadata.core.lazy import lazy_names
from motadata.core.tenancy import TenantId, current_tenant, resolve_tenant, tenant_scope


if TYPE_CHECKING:
    from motadata.core.cache import create_memory_cache
    from motadata.core.codec import get_codec
    from motadata.core.database import create_database
    from motadata.core.identifiers import new_id
    from motadata.core.observability import (
        configure_observability,
        current_trace_id,
        get_logger,
        span,
    )
    from motadata.core.platform import ComponentSpec, Platform, create_platform
    from motadata.core.settings import Settings


__all__ = [
    "ComponentSpec",
    "Platform",
    "SDKError",
    "Settings",
    "TenantId",
    "__version__",
    "configure_observability",
    "create_database",
    "create_memory_cache",
    "create_platform",
    "current_tenant",
    "current_trace_id",
    "get_codec",
    "get_logger",
    "new_id",
    "resolve_tenant",
    "span",
    "tenant_scope",
]

_ROOMS: Final = {
    "ComponentSpec": "platform",
    "Platform": "platform",
    "Settings": "settings",
    "configure_observability": "observability",
    "create_database": "database",
    "create_memory_cache": "cache",
    "create_platform": "platform",
    "current_trace_id": "observability",
    "get_codec": "codec",
    "get_logger": "observability",
    "new_id": "identifiers",
    "span": "observability",
}

__getattr__, __dir__ = lazy_names(__name__, _ROOMS)
