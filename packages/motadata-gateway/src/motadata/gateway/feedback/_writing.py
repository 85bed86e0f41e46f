"""A file of lines that is either the old one or the whole new one, whatever happens meanwhile."""

from __future__ import annotations

import errno
import os
import secrets
import threading
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from motadata.core.errors import ConfigurationError


class LinesFile:
    """Takes lines beside the path, and moves there once all have been taken.

    It blocks on the disk: call it in a thread. Readable by its owner only, since lines hold what
    people wrote.

    Args:
        path: Of the new file.

    Raises:
        ConfigurationError: It cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        self._file: IO[bytes] | None = None
        self._left = False
        # A cancelled export leaves the block while its thread still writes.
        self._lock = threading.Lock()

    def write(self, lines: bytes) -> None:
        """Take some more lines; the first ones make the file."""
        with self._lock:
            try:
                self._opened().write(lines)
            except OSError as error:
                raise self._refused(error) from error

    def keep(self) -> None:
        """Put the file in its place, durably."""
        with self._lock:
            try:
                file = self._opened()
                file.flush()
                os.fsync(file.fileno())
                file.close()
                self._partial.replace(self._path)
            except OSError as error:
                raise self._refused(error) from error

    def __enter__(self) -> Self:
        """Make nothing yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove what was not kept."""
        with self._lock:
            self._left = True
            if self._file is not None:
                self._file.close()
            self._partial.unlink(missing_ok=True)

    def _opened(self) -> IO[bytes]:
        if self._left:
            raise OSError(errno.ECANCELED, "The export was cancelled")
        if self._file is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            self._file = os.fdopen(os.open(self._partial, flags, 0o600), "wb")
        return self._file

    def _refused(self, error: OSError) -> ConfigurationError:
        message = f"The file {str(self._path)!r} cannot be written ({error.strerror})."
        return ConfigurationError(message, remedy="Name one in a folder that can be written.")
