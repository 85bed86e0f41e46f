"""Opens what is on disk without trusting it: sizes first, no special files, no links, in threads."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from os import PathLike
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
        _check(os.stat(path), path, limits)
    except (OSError, ValueError) as error:
        raise access_error(path, error) from error


async def read_chunks(path: PathLike[str] | str, limits: Limits) -> AsyncIterator[bytes]:
    """Read a file piece by piece, never more of it than the limit.

    Raises:
        UnreadableFileError: It cannot be opened or read.
        FileTooLargeError: It is, or has grown, above the limit.
    """
    descriptor = -1
    try:
        descriptor, chunk = await asyncio.to_thread(_open, path, limits)
        size = 0
        while chunk:
            size += len(chunk)
            if size > limits.file_bytes:
                raise too_large(size, limits)
            yield chunk
            chunk = await asyncio.to_thread(os.read, descriptor, CHUNK)
    except OSError as error:
        raise access_error(path, error) from error
    finally:
        if descriptor >= 0:
            os.close(descriptor)


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


def _open(path: PathLike[str] | str, limits: Limits) -> tuple[int, bytes]:
    """Open a file and read its first piece, which is all of most files, in one trip to a thread."""
    descriptor = os.open(path, _FLAGS)
    try:
        _check(os.fstat(descriptor), path, limits)
        return descriptor, os.read(descriptor, CHUNK)
    except BaseException:
        os.close(descriptor)
        raise


def _check(status: os.stat_result, path: PathLike[str] | str, limits: Limits) -> None:
    for is_kind, kind in _KINDS:
        if is_kind(status.st_mode):
            message = f"{os.fspath(path)[-200:]!r} is {kind}, not a file."
            raise UnsupportedFormatError(message, remedy="Upload regular files.")
    if status.st_size > limits.file_bytes:
        raise too_large(status.st_size, limits)
