"""Reads the data files of this package."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from typing import Final


_PACKS: Final = "motadata.gateway.guardrails.packs"


def read_categories(name: str) -> Mapping[str, tuple[str, ...]]:
    """Return the phrases of one of this package's files, by category."""
    data = tomllib.loads(read_text(name))
    return {category: tuple(phrases) for category, phrases in data["categories"].items()}


def read_text(name: str) -> str:
    """Return one of this package's files as text."""
    return files(_PACKS).joinpath(f"{name}.toml").read_text(encoding="utf-8")


def names() -> frozenset[str]:
    """Return the names of the packs that come with this package."""
    return frozenset({"itil", "security"})
