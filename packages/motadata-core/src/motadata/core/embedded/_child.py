"""One server process that ends with us, however we end: its start, its signals, its end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from motadata.core.embedded._locks import FileLock
from motadata.core.errors import ConfigurationError


_START_TIMEOUT: Final = 15.0
_STOP_TIMEOUT: Final = 10.0
_POLL: Final = 0.01

# Becomes the server after asking the kernel for its death with that of the process that started it.
_LAUNCHER: Final = """
import os, signal, sys
parent = int(sys.argv[1])
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM, 0, 0, 0)
if os.getppid() != parent:
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


class Child:
    """A server that works in a directory of its own, which one process uses at a time.

    Args:
        directory: Where it works; made when absent, closed to other users.
        noun: What it is, for errors: `"Valkey"`.
    """

    def __init__(self, directory: Path, *, noun: str) -> None:
        self.directory = directory
        self._noun = noun
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = FileLock(directory / "lock")

    @property
    def pid(self) -> int | None:
        """The server's process id, or None while it does not run."""
        return self._process.pid if self.running and self._process else None

    @property
    def running(self) -> bool:
        """Whether the server runs."""
        return self._process is not None and self._process.poll() is None

    async def start(
        self, command: Sequence[str], *, settings: str, accepts: Callable[[], Awaitable[bool]]
    ) -> None:
        """Start the server and return when it accepts connections.

        Args:
            command: The program and its arguments.
            settings: What goes into the file `server.conf` of the directory.
            accepts: Tells whether it answers by now.

        Raises:
            ConfigurationError: The directory is in use, or the server did not start.
        """
        await asyncio.to_thread(self._prepare, settings)
        try:
            self._launch(command)
            async with asyncio.timeout(_START_TIMEOUT):
                await self._wait_for(accepts)
        except TimeoutError:
            await self.kill()
            raise self._did_not_start() from None
        except BaseException:
            await self.kill()
            raise

    async def stop(self) -> None:
        """End the server in order; by force when it takes longer than ten seconds."""
        if self.running and self._process is not None:
            # One that was halted would not see the signal.
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            try:
                await asyncio.to_thread(self._process.wait, _STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
        await self._reap()

    async def kill(self) -> None:
        """End the server at once, as a crash would."""
        if self.running and self._process is not None:
            self._process.kill()
        await self._reap()

    def signal(self, number: signal.Signals) -> None:
        """Send the server a signal, if it runs."""
        if self.running and self._process is not None:
            self._process.send_signal(number)

    async def _reap(self) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            await asyncio.to_thread(process.wait)
            (self.directory / "pid").unlink(missing_ok=True)
        self._lock.release()

    async def _wait_for(self, accepts: Callable[[], Awaitable[bool]]) -> None:
        while not await accepts():
            if not self.running:
                raise self._did_not_start()
            await asyncio.sleep(_POLL)

    def _launch(self, command: Sequence[str]) -> None:
        with (self.directory / "log").open("ab") as log:
            # In this thread, for milliseconds: the kernel takes the thread that starts a process
            # for its parent, and a worker's thread may end before us.
            self._process = subprocess.Popen(  # noqa: S603 - the command is ours
                [*(sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid())), *command],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        (self.directory / "pid").write_text(str(self._process.pid))

    def _prepare(self, settings: str) -> None:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.directory.chmod(0o700)
        if not self._lock.try_acquire(exclusive=True):
            self._lock.release()
            message = (
                f"The directory {str(self.directory)!r} belongs to a running {self._noun} server."
            )
            raise ConfigurationError(message, remedy="Use its address, or another directory.")
        _end_orphan(self.directory)
        path = self.directory / "server.conf"
        path.touch(mode=0o600, exist_ok=True)
        path.write_text(settings)

    def _did_not_start(self) -> ConfigurationError:
        message = f"The embedded {self._noun} server in {str(self.directory)!r} did not start."
        return ConfigurationError(message, remedy=f"Its reason is in {self.directory / 'log'}.")


def _end_orphan(directory: Path) -> None:
    """End a server that outlived its parent, where the kernel does not do it."""
    try:
        pid = int((directory / "pid").read_text())
        work = Path(f"/proc/{pid}/cwd").readlink()
    except (OSError, ValueError):
        return
    # The number may have passed on to a process that is none of ours.
    if work == directory.resolve():
        os.kill(pid, signal.SIGTERM)
