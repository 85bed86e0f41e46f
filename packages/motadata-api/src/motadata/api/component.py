"""How a platform finds this distribution: it fills the role `api_keys`."""

from __future__ import annotations

from typing import Final

from motadata.api.keys import ApiKeys
from motadata.core.platform import ComponentSpec, Platform


def open_api_keys(platform: Platform) -> ApiKeys:
    """Return the API keys that are kept in the platform's database."""
    return ApiKeys(platform.database)


COMPONENT: Final = ComponentSpec(
    name="api_keys",
    open=open_api_keys,
    requires=("database",),
    migrations="motadata.api.migrations",
)
