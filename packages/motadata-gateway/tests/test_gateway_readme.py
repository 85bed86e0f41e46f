"""The README's example prints what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path


README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_the_example_of_the_readme_runs():
    code, output = re.findall(r"```(?:python|text)\n(.*?)```", README, re.DOTALL)[:2]

    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )

    assert result.stderr == ""
    assert result.stdout == output
