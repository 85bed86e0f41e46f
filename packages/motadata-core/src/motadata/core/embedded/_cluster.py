"""A PostgreSQL data directory and the server that runs on it: make, start, stop.

Everything here blocks and is called from a thread, under the locks of `_postgres.py`.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import socket
import stat
import tempfile
from pathlib import Path
from typing import Final

from motadata.core.embedded._account import Account
from motadata.core.embedded._credentials import (
    ADMINISTRATOR,
    DATABASE,
    OWNER,
    RUNTIME,
    Credentials,
)
from motadata.core.embedded._programs import Programs
from motadata.core.errors import ConfigurationError


_START_TIMEOUT: Final = 120
_STOP_TIMEOUT: Final = 60
_SETUP_TIMEOUT: Final = 300
_LONGEST_SOCKET_PATH: Final = 100  # Linux allows 107 bytes, macOS 103
_LONGEST_LOG: Final = 10_000_000
_SOCKET_NAME: Final = ".s.PGSQL.5432"

# Data and log are named relative to the directory in which the programs run, for pg_ctl puts their
# names unquoted into a shell's command.
_DATA: Final = "data"
_LOG: Final = "server.log"

_SETTINGS: Final = {
    "listen_addresses": "",
    "max_connections": "200",
    "unix_socket_permissions": "0700",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Statements and the details of errors quote rows: they stay out of the log.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}
_FAST: Final = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}

# One statement a line. template1 gets the extension because only a superuser may install it;
# databases made later inherit it.
_IN_TEMPLATE: Final = """
create extension vector
create role {owner} login createdb nosuperuser nobypassrls password '{owner_password}'
create role {runtime} login nosuperuser nobypassrls password '{runtime_password}'
"""
_IN_POSTGRES: Final = """
create database {database} owner {owner}
"""
_UPDATE: Final = """
alter extension vector update
"""


class Cluster:
    """The data below one directory, and its server."""

    def __init__(self, directory: Path, *, durable: bool) -> None:
        self.directory = directory
        self.data = directory / _DATA
        self.log = directory / _LOG
        self._credentials_path = directory / "credentials.json"
        self._version_path = directory / "programs-version"
        self._durable = durable
        self._programs = Programs.find(working_directory=directory)

    @property
    def account(self) -> Account:
        """The account that the server runs under."""
        return self._programs.account

    def create_if_absent(self) -> Credentials:
        """Make the data directory with its roles and database, or find it made.

        It appears under its name only when it is complete, so a crash leaves nothing half-made.

        Raises:
            ConfigurationError: PostgreSQL's programs fail; the message quotes them.
        """
        self._programs.make_reachable()
        self.account.let_through(self.data)
        if self.data.exists():
            return Credentials.read(self._credentials_path)
        unfinished = self.directory / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        credentials = Credentials.fresh()
        credentials.write(self._credentials_path)
        unfinished.mkdir(mode=0o700)
        self.account.give(unfinished)
        self._initialise(unfinished.name, credentials)
        self._version_path.write_text(self._programs.version, "utf-8")
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
        return True

    def start(self) -> None:
        """Start the server and return when it takes connections.

        Raises:
            ConfigurationError: It does not start; the message quotes the end of its log.
        """
        self._remove_stale_process_file()
        self._update_extension()
        self._make_socket_directory()
        self._make_log()
        settings = _SETTINGS if self._durable else _SETTINGS | _FAST
        options = [f"-k {shlex.quote(str(self.socket_directory))}"]
        options += [f"-c {shlex.quote(f'{name}={value}')}" for name, value in settings.items()]
        arguments = ["start", "-D", _DATA, "-l", _LOG, "-w", "-s", "-t", str(_START_TIMEOUT)]
        try:
            self._programs.run(
                "pg_ctl", [*arguments, "-o", " ".join(options)], timeout=_START_TIMEOUT + 10
            )
        except ConfigurationError as error:
            tail = self.log.read_text("utf-8", errors="replace")[-2000:].strip()
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
            program, *arguments = self.stop_command()
            try:
                self._programs.run(Path(program).name, arguments, timeout=_STOP_TIMEOUT + 10)
            except ConfigurationError:
                # It may have gone by itself in between; that is all that was wanted.
                if self._process_id() is not None:
                    raise
        sockets = self.socket_directory
        if sockets.parent != self.directory and sockets.exists():
            shutil.rmtree(sockets)

    def stop_command(self) -> list[str]:
        """Return the command that stops the server, for its account and in the directory."""
        arguments = ["stop", "-D", _DATA, "-w", "-s", "-m", "fast", "-t", str(_STOP_TIMEOUT)]
        return [str(self._programs.folder / "pg_ctl"), *arguments]

    @property
    def socket_directory(self) -> Path:
        """Where the server's socket is: in the directory, or elsewhere if its path is too long."""
        usual = self.directory / "socket"
        if len(os.fsencode(usual / _SOCKET_NAME)) <= _LONGEST_SOCKET_PATH:
            return usual
        digest = hashlib.sha256(os.fsencode(self.directory)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"motadata-{os.geteuid()}-{digest}"

    def _initialise(self, data: str, credentials: Credentials) -> None:
        descriptor, name = tempfile.mkstemp(prefix="motadata-")
        password_file = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(credentials.administrator)
            self.account.give(password_file)
            self._run_initdb(data, password_file)
        finally:
            password_file.unlink()
        names = {"owner": OWNER, "runtime": RUNTIME, "database": DATABASE}
        passwords = {"owner_password": credentials.owner, "runtime_password": credentials.runtime}
        self._run_single(data, "template1", _IN_TEMPLATE.format(**names, **passwords))
        self._run_single(data, "postgres", _IN_POSTGRES.format(**names))

    def _run_initdb(self, data: str, password_file: Path) -> None:
        arguments = ["-D", data, "--auth=scram-sha-256", f"--pwfile={password_file}"]
        arguments += [f"--username={ADMINISTRATOR}", "--encoding=UTF8", "--no-instructions"]
        # Order and case are PostgreSQL's own, the same on every machine. Only the full-text parser
        # asks the C library what a letter is, and some machines have no such locale.
        arguments += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        arguments += [] if self._durable else ["--no-sync"]
        try:
            self._programs.run("initdb", [*arguments, "--lc-ctype=C.UTF-8"], timeout=_SETUP_TIMEOUT)
        except ConfigurationError:
            self._programs.run("initdb", arguments, timeout=_SETUP_TIMEOUT)

    def _run_single(self, data: str, database: str, script: str) -> None:
        """Run statements, one a line, without a server: nobody can connect meanwhile."""
        settings = {"exit_on_error": "on", "log_statement": "none", "fsync": "off"}
        settings = settings | {name: _SETTINGS[name] for name in _SETTINGS if "log_m" in name}
        arguments = ["--single", "-j", "-D", data]
        arguments += [
            part for name, value in settings.items() for part in ("-c", f"{name}={value}")
        ]
        feed = "".join(f"{line};\n\n" for line in script.split("\n") if line)
        self._programs.run("postgres", [*arguments, database], timeout=_SETUP_TIMEOUT, feed=feed)

    def _update_extension(self) -> None:
        """Bring the extension up to upgraded programs; only a superuser may."""
        try:
            known = self._version_path.read_text("utf-8")
        except FileNotFoundError:
            known = ""
        if known != self._programs.version:
            for database in ("template1", DATABASE):
                self._run_single(_DATA, database, _UPDATE)
            self._version_path.write_text(self._programs.version, "utf-8")

    def _make_socket_directory(self) -> None:
        sockets = self.socket_directory
        try:
            sockets.mkdir(mode=0o700)
            self.account.give(sockets)
        except FileExistsError:
            # In a folder for all, someone else may have laid it out for us to step into.
            state = sockets.lstat()
            mine = os.geteuid() if self.account.user is None else self.account.user
            if not stat.S_ISDIR(state.st_mode) or state.st_uid != mine:
                message = f"{str(sockets)!r} belongs to someone else."
                raise ConfigurationError(
                    message, remedy="Remove it, or use a directory with a shorter path."
                ) from None
        self.account.let_through(sockets)

    def _make_log(self) -> None:
        if self.log.exists() and self.log.stat().st_size > _LONGEST_LOG:
            self.log.replace(self.log.with_suffix(".log.old"))
        self.log.touch(mode=0o600)
        self.account.give(self.log)

    def _process_id(self) -> int | None:
        """Return the server's process, or None when it has none."""
        import psutil

        try:
            number = int((self.data / "postmaster.pid").read_text("utf-8").split("\n", 1)[0])
            process = psutil.Process(number)
            is_ours = process.status() != psutil.STATUS_ZOMBIE and process.cwd() == str(
                self.data.resolve()
            )
        except (OSError, ValueError, psutil.Error):
            return None
        return number if is_ours else None

    def _remove_stale_process_file(self) -> None:
        # After a power cut or in a new container its number may belong to any process, and the
        # server would refuse to start. If it belongs to none, PostgreSQL knows itself what to do.
        import psutil

        path = self.data / "postmaster.pid"
        try:
            number = int(path.read_text("utf-8").split("\n", 1)[0])
        except (OSError, ValueError):
            return
        if psutil.pid_exists(number) and self._process_id() is None:
            path.unlink(missing_ok=True)
