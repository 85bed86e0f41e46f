"""What brings lines to the disk and from there to the database: two tasks behind every call.

One writes what came since the last interval into a segment and waits for the disk. The other sends
the oldest segment to the database and deletes it when all of it is there. Whatever happens to the
process or to the database, a line that is on disk arrives, once.

One delivery runs once. A log that is opened again makes another, which goes on where the one before
ended; a line that comes between the two is left on the disk for it.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import deque
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from motadata.core.errors import GatewayError, SDKError
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
        self._queue: deque[Line] = deque()
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
        self._ending = self._ended = self._leaving = False
        self._leaves = threading.Lock()
        self._tries = 0
        self.dropped = 0
        self.failing = ""

    @property
    def waiting_bytes(self) -> int:
        """Bytes on disk that the database does not have yet."""
        return self._bytes

    @property
    def is_open(self) -> bool:
        """Whether it has started, and nobody has begun to close it."""
        return self._folder is not None and not self._ending

    @property
    def running(self) -> bool:
        """Whether both tasks are at work."""
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    def take(self, line: Line) -> None:
        """Take a line; never waits. One that comes after the end is left on the disk."""
        waiting = len(self._queue)
        if waiting >= self._policy.most_queued or self._bytes >= self._policy.most_bytes:
            self.dropped += 1
            _dropped.add(1, tenant_id=line.tenant_id)
            if self.dropped == 1:
                _log.error("usage_dropped", queued=waiting, bytes=self._bytes)
            return
        self._queue.append(line)
        if self._ended:
            self._leave()
            return
        self._taken += 1
        if not waiting:
            self._since = time.monotonic()
            self._came.set()
        elif waiting == self._policy.most_queued // 2:
            self._hurry.set()

    async def start(self, before: Delivery) -> None:
        """Open the folder, take over what one that has ended still holds, and start the tasks.

        Raises:
            ConfigurationError: The directory cannot be written.
        """
        folder = await asyncio.to_thread(Folder.create, self._directory)
        await asyncio.to_thread(before.wait_for_leaving)
        self._folder = folder
        self.dropped += before.dropped
        for line in before.rest():
            self.take(line)
        for work in (self._write_on(folder), self._send_on()):
            task = asyncio.create_task(work, name="gateway-usage")
            task.add_done_callback(self._told_of_a_move)
            self._tasks.add(task)

    async def arrived(self) -> None:
        """Return when the database has all lines that were taken so far.

        Raises:
            GatewayError: It ended before; what is missing waits on the disk.
        """
        target = self._taken
        while self._arrived < target:
            if not self.running:
                message = "The usage log ended before the database had every call."
                raise GatewayError(message, remedy="Open it again: what waits on disk is sent.")
            self._hurry.set()
            moved = self._moved
            await moved.wait()

    async def close(self) -> None:
        """Write what is left to the disk, and send what the database takes in time."""
        if self._folder is None:
            return
        self._ending = True
        try:
            async with asyncio.timeout(self._policy.closing):
                await self.arrived()
        except (TimeoutError, GatewayError):
            _log.warning("usage_kept_on_disk", bytes=self._bytes, queued=len(self._queue))
        finally:
            await self._end(self._folder)

    async def _end(self, folder: Folder) -> None:
        self._closing.set()
        for event in (self._came, self._hurry, self._stored):
            event.set()
        try:
            # Ending takes as long as the disk and one statement do: a statement that is under way
            # is waited for, since its rows are on disk in any case.
            await asyncio.wait(self._tasks, timeout=self._policy.timeout)
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks, timeout=self._policy.timeout)
            await self._write(folder)  # what came since the task that writes has ended
        finally:
            self._ended = True
            if self._queue:
                self._leave()
        for other in {segment.folder for segment in self._pending} | {folder}:
            await asyncio.to_thread(other.close)
        self._folder = None

    def wait_for_leaving(self) -> None:
        """Wait until what came after the end is on the disk, if that is being written; blocks."""
        with self._leaves:
            pass

    def rest(self) -> list[Line]:
        """Hand over what came after the end and is not on the disk."""
        lines: list[Line] = []
        with suppress(IndexError):  # another thread takes from it, too
            while True:
                lines.append(self._queue.popleft())
        return lines

    def _leave(self) -> None:
        """Write lines to the disk, for the next start to send; not on the event loop."""
        if self._leaving:
            return
        self._leaving = True
        try:
            asyncio.get_running_loop().run_in_executor(None, self._write_and_leave)
        except RuntimeError:  # the loop ends, and takes on no threads any more
            self._write_and_leave()

    def _write_and_leave(self) -> None:
        with self._leaves:
            self._leaving = False  # first: a line that comes from here on is written by the next
            lines = self.rest()
            if not lines:
                return
            try:
                folder = Folder.create(self._directory)
                try:
                    folder.append(folder.segment(1), lines)
                finally:
                    folder.close()
            except (SDKError, OSError) as error:
                # The next start takes them over; nothing else is left to try.
                self._queue.extendleft(reversed(lines))
                _log.error("usage_not_written", calls=len(lines), kind=type(error).__name__)

    def _told_of_a_move(self, _ended: object = None) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

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
            lines, self._queue = list(self._queue), deque()
            self._came.clear()
            if not lines:
                return
            segment = self._open or self._next(folder)
            try:
                size = await asyncio.to_thread(folder.append, segment.path, lines)
            except OSError as error:
                _log.error("usage_not_written", errno=error.errno)
                self._queue.extendleft(reversed(lines))
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
        self._told_of_a_move()
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
