"""HTTP endpoints, console page and command line of the Motadata AI SDK.

    async with create_platform() as platform:
        app = create_app(platform)          # an ASGI application: FastAPI underneath

What is named here is imported on first use: the command line starts without a web framework.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from motadata.api._version import __version__
from motadata.core.lazy import lazy_names


if TYPE_CHECKING:
    from motadata.api.app import create_app
    from motadata.api.keys import ApiKeyInfo, ApiKeys, CreatedKey
    from motadata.api.settings import ApiSettings
    from motadata.api.unified import UnifiedAnswer, UnifiedQuery

__all__ = [
    "ApiKeyInfo",
    "ApiKeys",
    "ApiSettings",
    "CreatedKey",
    "UnifiedAnswer",
    "UnifiedQuery",
    "__version__",
    "create_app",
]

_HOMES = {
    "ApiKeyInfo": "keys",
    "ApiKeys": "keys",
    "ApiSettings": "settings",
    "CreatedKey": "keys",
    "UnifiedAnswer": "unified",
    "UnifiedQuery": "unified",
    "create_app": "app",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
