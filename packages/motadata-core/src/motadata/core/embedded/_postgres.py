"""A PostgreSQL server that starts with its first user and stops with its last."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

from motadata.core.embedded._cluster import Cluster
from motadata.core.embedded._credentials import (
    ADMINISTRATOR,
    DATABASE,
    OWNER,
    RUNTIME,
    Credentials,
)
from motadata.core.embedded._locks import FileLock
from motadata.core.errors import ConfigurationError
from motadata.core.models import Health


_LOCK_TIMEOUT: Final = 300.0


class EmbeddedPostgres:
    """PostgreSQL 18 with pgvector on a directory; its users share one server, across processes.

    The first user starts it and the last one stops it: each user holds a shared lock on a file,
    which the kernel gives back even when a process is killed, and a small keeper process stops the
    server once nobody holds it. The server listens on a Unix socket only and asks each role for a
    random password, which is kept beside the data, readable by its owner alone.

    Args:
        directory: Where data, passwords and log live; made when absent, kept between runs.
        durable: False trades safety against power cuts for speed, for tests; the first user's word
            counts.
        keep: False removes the directory when the last user goes; the first user's word counts.
    """

    def __init__(
        self, directory: str | os.PathLike[str], *, durable: bool = True, keep: bool = True
    ) -> None:
        self._directory = Path(directory).absolute()
        self._durable = durable
        self._keep = keep
        self._gate = FileLock(self._directory / "start.lock")
        self._users = FileLock(self._directory / "users.lock")
        self._cluster: Cluster | None = None
        self._credentials: Credentials | None = None

    @property
    def directory(self) -> Path:
        """The absolute path of the directory."""
        return self._directory

    @property
    def runtime_role(self) -> str:
        """Name of the role that the SDK runs as; it owns nothing and cannot bypass isolation."""
        return RUNTIME

    @property
    def owner_dsn(self) -> str:
        """Address of the role that owns the tables; it holds a password.

        Raises:
            ConfigurationError: The server is not in use.
        """
        return self.dsn(OWNER)

    @property
    def runtime_dsn(self) -> str:
        """Address of the role that the SDK runs as; it holds a password.

        Raises:
            ConfigurationError: The server is not in use.
        """
        return self.dsn(RUNTIME)

    @property
    def administrator_dsn(self) -> str:
        """Address of the superuser, for maintenance; never for the SDK.

        Raises:
            ConfigurationError: The server is not in use.
        """
        return self.dsn(ADMINISTRATOR)

    def dsn(self, role: str, *, database: str = DATABASE) -> str:
        """Return the address of a database for one of the three roles.

        Raises:
            ConfigurationError: The server is not in use, or the role is another one.
        """
        cluster, credentials = self._entered()
        passwords = {
            ADMINISTRATOR: credentials.administrator,
            OWNER: credentials.owner,
            RUNTIME: credentials.runtime,
        }
        if role not in passwords:
            message = f"{role!r} is no role of the embedded server."
            raise ConfigurationError(message, remedy=f"Use one of {', '.join(passwords)}.")
        host = quote(str(cluster.socket_directory), safe="")
        return f"postgresql://{role}:{passwords[role]}@/{quote(database, safe='')}?host={host}"

    async def __aenter__(self) -> Self:
        """Start the server, or join those who use it; the first start on a directory takes seconds.

        Raises:
            MissingExtraError: The extra `embedded` is not installed.
            ConfigurationError: PostgreSQL cannot be set up or started here.
        """
        starting = asyncio.ensure_future(asyncio.to_thread(self._enter))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            # A thread cannot be cancelled: let it finish, then undo what it did.
            await asyncio.wait([starting])
            if starting.exception() is None:
                await asyncio.to_thread(self._leave)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop using the server; return when it has stopped if this was its last user."""
        leaving = asyncio.ensure_future(asyncio.to_thread(self._leave))
        try:
            await asyncio.shield(leaving)
        except asyncio.CancelledError:
            await asyncio.wait([leaving])
            raise

    async def stop(self) -> None:
        """Stop the server under all its users, who stay its users; for trying out a lost server.

        Raises:
            ConfigurationError: It does not stop, or it is not in use.
        """
        cluster, _ = self._entered()
        await asyncio.to_thread(cluster.stop)

    async def start(self) -> None:
        """Start the server again after `stop`.

        Raises:
            ConfigurationError: It does not start, or it is not in use.
        """
        cluster, _ = self._entered()
        await asyncio.to_thread(cluster.start)

    async def health(self) -> Health:
        """Say whether the server takes connections."""
        if self._cluster is None:
            return Health("down", detail="The embedded server is not in use.")
        if await asyncio.to_thread(self._cluster.is_running):
            return Health("ok")
        return Health("down", detail=f"It does not run; look into {str(self._cluster.log)!r}.")

    def _entered(self) -> tuple[Cluster, Credentials]:
        if self._cluster is None or self._credentials is None:
            message = "The embedded server is not in use."
            raise ConfigurationError(message, remedy="Use it within `async with`.")
        return self._cluster, self._credentials

    def _enter(self) -> None:
        if self._cluster is not None:
            message = "This EmbeddedPostgres is in use already."
            raise ConfigurationError(message, remedy="Make another one for the same directory.")
        cluster = Cluster(self._directory, durable=self._durable)
        with ExitStack() as stack:
            self._join(stack)
            credentials = cluster.create_if_absent()
            if not cluster.is_running():
                # The keeper first: whatever happens to us from here on, the server will be stopped.
                self._start_keeper(cluster)
                cluster.start()
            # From here on the shared lock is held until `_leave`.
            stack.pop_all()
            self._gate.release()
        self._cluster, self._credentials = cluster, credentials

    def _join(self, stack: ExitStack) -> None:
        """Take both locks: alone at the gate, and as one of the server's users."""
        while True:
            stack.callback(self._gate.release)
            self._gate.acquire(exclusive=True, timeout=_LOCK_TIMEOUT)
            # Waits, too, while a keeper stops the server of the users before us.
            stack.callback(self._users.release)
            self._users.acquire(exclusive=False, timeout=_LOCK_TIMEOUT)
            if self._gate.is_current():
                return
            # The keeper deleted the directory meanwhile, and the gate with it.
            stack.close()

    def _leave(self) -> None:
        cluster, self._cluster, self._credentials = self._cluster, None, None
        if cluster is None:
            return
        with self._gate.held(timeout=_LOCK_TIMEOUT):
            try:
                if self._users.try_acquire(exclusive=True):
                    cluster.stop()
                    if not self._keep:
                        self._delete()
                elif not self._users.try_acquire(exclusive=False):
                    # The keeper was faster; it lets go when the server has stopped.
                    self._users.acquire(exclusive=False, timeout=_LOCK_TIMEOUT)
            finally:
                self._users.release()

    def _delete(self) -> None:
        # Renamed first, so that whoever comes now starts with a new directory, not half an old one.
        doomed = self._directory.with_name(f"{self._directory.name}.{os.getpid()}.deleted")
        self._directory.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    def _start_keeper(self, cluster: Cluster) -> None:
        program = Path(__file__).with_name("_keeper.py")
        account = cluster.account
        names = ("-" if account.user is None else f"{account.user}:{account.group}",)
        subprocess.run(  # noqa: S603 - our own program
            [
                *(sys.executable, "-I", "-S", str(program), str(self._directory / "users.lock")),
                *("keep" if self._keep else "delete", *names, *cluster.stop_command()),
            ],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
            cwd=self._directory,
        )
