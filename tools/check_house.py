"""Check the rules of the house that no linter knows.

    python tools/check_house.py

Each rule names the file that breaks it and what to do. Exit status 1 when any is broken.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from key_rules import hand_built


ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ROOT / "packages"
LONGEST_FILE = 800
LONGEST_FUNCTION = 60


def main() -> int:
    """Run every rule and print what is broken."""
    problems = [*stray_init_files(), *missing_type_markers()]
    for path in sorted(PACKAGES.glob("*/src/motadata/**/*.py")):
        tree = ast.parse(path.read_text())
        problems += [f"{path.relative_to(ROOT)}:{line}: {text}" for line, text in rules(path, tree)]
    print("\n".join(problems) if problems else "The rules of the house hold.")
    return 1 if problems else 0


def stray_init_files() -> Iterator[str]:
    """Find `__init__.py` where one hides packages or tests from Python."""
    for path in PACKAGES.glob("*/src/motadata/__init__.py"):
        yield f"{path.relative_to(ROOT)}: hides every other motadata package; delete it"
    for path in PACKAGES.glob("*/tests/**/__init__.py"):
        yield f"{path.relative_to(ROOT)}: hides another package's tests; delete it"


def missing_type_markers() -> Iterator[str]:
    """Find packages without `py.typed`, and one in the shared namespace."""
    for path in PACKAGES.glob("*/src/motadata/*/__init__.py"):
        if not (path.parent / "py.typed").exists():
            yield f"{path.parent.relative_to(ROOT)}: has no py.typed; add an empty one"
    for path in PACKAGES.glob("*/src/motadata/py.typed"):
        yield f"{path.relative_to(ROOT)}: belongs into the package; move it"


def rules(path: Path, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and complaint for each rule that a module breaks."""
    module = path.relative_to(path.parents[_depth(path)]).as_posix()
    if (lines := path.read_text().count("\n")) > LONGEST_FILE:
        yield lines, f"has more than {LONGEST_FILE} lines; split it by idea"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno
            if length > LONGEST_FUNCTION:
                yield node.lineno, f"{node.name} has {length} lines; split it"
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from private_import(module, node)
    yield from hand_built(module, tree)


def private_import(module: str, node: ast.ImportFrom) -> Iterator[tuple[int, str]]:
    """Complain when a module reaches into another package's private modules."""
    parts = (node.module or "").split(".")
    if parts[0] != "motadata" or len(parts) < 3:
        return
    own = module.split("/")[:-1]
    names = [*parts, *(alias.name for alias in node.names if alias.name.startswith("_"))]
    for position, name in enumerate(names):
        private = name.startswith("_") and not name.startswith("__")
        if private and names[:position] != own[:position]:
            yield node.lineno, f"imports {node.module}, private to {'.'.join(names[:position])}"
            return


def _depth(path: Path) -> int:
    """Return how many parents up `src` is."""
    return len(path.parts) - path.parts.index("src") - 2


if __name__ == "__main__":
    sys.exit(main())
