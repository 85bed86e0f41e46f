"""Names of a package that are imported when they are first used, so that importing it costs little.

if TYPE_CHECKING:
from motadata.sample._service import create_service   # what the type checker sees

__all__ = ["create_service"]

__getattr__, __dir__ = lazy_names(__name__, {"create_service": "_service"})
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module


def lazy_names(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return the `__getattr__` and the `__dir__` of a package.

    Args:
        package: Its `__name__`; it has an `__all__`.
        homes: Module of the package by the name that is imported from it.
    """
    module = sys.modules[package]

    def get(name: str) -> object:
        home = homes.get(name)
        if home is None:
            message = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(message, name=name, obj=module)
        value: object = getattr(import_module(f"{package}.{home}"), name)
        setattr(module, name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(module), *module.__all__})

    return get, names
