"""litellm itself: imported by the first call, in a thread, and told to keep quiet."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Final

from motadata.core.errors import ConfigurationError


_TALKATIVE: Final = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy", "openai")
_PLANTED: Final = "litellm_init.pth"
_REGISTERING: Final = "litellm.llms.vertex_ai.context_caching.vertex_ai_context_caching"
"""litellm's part for Gemini that makes a cache for its own use when it is imported; every cache of
litellm's registers itself with all calls of the process."""
_REGISTERED: Final = "cache"
_READY: Final = "_motadata_ready"
"""A mark on the module of our own: the settings of litellm's may be the platform's doing."""
_LISTS: Final = ("input_callback", "success_callback", "_async_success_callback")


async def loaded() -> ModuleType:
    """Return the module; the first call takes some seconds, in a thread.

    Raises:
        ConfigurationError: litellm cannot be imported, or an installation bears the mark of the
            compromised releases.
    """
    module = sys.modules.get("litellm")
    if module is not None and getattr(module, _READY, False):
        return module
    return await asyncio.to_thread(_load)


def planted_file() -> Path | None:
    """Return the start-up file that litellm 1.82.7 and 1.82.8 planted, if it is there.

    Those two releases carried a stealer of credentials; the file outlives an upgrade.
    """
    spec = find_spec("litellm")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent.parent / _PLANTED
    return path if path.exists() else None


def _load() -> ModuleType:
    planted = planted_file()
    if planted is not None:
        message = f"The environment holds {_PLANTED!r}, the mark of a compromised litellm release."
        remedy = "Rebuild the environment and replace every credential it has seen."
        raise ConfigurationError(message, remedy=remedy)
    # Without it litellm fetches its table of prices over the network when it is imported.
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    try:
        litellm = import_module("litellm")
    except ImportError as error:
        message = "litellm, which reaches the providers, cannot be imported."
        remedy = "Reinstall it with: pip install --force-reinstall motadata-gateway"
        raise ConfigurationError(message, remedy=remedy) from error
    _import_quietly(litellm)
    # At DEBUG these loggers write prompts; who wants that sets their level, not that of all logs.
    for name in _TALKATIVE:
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.WARNING)
    # The one setting of litellm that is changed: it would print advice on standard output.
    litellm.suppress_debug_info = True  # type: ignore[attr-defined]  # set on a module
    setattr(litellm, _READY, True)
    return litellm


def _import_quietly(litellm: ModuleType) -> None:
    """Import what registers a callback, and take back that registration and no other.

    Imported here, the first call to Gemini finds it imported, and registers nothing. It takes some
    milliseconds once litellm is there.
    """
    lists: dict[str, list[object]] = {name: getattr(litellm, name, []) for name in _LISTS}
    free = [name for name, callbacks in lists.items() if _REGISTERED not in callbacks]
    if _REGISTERING in sys.modules:
        return  # the platform called Gemini by litellm itself
    try:
        import_module(_REGISTERING)
    except ModuleNotFoundError:
        return  # a release without that part; a test says so when it has another place
    if litellm.cache is not None:
        return  # the platform switched litellm's cache on, maybe this very moment: it is its own
    for name in free:
        if _REGISTERED in lists[name]:
            lists[name].remove(_REGISTERED)
