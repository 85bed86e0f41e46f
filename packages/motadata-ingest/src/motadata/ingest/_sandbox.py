"""Takes rights away from the process that reads strangers' files, layer by layer.

Each layer that the kernel does not offer is reported, never assumed. Linux has all of them
without any privilege; other systems have some.

| layer | what it takes |
|---|---|
| `parent_death` | outliving the process that started it |
| `network` | every network, by an empty network namespace in a user namespace |
| `files` | opening, making, removing any file, signalling others, by an empty Landlock ruleset |
| `memory` | address space beyond the limit |
| `cores` | writing files and core dumps, and so leaving content behind |
| `fresh_process` | the memory of other documents: each is read in a fork of its own |
"""

from __future__ import annotations

import ctypes
import math
import os
import signal
import struct
import sys
from collections.abc import Callable
from functools import cache
from typing import Final


LAYERS: Final = ("parent_death", "network", "files", "memory", "cores", "fresh_process")

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWNET: Final = 0x40000000
_LANDLOCK_CREATE_RULESET: Final = 444
_LANDLOCK_RESTRICT_SELF: Final = 446
_LANDLOCK_VERSION: Final = 1
# Rights over files that each version of Landlock knows, in bits; all of them are taken.
_FILE_RIGHTS: Final = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_TCP_RIGHTS: Final = 0b11
_SCOPES: Final = 0b11
_NETWORK_VERSION: Final = 4
_SCOPE_VERSION: Final = 6
_OPEN_FILES: Final = 64


def enter_sandbox(*, parent: int, memory_bytes: int) -> list[str]:
    """Give up what can be given up; return the names of the layers that hold.

    Everything that will be imported must be by then: no file can be opened any more.

    Args:
        parent: Process id of the owner, whose death must end this process.
        memory_bytes: Most address space.
    """
    layers: dict[str, Callable[[], bool]] = {
        "network": _leave_network,
        # A new user namespace clears the death signal, so it comes behind.
        "parent_death": lambda: die_with(parent),
        "memory": lambda: _limit("RLIMIT_AS", memory_bytes),
        "cores": lambda: _limit("RLIMIT_CORE", 0) and _limit("RLIMIT_FSIZE", 0),
        "files": _leave_files,
    }
    held = [name for name, enter in layers.items() if enter()]
    if hasattr(os, "fork"):
        held.append("fresh_process")
    _limit("RLIMIT_NOFILE", _OPEN_FILES)
    return held


def enter_job(*, parent: int, seconds: float) -> None:
    """Bound the process that reads one document: processor time, and no processes of its own."""
    die_with(parent)
    _limit("RLIMIT_CPU", math.ceil(seconds) + 1)
    _limit("RLIMIT_NPROC", 0)


def die_with(parent: int) -> bool:
    """Have the kernel kill this process when its parent goes; False where that cannot be asked."""
    if sys.platform != "linux":
        return False
    asked = bool(_libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0)
    if os.getppid() != parent:
        os._exit(0)  # it went before it was asked
    return asked


def _leave_network() -> bool:
    if sys.platform != "linux":
        return False
    return bool(_libc().unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0)


def _leave_files() -> bool:
    """Forbid every access to files: a Landlock ruleset that handles all rights and grants none."""
    if sys.platform != "linux":
        return False
    libc = _libc()
    version = libc.syscall(_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_VERSION)
    if version < 1:
        return False
    rights = (1 << _FILE_RIGHTS.get(version, 16)) - 1
    fields = [rights]
    if version >= _NETWORK_VERSION:
        fields.append(_TCP_RIGHTS)
    if version >= _SCOPE_VERSION:
        fields.append(_SCOPES)
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    ruleset = libc.syscall(_LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0)
    if ruleset < 0:
        return False
    try:
        if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
            return False
        return bool(libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0) == 0)
    finally:
        os.close(ruleset)


def _limit(name: str, value: int) -> bool:
    try:
        import resource

        which = getattr(resource, name)
        _, hard = resource.getrlimit(which)
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (bound, bound))
    except (ImportError, AttributeError, ValueError, OSError):
        return False
    return True


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
