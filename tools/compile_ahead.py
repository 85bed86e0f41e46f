"""Compile the largest dependencies once, before several processes import them at the same time.

    python tools/compile_ahead.py

Installers leave that to the first import. litellm's takes many seconds of it, and each worker of
the tests would spend them, in the middle of a call that has to end in time.
"""

from __future__ import annotations

import compileall
import sysconfig
from pathlib import Path


PACKAGES = ("litellm", "openai")


def main() -> None:
    """Compile what is not compiled yet."""
    for name in PACKAGES:
        folder = Path(sysconfig.get_path("purelib")) / name
        if folder.is_dir():
            compileall.compile_dir(folder, quiet=2, workers=2)


if __name__ == "__main__":
    main()
