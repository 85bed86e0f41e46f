"""Stops an embedded server when its last user has gone, even one that was killed.

Run as a program: `python -I -S _keeper.py LOCK keep|delete USER:GROUP|- COMMAND…`, in the server's
directory. It detaches, waits until nobody shares the lock any more, and runs the command under the
given account. With `delete` it removes the directory after that. It uses the standard library only,
to start fast and stay small.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys


_TIMEOUT = 120


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
    if account == "-":
        subprocess.run(command, check=False, timeout=_TIMEOUT)  # noqa: S603 - the command is ours
    else:
        user, group = map(int, account.split(":"))
        subprocess.run(  # noqa: S603 - the command is ours
            command, check=False, timeout=_TIMEOUT, user=user, group=group, extra_groups=[]
        )
    if afterwards == "delete":
        # Renamed first, so that whoever comes now starts with a new directory, not half an old one.
        directory = os.path.dirname(lock)  # noqa: PTH120 - pathlib would stay in memory for long
        doomed = f"{directory}.{os.getpid()}.deleted"
        os.rename(directory, doomed)  # noqa: PTH104 - as above
        shutil.rmtree(doomed, ignore_errors=True)


def _is_current(lock: str, descriptor: int) -> bool:
    """Tell whether the lock's file is the one that was opened: its last user may delete it."""
    try:
        there = os.stat(lock)  # noqa: PTH116 - as above
    except FileNotFoundError:
        return False
    return there.st_ino == os.fstat(descriptor).st_ino


if __name__ == "__main__":
    main()
