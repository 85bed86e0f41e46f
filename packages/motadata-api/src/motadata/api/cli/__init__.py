"""The command `motadata`: serve, ingest, query, doctor, keys.

Here is only what is needed to start quickly; each command imports what it works with when it runs.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and leave with its exit code.

    0 means all went well, 1 that something failed, 2 that the command or a setting is wrong, 130
    that it was interrupted.
    """
    from motadata.api.cli._commands import app

    try:
        app()
    except BrokenPipeError:
        # Whoever read our output has left: keep Python from saying so when it flushes.
        sys.stdout = None
        sys.exit(1)
