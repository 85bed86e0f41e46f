"""How Sphinx builds the guides: `make docs`, with every warning an error."""
# ruff: noqa: INP001 - Sphinx reads it as a script

from __future__ import annotations


project = "Motadata AI SDK"
author = "Motadata"
copyright = "2026, Motadata"  # noqa: A001 - Sphinx's name
extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = project
nitpicky = True
