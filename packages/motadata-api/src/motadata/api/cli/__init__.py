"""The command `motadata`: serve, ingest, query, doctor, keys.

Here is only what is needed to start quickly; each command imports what it works with when it runs.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line and leave with its exit code.

    0 means all went well, 1 that something failed, 2 that the command or a setting is wrong, 130
    that it was interrupted.
    """
    from motadata.api.cli._commands import app

    _divide_cores()
    try:
        app()
    except BrokenPipeError:
        # Whoever read our output has left: keep Python from saying so when it flushes.
        sys.stdout = None
        sys.exit(1)


def _divide_cores() -> None:
    """Let the offline embedding model work on one text a core, unless the environment says else.

    Several cores on one text cost a third more processor time than one core on each of several.
    It has to be said before numpy is imported.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("MOTADATA_GATEWAY_EMBEDDING_THREADS", str(min(os.cpu_count() or 1, 4)))
