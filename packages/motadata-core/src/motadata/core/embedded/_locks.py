"""Locks between processes that the kernel gives back when their holder dies, however it dies."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from motadata.core.errors import ConfigurationError


_POLL: Final = 0.02


class FileLock:
    """An advisory lock on a file; shared by many or held by one.

    It blocks the calling thread: use it off the event loop.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self, *, exclusive: bool, timeout: float) -> None:
        """Take the lock.

        Raises:
            ConfigurationError: Others held it for `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while not self.try_acquire(exclusive=exclusive):
            if time.monotonic() > deadline:
                message = f"Another process has held {str(self._path)!r} for {timeout:g} s."
                raise ConfigurationError(
                    message, remedy="Wait for it or end it, then repeat.", retryable=True
                )
            time.sleep(_POLL)

    def try_acquire(self, *, exclusive: bool) -> bool:
        """Take the lock, or change how it is held, if that is possible at once.

        A change that fails may lose the lock as it was held before.
        """
        import fcntl

        how = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        while True:
            if self._descriptor is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(self._descriptor, how | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            if self.is_current():
                return True
            # Whoever held it before deleted the file: a lock on it would exclude nobody.
            self.release()

    def release(self) -> None:
        """Give the lock back, if it is held."""
        import fcntl

        if self._descriptor is not None:
            # Unlocking, not merely closing: a forked child may share the descriptor.
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
            self._descriptor = None

    @contextmanager
    def held(self, *, timeout: float) -> Iterator[None]:
        """Hold the lock alone for a block.

        Raises:
            ConfigurationError: Others held it for `timeout` seconds.
        """
        try:
            self.acquire(exclusive=True, timeout=timeout)
            yield
        finally:
            self.release()

    def is_current(self) -> bool:
        """Tell whether the file is still the one that was opened, not deleted or replaced."""
        if self._descriptor is None:
            return False
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        mine = os.fstat(self._descriptor)
        return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)
