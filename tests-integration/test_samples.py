"""The sample knowledge base is what its sources say, and the platform answers questions on it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT / "samples" / "knowledge-base"
QUESTIONS = ROOT / "tools" / "questions" / "samples.json"


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_generated_files_are_up_to_date() -> None:
    done = run("tools/build_samples.py", "--check")

    assert done.returncode == 0, done.stdout


def test_holds_enough_articles_in_every_format() -> None:
    endings = [path.suffix for path in SAMPLES.rglob("*") if path.is_file()]

    assert len(endings) >= 36
    for ending, least in ((".md", 30), (".pdf", 3), (".docx", 3), (".html", 3), (".csv", 2)):
        assert endings.count(ending) >= least, ending


def test_articles_are_finished() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in SAMPLES.rglob("*.md"))

    assert re.findall(r"lorem|TODO|TBD|FIXME", text) == []


@pytest.mark.timeout(300)
def test_platform_answers_questions_on_it_with_the_right_citations() -> None:
    done = run("tools/evaluate_questions.py", str(QUESTIONS), str(SAMPLES), "--minimum", "10")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "not read" not in done.stderr
