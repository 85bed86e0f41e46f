"""The code of the guides and READMEs runs as it stands, on a real platform.

A fenced `python` or `console` block below a line `<!-- run -->` is run by itself in a process of
its own, in a folder that holds the samples; a `text` block that follows it at once is what it must
print. All blocks share one data directory, whose server is kept up while they run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from motadata.core.blocking import run
from motadata.core.embedded import EmbeddedPostgres


ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(
    r"^<!-- run -->\n+```(?P<language>python|console)\n(?P<code>.*?)^```$"
    r"(?:\n+```text\n(?P<output>.*?)^```$)?",
    re.DOTALL | re.MULTILINE,
)
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "packages").glob("*/README.md")),
]
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    code: str
    output: str | None

    @property
    def command(self) -> list[str]:
        if self.language == "python":
            return [sys.executable, "-W", "error::DeprecationWarning", "-c", self.code]
        lines = [line.removeprefix("$ ") for line in self.code.splitlines()]
        return ["bash", "-euo", "pipefail", "-c", "\n".join(lines)]


def blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        name = page.relative_to(ROOT).as_posix()
        yield Block(name, line, match["language"], match["code"], match["output"])


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


@pytest.fixture(scope="module")
def workplace() -> Iterator[Path]:
    # Not pytest's own temporary folder: it is closed to the account of root's server.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        (folder / "samples").symlink_to(ROOT / "samples")
        server = EmbeddedPostgres(folder / "data" / "postgres", durable=False)
        with ThreadPoolExecutor(1) as thread:
            thread.submit(run, server.__aenter__()).result()
            try:
                yield folder
            finally:
                thread.submit(run, server.__aexit__(None, None, None)).result()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.page}:{block.line}")
def test_block_runs_and_prints_what_it_says(block: Block, workplace: Path) -> None:
    environment = {
        **os.environ,
        "MOTADATA_DATA_DIRECTORY": str(workplace / "data"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }

    done = subprocess.run(
        block.command,
        cwd=workplace,
        env=environment,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    if block.output is not None:
        assert block.output == done.stdout


def test_every_guide_has_code_that_runs() -> None:
    silent = [page.name for page in GUIDES if not list(blocks_of(page))]

    assert silent == []


def test_links_between_pages_lead_somewhere() -> None:
    pages = [*PAGES, ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md"]
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in LINK.findall(page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]

    assert broken == []
