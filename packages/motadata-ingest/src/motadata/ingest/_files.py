"""Opens what is on disk without trusting it: sizes first, no special files, in threads."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncGenerator, Callable
from os import PathLike
from pathlib import Path
from typing import Final

from motadata.core.errors import (
    FileTooLargeError,
    IngestionError,
    UnreadableFileError,
    UnsupportedFormatError,
)
from motadata.ingest._frames import CHUNK
from motadata.ingest.limits import Limits


# A pipe opened for reading would wait for its writer.
_FLAGS: Final = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)
_KINDS: Final = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def check_file(path: PathLike[str] | str, limits: Limits) -> None:
    """Refuse what cannot be read, by what the file system says about it.

    Raises:
        IngestionError: There is no such file.
        UnsupportedFormatError: It is no regular file.
        FileTooLargeError: It is above the limit.
    """
    try:
        _check(Path(path).stat(), path, limits)
    except (OSError, ValueError) as error:
        raise access_error(path, error) from error


async def read_chunks(path: PathLike[str] | str, limits: Limits) -> AsyncGenerator[bytes, None]:
    """Read a file piece by piece, never more of it than the limit.

    Raises:
        UnreadableFileError: It cannot be opened or read.
        FileTooLargeError: It is, or has grown, above the limit.
    """
    file = _File(path, limits)
    try:
        size = 0
        while chunk := await _in_thread(file.read):
            size += len(chunk)
            if size > limits.file_bytes:
                raise too_large(size, limits)
            yield chunk
    except OSError as error:
        raise access_error(path, error) from error
    finally:
        file.close()


def too_large(size: int, limits: Limits) -> FileTooLargeError:
    """Return the error for a file of that many bytes."""
    message = f"The file has {size} bytes; the limit is {limits.file_bytes}."
    return FileTooLargeError(message, remedy="Split it, or raise Limits.file_bytes.")


def access_error(path: PathLike[str] | str, error: Exception) -> IngestionError:
    """Return the error for a path that the system does not give us."""
    name = os.fspath(path)[-200:]
    if isinstance(error, FileNotFoundError):
        message = f"There is no file or folder {name!r}."
        return IngestionError(message, remedy="Check the path.")
    reason = error.strerror if isinstance(error, OSError) else str(error)
    message = f"{name!r} cannot be read: {reason}."
    return UnreadableFileError(message, remedy="Check the path and its permissions.")


class _File:
    """A file that is opened by its first read, so that small ones take one trip to a thread."""

    def __init__(self, path: PathLike[str] | str, limits: Limits) -> None:
        self._path = path
        self._limits = limits
        self._descriptor: int | None = None

    def read(self) -> bytes:
        """Return the next piece; no bytes at the end."""
        if self._descriptor is None:
            self._descriptor = os.open(self._path, _FLAGS)
            _check(os.fstat(self._descriptor), self._path, self._limits)
        return os.read(self._descriptor, CHUNK)

    def close(self) -> None:
        """Close it if it was opened."""
        if self._descriptor is not None:
            os.close(self._descriptor)


async def _in_thread(read: Callable[[], bytes]) -> bytes:
    """Run a read in a thread; when cancelled, wait for it, since its descriptor is closed next."""
    task = asyncio.ensure_future(asyncio.to_thread(read))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _check(status: os.stat_result, path: PathLike[str] | str, limits: Limits) -> None:
    for is_kind, kind in _KINDS:
        if is_kind(status.st_mode):
            message = f"{os.fspath(path)[-200:]!r} is {kind}, not a file."
            raise UnsupportedFormatError(message, remedy="Upload regular files.")
    if status.st_size > limits.file_bytes:
        raise too_large(status.st_size, limits)
