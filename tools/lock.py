"""Resolve every dependency of every package into tools/constraints.txt.

    python tools/lock.py

Environments install within these versions (`UV_CONSTRAINT`), so that a release of somebody else's
package changes nothing here until this is run again.
"""

from __future__ import annotations

import subprocess
from pathlib import Path


ROOT = Path(__file__).resolve().parent.parent
TOOLS = [
    *(
        "cachetools",
        "coverage",
        "httpx",
        "pytest-randomly",
        "pytest-timeout",
        "pytest-xdist",
        "pytest-examples",
    ),
    *("python-docx", "reportlab", "playwright", "import-linter", "mypy", "ruff"),
    *("furo", "myst-parser", "sphinx", "types-PyYAML", "types-defusedxml", "PyYAML"),
]


def main() -> None:
    """Write the constraints for every Python from 3.11 on."""
    packages = sorted((ROOT / "packages").glob("*/pyproject.toml"))
    command = [
        "uv", "pip", "compile", "--universal", "--python-version", "3.11", "--all-extras",
        "--no-header", "--no-annotate", "--upgrade", "--no-emit-index-url",
        *(f"--no-emit-package={path.parent.name}" for path in packages),
        "--output-file", str(ROOT / "tools" / "constraints.txt"),
        *map(str, packages), "-",
    ]  # fmt: skip
    overrides = "".join(f"{path.parent.name} @ {path.parent.as_uri()}\n" for path in packages)
    subprocess.run(command, input="\n".join(TOOLS) + "\n" + overrides, text=True, check=True)


if __name__ == "__main__":
    main()
