"""The demo tells by its exit status whether it showed what it promises."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not pytest's own temporary folder: it is closed to the account of root's server.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)
        yield Path(name)


def demo(documents: Path, data: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "tools" / "demo.py"), str(documents), "--serve", "0"],
        cwd=data,
        env={**os.environ, "MOTADATA_DATA_DIRECTORY": str(data / "data")},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_demo_ends_well_with_documents_and_badly_without(folder: Path) -> None:
    documents = folder / "documents"
    documents.mkdir()
    (documents / "broken.pdf").write_bytes(b"%PDF-1.7 and no more")
    empty = demo(documents, folder)
    (documents / "vpn.md").write_text("# VPN\n\nA VPN token is reset in the portal.")
    done = demo(documents, folder)

    assert (empty.returncode, "broken.pdf" in empty.stdout) == (1, True), empty.stderr
    assert (done.returncode, "1 documents" in done.stdout) == (0, True), done.stderr
