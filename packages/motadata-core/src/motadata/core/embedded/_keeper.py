"""Stops an embedded server when its last user has gone, even one that was killed.

Run as a program: `python -I -S _keeper.py LOCK keep|delete USER:GROUP|- COMMAND…`. It detaches, waits
until nobody shares the lock any more, and runs the command, under the given account. With `delete` it
removes the lock's directory behind that. It uses the standard library only, to start fast and stay
small.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys


def main() -> None:
    """Detach, wait for the lock, stop the server."""
    lock, afterwards, account, *command = sys.argv[1:]
    if os.fork():
        return
    os.setsid()
    descriptor = os.open(lock, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    if not _is_current(lock, descriptor):
        return
    user, group = (None, None) if account == "-" else map(int, account.split(":"))
    extra_groups = None if user is None else []
    subprocess.run(  # noqa: S603 - the command is ours
        command, check=False, timeout=120, user=user, group=group, extra_groups=extra_groups
    )
    if afterwards == "delete":
        shutil.rmtree(os.path.dirname(lock), ignore_errors=True)  # noqa: PTH120 - importing pathlib costs memory for as long as the server runs


def _is_current(lock: str, descriptor: int) -> bool:
    """Tell whether the lock's file is still the one that was opened: its last user may delete it."""
    try:
        there = os.stat(lock)  # noqa: PTH116 - as above
    except FileNotFoundError:
        return False
    return there.st_ino == os.fstat(descriptor).st_ino


if __name__ == "__main__":
    main()
