"""The distribution holds what its README says: a version, a working example, and no pretence."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import entry_points, version
from pathlib import Path

import motadata.agents


README = Path(__file__).parent.parent / "README.md"


def fenced(language: str) -> list[str]:
    text = README.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def run(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_version_is_that_of_the_distribution() -> None:
    assert motadata.agents.__version__ == version("motadata-agents")


def test_exports_nothing_that_it_does_not_have() -> None:
    assert motadata.agents.__all__ == ["__version__"]


def test_registers_no_component() -> None:
    points = entry_points(group="motadata.components")

    assert [point.value for point in points if point.value.startswith("motadata.agents")] == []


def test_import_pulls_in_no_other_component() -> None:
    done = run(
        "import sys, motadata.agents\n"
        "print(sorted(name for name in sys.modules if name.startswith('motadata.')))"
    )

    assert done.stdout.strip() == "['motadata.agents', 'motadata.agents._version']", done.stderr


def test_example_of_the_readme_prints_what_the_readme_says() -> None:
    (example,) = fenced("python")
    (expected,) = fenced("text")

    done = run(example)

    assert expected == done.stdout, done.stderr
