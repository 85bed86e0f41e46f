"""What brings lines to the disk and from there to the database: two tasks behind every call.

One writes what came since the last interval into a segment and waits for the disk. The other sends
the oldest segment to the database and deletes it when all of it is there. Whatever happens to the
process or to the database, a line that is on disk arrives, once.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from motadata.core.errors import SDKError
from motadata.core.observability import counter, get_logger
from motadata.core.protocols import Database
from motadata.gateway.usage import _spool as spool
from motadata.gateway.usage._insertion import insert
from motadata.gateway.usage._policy import UsagePolicy
from motadata.gateway.usage._spool import Folder, Line


_LOOK_AROUND: Final = 30.0
_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 30.0
_MOST_TRIES: Final = 4
"""How often refused rows are set aside in vain before they are given up, some seconds in all."""

_log = get_logger("gateway")
_dropped = counter(
    "motadata.gateway.usage_dropped",
    unit="{call}",
    description="Calls that are not in the usage log, since its folder was full.",
)


@dataclass(frozen=True, slots=True)
class _Segment:
    """A file that waits for the database, and the number of the last line that it brings there."""

    folder: Folder
    path: Path
    size: int
    until: int = 0


class Delivery:
    """Takes lines and sees to it that they arrive.

    Args:
        database: Where they go.
        directory: Where they wait; several instances may share it.
        policy: How they are written.
    """

    def __init__(self, database: Database, directory: Path, policy: UsagePolicy) -> None:
        self._database = database
        self._directory = directory
        self._policy = policy
        self._queue: list[Line] = []
        self._taken = self._arrived = 0
        self._number = 0
        self._since = 0.0
        self._bytes = 0
        self._open: _Segment | None = None
        self._pending: deque[_Segment] = deque()
        self._disk = asyncio.Lock()
        self._came, self._hurry = asyncio.Event(), asyncio.Event()
        self._stored, self._moved = asyncio.Event(), asyncio.Event()
        self._closing = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._folder: Folder | None = None
        self._tries = 0
        self.dropped = 0
        self.failing = ""

    @property
    def waiting_bytes(self) -> int:
        """Bytes on disk that the database does not have yet."""
        return self._bytes

    @property
    def running(self) -> bool:
        """Whether both tasks are at work."""
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    def take(self, line: Line) -> None:
        """Take a line; never waits."""
        waiting = len(self._queue)
        if waiting >= self._policy.most_queued or self._bytes >= self._policy.most_bytes:
            self.dropped += 1
            _dropped.add(1, tenant_id=line.tenant_id)
            if self.dropped == 1:
                _log.error("usage_dropped", queued=waiting, bytes=self._bytes)
            return
        self._queue.append(line)
        self._taken += 1
        if not waiting:
            self._since = time.monotonic()
            self._came.set()
        elif waiting == self._policy.most_queued // 2:
            self._hurry.set()

    async def start(self) -> None:
        """Open the folder and start the tasks.

        Raises:
            ConfigurationError: The directory cannot be written.
        """
        self._folder = await asyncio.to_thread(Folder.create, self._directory)
        for work in (self._write_on(self._folder), self._send_on()):
            self._tasks.add(asyncio.create_task(work, name="gateway-usage"))

    async def arrived(self) -> None:
        """Return when the database has all lines that were taken so far."""
        target = self._taken
        while self._arrived < target:
            self._hurry.set()
            moved = self._moved
            await moved.wait()

    async def close(self) -> None:
        """Write what is left to the disk, and send what the database takes in time."""
        if self._folder is None:
            return
        try:
            async with asyncio.timeout(self._policy.closing):
                await self.arrived()
        except TimeoutError:
            _log.warning("usage_kept_on_disk", bytes=self._bytes, queued=len(self._queue))
        finally:
            await self._end(self._folder)

    async def _end(self, folder: Folder) -> None:
        self._closing.set()
        for event in (self._came, self._hurry, self._stored):
            event.set()
        # Ending takes as long as the disk and one statement do: a statement that is under way is
        # waited for, since its rows are on disk in any case.
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._policy.timeout)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._policy.timeout)
        for other in {segment.folder for segment in self._pending} | {folder}:
            await asyncio.to_thread(other.close)
        self._folder = None

    async def _write_on(self, folder: Folder) -> None:
        while not self._closing.is_set():
            await self._came.wait()
            # From the first line on, not from the end of the write before, which takes its time.
            due = self._since + self._policy.interval - time.monotonic()
            await _either(self._hurry.wait(), max(0.0, due))
            await self._write(folder)
        await self._write(folder)

    async def _write(self, folder: Folder) -> None:
        self._hurry.clear()
        async with self._disk:
            lines, self._queue = self._queue, []
            self._came.clear()
            if not lines:
                return
            segment = self._open or self._next(folder)
            try:
                size = await asyncio.to_thread(folder.append, segment.path, lines)
            except OSError as error:
                _log.error("usage_not_written", errno=error.errno)
                self._queue = lines + self._queue
                self._since = time.monotonic()
                self._came.set()
                return
            self._bytes += size
            until = self._taken - len(self._queue)
            self._open = _Segment(folder, segment.path, segment.size + size, until)
            if self._open.size >= self._policy.segment_bytes:
                self._seal()
            self._stored.set()

    def _next(self, folder: Folder) -> _Segment:
        self._number += 1
        return _Segment(folder, folder.segment(self._number), 0)

    def _seal(self) -> None:
        if self._open is not None:
            self._pending.append(self._open)
            self._open = None

    async def _send_on(self) -> None:
        pause = _FIRST_PAUSE
        await self._adopt()
        while not self._closing.is_set():
            if not self._pending:
                async with self._disk:
                    self._seal()
                    self._stored.clear()
            if not self._pending:
                await self._look_around()
                continue
            if await self._send(self._pending[0]):
                pause = _FIRST_PAUSE
                continue
            # Spread, so that instances do not come back all at once.
            await _either(self._closing.wait(), pause * (0.5 + random.random()))  # noqa: S311
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _look_around(self) -> None:
        """Wait for lines; now and then, look whether an instance died."""
        if not await _either(self._stored.wait(), _LOOK_AROUND):
            await self._adopt()

    async def _send(self, segment: _Segment) -> bool:
        """Bring a segment to the database, and tell whether it is there."""
        try:
            found = await asyncio.to_thread(spool.read, segment.path)
            refused = await insert(self._database, found.lines, timeout=self._policy.timeout)
            if refused:
                await self._set_aside(segment.folder, refused)
            await asyncio.to_thread(segment.path.unlink, missing_ok=True)
        except (SDKError, OSError, TimeoutError) as error:
            failing = str(getattr(error, "code", type(error).__name__))
            if failing != self.failing:
                _log.warning("usage_not_sent", code=failing, bytes=self._bytes)
            self.failing = failing
            return False
        if found.damaged:
            _log.error("usage_lines_damaged", lines=found.damaged)
        self.failing = ""
        self._pending.popleft()
        self._bytes -= segment.size
        self._arrived = max(self._arrived, segment.until)
        self._moved.set()
        self._moved = asyncio.Event()
        if segment.folder is not self._folder and not self._remaining(segment.folder):
            await asyncio.to_thread(segment.folder.close)
        return True

    async def _set_aside(self, folder: Folder, refused: Sequence[Line]) -> None:
        """Keep what the database refuses beside the rest, within a limit of its own.

        Raises:
            OSError: The disk is full or broken; it may be tried again.
        """
        lost: Sequence[Line] = refused
        try:
            lost = await asyncio.to_thread(
                folder.set_aside, refused, most_bytes=self._policy.most_bytes
            )
        except OSError as error:
            self._tries += 1
            if self._tries < _MOST_TRIES:
                raise
            # Rows that the database takes wait behind these, and are dropped when they are too
            # many: those that nobody will ever bill must not cost any that somebody will.
            _log.error("usage_refused_not_written", errno=error.errno)
        self._tries = 0
        if not lost:
            return
        self.dropped += len(lost)
        for line in lost:
            _dropped.add(1, tenant_id=line.tenant_id)
        _log.error("usage_refused_dropped", calls=len(lost), most_bytes=self._policy.most_bytes)

    def _remaining(self, folder: Folder) -> bool:
        return any(segment.folder is folder for segment in self._pending)

    async def _adopt(self) -> None:
        """Take over what dead instances left."""
        try:
            folders = await asyncio.to_thread(lambda: list(Folder.abandoned(self._directory)))
        except OSError as error:
            _log.warning("usage_folder_not_read", errno=error.errno)
            return
        for folder in folders:
            left = await asyncio.to_thread(folder.segments)
            if not left:
                await asyncio.to_thread(folder.close)
                continue
            _log.info("usage_taken_over", segments=len(left))
            self._pending.extend(_Segment(folder, path, size) for path, size in left)
            self._bytes += sum(size for _, size in left)


async def _either(event: Awaitable[bool], seconds: float) -> bool:
    """Wait for an event at most so long, and tell whether it came."""
    try:
        async with asyncio.timeout(seconds):
            await event
    except TimeoutError:
        return False
    return True
