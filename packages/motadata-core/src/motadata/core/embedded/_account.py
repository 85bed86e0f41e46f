"""The operating system's account that an embedded server runs under.

PostgreSQL refuses to run as root, so a process of root runs it as a system user of its own. That
user must be able to walk to the binaries and to the data: directories of root on the way get the
permission to be passed through, never the one to be listed or read.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from motadata.core.errors import ConfigurationError
from motadata.core.observability import get_logger


_NAME: Final = "motadata-postgres"

_log = get_logger("embedded")


@dataclass(frozen=True, slots=True)
class Account:
    """A user and group by number; None stands for those of this process."""

    user: int | None
    group: int | None

    def give(self, path: Path) -> None:
        """Make the account the owner of a file or directory."""
        if self.user is not None and self.group is not None:
            os.chown(path, self.user, self.group)

    def let_through(self, path: Path) -> None:
        """Let the account walk to `path`."""
        if self.user is None:
            return
        for parent in path.absolute().parents:
            mode = stat.S_IMODE(parent.stat().st_mode)
            if not mode & stat.S_IXOTH:
                parent.chmod(mode | stat.S_IXOTH)
                _log.warning("directory_opened_for_passage", path=str(parent), mode=oct(mode))


def server_account() -> Account:
    """Return the account to run PostgreSQL under; root gets a system user, made when absent.

    Raises:
        ConfigurationError: This is root and no system user can be made.
    """
    if os.geteuid() != 0:
        return Account(None, None)
    import pwd

    try:
        entry = pwd.getpwnam(_NAME)
    except KeyError:
        _create_user()
        entry = pwd.getpwnam(_NAME)
    return Account(entry.pw_uid, entry.pw_gid)


def _create_user() -> None:
    useradd = shutil.which("useradd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    remedy = f"Run as an ordinary user, or create a system user named {_NAME!r}."
    if useradd is None:
        message = "PostgreSQL does not run as root, and no program is here to create a user."
        raise ConfigurationError(message, remedy=remedy)
    command = [useradd, "--system", "--user-group", "--no-create-home"]
    result = subprocess.run(  # noqa: S603 - a fixed command
        [*command, "--shell", "/usr/sbin/nologin", _NAME],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    already_there = 9
    if result.returncode not in {0, already_there}:
        message = f"The system user {_NAME!r} could not be created: {result.stderr.strip()}"
        raise ConfigurationError(message, remedy=remedy)
