"""Lines on disk until the database has them: segments of one instance, and those of dead ones.

    <directory>/<instance>/lock       held as long as the instance lives
    <directory>/<instance>/<n>.seg    lines: CRC-32, tenant, JSON
    <directory>/<instance>/rows.refused   lines that the database will never take, for a person

A segment is written and flushed to the disk once an interval, and deleted when the database has
all its lines. An instance that finds a folder whose lock nobody holds takes its segments over;
whoever inserts them twice does no harm, since a call's id is unique. Functions here block: they run
in threads.
"""

from __future__ import annotations

import fcntl
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Self
from uuid import uuid4

from motadata.core.errors import ConfigurationError, TenantError
from motadata.core.observability import get_logger
from motadata.core.tenancy import TenantId


_LOCK: Final = "lock"
_SEGMENT: Final = ".seg"
_REFUSED: Final = "rows.refused"
_PRIVATE: Final = 0o600
_PRIVATE_FOLDER: Final = 0o700

_log = get_logger("gateway")


class Line(NamedTuple):
    """A call as it waits: whose it is, and its JSON; a tuple, since thousands of them wait."""

    tenant_id: str
    body: bytes

    def packed(self) -> bytes:
        """Return it as a line of a segment."""
        rest = b"%b %b" % (self.tenant_id.encode(), self.body)
        return b"%08x %b\n" % (zlib.crc32(rest), rest)


@dataclass(frozen=True, slots=True)
class Read:
    """What a segment holds.

    Attributes:
        lines: Those that are whole.
        damaged: How many are not: the last one of a process that was killed, or a broken disk's.
    """

    lines: tuple[Line, ...]
    damaged: int


class Folder:
    """The segments of one instance, locked by this process.

    Raises:
        ConfigurationError: The directory cannot be written.
    """

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def create(cls, directory: Path) -> Self:
        """Make the folder of this instance.

        Raises:
            ConfigurationError: The directory cannot be written.
        """
        try:
            directory.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
            name = uuid4().hex
            # Named only when locked: nobody can take it for one that was left behind.
            hidden = directory / f".{name}"
            hidden.mkdir(mode=_PRIVATE_FOLDER)
            lock = _locked(hidden / _LOCK)
            if lock is None:
                raise BlockingIOError
            hidden.rename(directory / name)
            _sync(directory)
        except OSError as error:
            message = f"The usage log cannot write to {str(directory)!r}: {error.strerror}."
            raise ConfigurationError(message, remedy="Give it a folder of its own.") from error
        return cls(directory / name, lock)

    @classmethod
    def abandoned(cls, directory: Path) -> Iterator[Self]:
        """Take over the folders whose instances are gone."""
        for path in sorted(directory.iterdir()):
            if not path.is_dir() or path.name.startswith("."):
                continue
            try:
                lock = _locked(path / _LOCK, create=False)
            except OSError:
                continue  # its owner ends this very moment, and deletes it
            if lock is not None:
                yield cls(path, lock)

    def segments(self) -> list[tuple[Path, int]]:
        """Return the segments and their sizes, the oldest first."""
        found = sorted(self.path.glob(f"*{_SEGMENT}"))
        return [(path, path.stat().st_size) for path in found]

    def append(self, segment: Path, lines: Sequence[Line]) -> int:
        """Add lines to a segment, wait until the disk has them, and return how many bytes.

        Raises:
            OSError: The disk is full or broken; the segment is as it was.
        """
        data = b"".join(line.packed() for line in lines)
        new = not segment.exists()
        handle = os.open(segment, os.O_WRONLY | os.O_CREAT | os.O_APPEND, _PRIVATE)
        try:
            before = os.fstat(handle).st_size
            try:
                _write(handle, data)
                os.fsync(handle)
            except OSError:
                os.ftruncate(handle, before)
                raise
        finally:
            os.close(handle)
        if new:
            _sync(self.path)
        return len(data)

    def set_aside(self, lines: Sequence[Line], *, most_bytes: int) -> Sequence[Line]:
        """Keep lines for a person, and return those for which there is no room.

        Args:
            lines: What the database refused.
            most_bytes: How much may be kept so in the whole directory; what came first stays.

        Raises:
            OSError: The disk is full or broken; nothing was kept.
        """
        room = most_bytes - _set_aside_bytes(self.path.parent)
        fitting = 0
        for line in lines:
            room -= len(line.packed())
            if room < 0:
                break
            fitting += 1
        if fitting:
            self.append(self.path / _REFUSED, lines[:fitting])
        return lines[fitting:]

    def segment(self, number: int) -> Path:
        """Return where a segment is kept."""
        return self.path / f"{number:012}{_SEGMENT}"

    def close(self) -> None:
        """Release the lock; an empty folder is deleted, one with lines in it is left to others."""
        try:
            if {path.name for path in self.path.iterdir()} <= {_LOCK}:
                (self.path / _LOCK).unlink(missing_ok=True)
                self.path.rmdir()
        except OSError as error:
            _log.warning("usage_folder_not_deleted", errno=error.errno)
        finally:
            os.close(self._lock)


def read(segment: Path) -> Read:
    """Read a segment.

    Raises:
        OSError: It is not there, or the disk is broken.
    """
    lines: list[Line] = []
    damaged = 0
    for packed in segment.read_bytes().splitlines():
        line = _unpacked(packed)
        if line is None:
            damaged += 1
        else:
            lines.append(line)
    return Read(tuple(lines), damaged)


def _set_aside_bytes(directory: Path) -> int:
    total = 0
    # With `*`, since there was one such file a segment.
    for path in directory.glob("*/*.refused"):
        with suppress(FileNotFoundError):  # somebody has looked at it
            total += path.stat().st_size
    return total


def _unpacked(packed: bytes) -> Line | None:
    checksum, _, rest = packed.partition(b" ")
    tenant, _, body = rest.partition(b" ")
    try:
        if int(checksum, 16) != zlib.crc32(rest):
            return None
        return Line(TenantId(tenant.decode()), body)
    except (ValueError, TenantError):
        return None


def _write(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _locked(path: Path, *, create: bool = True) -> int | None:
    """Open and lock a file; None when another process has it.

    Raises:
        OSError: It is not there, or was deleted meanwhile.
    """
    handle = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), _PRIVATE)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        same = os.fstat(handle).st_ino == path.stat().st_ino
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError:
        os.close(handle)
        raise
    if not same:
        os.close(handle)
        raise FileNotFoundError(path)
    return handle


def _sync(folder: Path) -> None:
    """Wait until the disk knows the names in a folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
