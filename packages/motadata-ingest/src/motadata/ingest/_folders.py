"""Lists the files of a folder, in order, without leaving it."""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Final

from motadata.core.errors import FileTooLargeError, IngestionError, UnreadableFileError
from motadata.ingest._files import access_error
from motadata.ingest.limits import Limits


_SOURCE_CHARACTERS: Final = 1_000
_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file of an upload: where it is, what it is called, and why it cannot be taken."""

    path: str
    source: str
    error: IngestionError | None = None


async def list_files(folder: PathLike[str] | str, *, name: str, limits: Limits) -> list[FoundFile]:
    """Return every file below a folder, sorted by name within each folder.

    Hidden files and folders are left out, and so are links whose target is in the folder anyway.
    Links that lead out of it, and folders that cannot be read, are returned with their error.

    Args:
        folder: Where to look.
        name: What the folder is called in the names of its files.
        limits: How many files it may have.

    Raises:
        FileTooLargeError: It has more.
        IngestionError: The folder itself cannot be read.
    """
    root = await asyncio.to_thread(os.path.realpath, folder)
    found: list[FoundFile] = []
    waiting = [(root, name)]
    while waiting:
        path, prefix = waiting.pop()
        try:
            files, folders = await asyncio.to_thread(_list_one, path, prefix, root)
        except OSError as error:
            if path == root:
                raise access_error(folder, error) from error
            found.append(FoundFile(path, prefix, access_error(prefix, error)))
            continue
        found.extend(files)
        waiting.extend(reversed(folders))
        if len(found) + len(waiting) > limits.files:
            message = f"The folder holds more than {limits.files} files."
            raise FileTooLargeError(message, remedy="Upload its parts, or raise Limits.files.")
    return found


def folder_name(folder: PathLike[str] | str) -> str:
    """Return what a folder is called: its own name, also for `.` and `..`."""
    return readable(Path(os.path.abspath(folder)).name)  # noqa: PTH100 - a link keeps its own name


def readable(name: str) -> str:
    """Return a file name as text that can be stored, its undecodable bytes escaped."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def check_source(source: str) -> str:
    """Return the name of a document if it can be one.

    Raises:
        IngestionError: It is blank, too long, or holds control characters.
    """
    if not source.strip() or len(source) > _SOURCE_CHARACTERS:
        message = f"The source has {len(source)} characters, or only blanks."
        raise IngestionError(message, remedy=f"Name it in 1 to {_SOURCE_CHARACTERS} characters.")
    if _UNPRINTABLE.search(source):
        message = f"The source {source[:100]!r} holds control characters."
        raise IngestionError(message, remedy="Name it in printable characters.")
    return source


def _list_one(path: str, prefix: str, root: str) -> tuple[list[FoundFile], list[tuple[str, str]]]:
    files: list[FoundFile] = []
    folders: list[tuple[str, str]] = []
    with os.scandir(path) as entries:
        visible = [entry for entry in entries if not entry.name.startswith(".")]
    for entry in sorted(visible, key=lambda entry: entry.name):
        source = f"{prefix}/{readable(entry.name)}" if prefix else readable(entry.name)
        if entry.is_symlink():
            if not _leads_inside(entry.path, root):
                files.append(FoundFile(entry.path, source, _outside(source)))
        elif entry.is_dir(follow_symlinks=False):
            folders.append((entry.path, source))
        else:
            files.append(FoundFile(entry.path, source))
    return files, folders


def _leads_inside(link: str, root: str) -> bool:
    target = os.path.realpath(link)
    return Path(target).exists() and Path(target).is_relative_to(root)


def _outside(source: str) -> UnreadableFileError:
    message = f"{source[-200:]!r} is a link that leads out of the folder, or nowhere."
    return UnreadableFileError(message, remedy="Upload what it points to by itself.")
