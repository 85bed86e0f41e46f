"""Reads files in processes that may die without us: a small pool, warm, fair, restarted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from os import PathLike
from types import TracebackType
from typing import Final, Self

from motadata.core.errors import ConfigurationError, IngestionError, SDKError
from motadata.core.models import Document, Health
from motadata.core.observability import get_logger
from motadata.core.resilience import time_limit
from motadata.core.tenancy import current_tenant
from motadata.ingest._files import check_file, read_chunks, too_large
from motadata.ingest._frames import CHUNK
from motadata.ingest._process import WorkerProcess, start_worker
from motadata.ingest._sandbox import LAYERS
from motadata.ingest._turns import Turns
from motadata.ingest.limits import Limits


_MOST_WAITING: Final = 1_000
_WAIT_SECONDS: Final = 3_600.0
_DOCUMENTS_PER_WORKER: Final = 1_000
_CLOSE_SECONDS: Final = 15.0
_HEALTH_SECONDS: Final = 1.8
_log = get_logger("ingest")


class IsolatedLoader:
    """The `DocumentLoader` that reads each file in a sandboxed process.

    It may be used at once; processes start when they are needed and go when they are idle. Leaving
    its context ends them, whatever they do.

    Args:
        limits: What one file may cost.
        workers: How many files are read at once.
        idle_seconds: How long a process is kept without work.

    Raises:
        ConfigurationError: A number is not positive.
    """

    def __init__(
        self, *, limits: Limits | None = None, workers: int = 2, idle_seconds: float = 60.0
    ) -> None:
        if workers < 1 or idle_seconds <= 0:
            message = f"workers={workers!r} and idle_seconds={idle_seconds!r} must be positive."
            raise ConfigurationError(message, remedy="Leave them out to get 2 and 60.")
        self._limits = limits or Limits()
        self._idle_seconds = idle_seconds
        self._turns = Turns(workers, most_waiting=_MOST_WAITING)
        self._idle: list[WorkerProcess] = []
        self._busy: set[WorkerProcess] = set()
        self._timers: dict[WorkerProcess, asyncio.TimerHandle] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._layers: frozenset[str] | None = None
        self._probing = asyncio.Lock()
        self._loads = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._closed = False

    async def __aenter__(self) -> Self:
        """Start one process, so that a system that cannot is found out now.

        Raises:
            LoaderCrashedError: It cannot be started.
        """
        self._closed = False
        self._put_back(await self._start())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End every process and wait for its end; files that are being read fail."""
        self._closed = True
        for worker in list(self._idle):
            self._end(worker)
        for worker in self._busy:
            worker.kill()  # whoever waits for its answer ends it
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._quiet.wait()
                while self._closing:
                    await asyncio.wait(self._closing)
        except TimeoutError:
            _log.warning("reader_processes_not_ended", busy=len(self._busy))

    async def load(self, content: bytes | PathLike[str], *, source: str) -> Document:
        """Return the text of a file.

        Cancelling it kills the process that reads.

        Args:
            content: The bytes, or the path of a regular file.
            source: Name under which the document is known; its ending is a hint, no more.

        Raises:
            IngestionError: One of its kinds says why the file cannot be read.
            DeadlineExceededError: The deadline of the caller ended it.
        """
        async with time_limit(None, what="a file to be read"):
            return await self._load_in_turn(content, source)

    async def health(self) -> Health:
        """Say whether files can be read, and which layers of isolation are missing."""
        if self._layers is None:
            try:
                async with asyncio.timeout(_HEALTH_SECONDS), self._probing:
                    self._put_back(await self._start())
            except TimeoutError:
                return Health("degraded", detail="The reader process is slow to start.")
            except SDKError as error:
                return Health("down", detail=str(error))
        missing = [layer for layer in LAYERS if layer not in (self._layers or ())]
        if missing:
            detail = f"Files are read without these layers of isolation: {', '.join(missing)}."
            remedy = "Use Linux 5.13 or later with Landlock and user namespaces."
            return Health("degraded", detail=f"{detail} {remedy}")
        return Health("ok")

    async def _load_in_turn(self, content: bytes | PathLike[str], source: str) -> Document:
        if not isinstance(content, bytes):
            await asyncio.to_thread(check_file, content, self._limits)
        elif len(content) > self._limits.file_bytes:
            raise too_large(len(content), self._limits)
        async with self._turns.turn(current_tenant() or "", timeout=_WAIT_SECONDS):
            self._loads += 1
            self._quiet.clear()
            try:
                return await self._load(content, source)
            finally:
                self._loads -= 1
                if not self._loads:
                    self._quiet.set()

    async def _load(self, content: bytes | PathLike[str], source: str) -> Document:
        worker = await self._take()
        try:
            if isinstance(content, bytes):
                return await worker.read(_slices(content), source=source)
            return await worker.read(read_chunks(content, self._limits), source=source)
        finally:
            self._let_go(worker)

    async def _take(self) -> WorkerProcess:
        self._check_open()
        worker = self._take_idle() or await self._start()
        self._busy.add(worker)
        try:
            self._check_open()
        except IngestionError:
            self._let_go(worker)
            raise
        return worker

    def _check_open(self) -> None:
        if self._closed:
            message = "The loader was closed."
            raise IngestionError(message, remedy="Upload within `async with` of the service.")

    def _let_go(self, worker: WorkerProcess) -> None:
        self._busy.discard(worker)
        if worker.is_in_step and worker.is_alive and worker.documents < _DOCUMENTS_PER_WORKER:
            self._put_back(worker)
        else:
            self._end(worker)

    def _take_idle(self) -> WorkerProcess | None:
        while self._idle:
            worker = self._idle.pop()
            self._timers.pop(worker).cancel()
            if worker.is_alive:
                return worker
            self._end(worker)
        return None

    async def _start(self) -> WorkerProcess:
        worker = await start_worker(self._limits)
        if self._layers is None:
            self._layers = worker.layers
            missing = [layer for layer in LAYERS if layer not in worker.layers]
            if missing:
                _log.warning("isolation_layers_missing", layers=missing)
        return worker

    def _put_back(self, worker: WorkerProcess) -> None:
        if self._closed:
            self._end(worker)
            return
        self._idle.append(worker)
        loop = asyncio.get_running_loop()
        self._timers[worker] = loop.call_later(self._idle_seconds, self._end, worker)

    def _end(self, worker: WorkerProcess) -> None:
        """Kill a process now and reap it in the background."""
        worker.kill()
        if worker in self._idle:
            self._idle.remove(worker)
        timer = self._timers.pop(worker, None)
        if timer is not None:
            timer.cancel()
        task = asyncio.get_running_loop().create_task(self._reap(worker))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    @staticmethod
    async def _reap(worker: WorkerProcess) -> None:
        try:
            await worker.close()
        except TimeoutError:
            _log.warning("reader_process_not_reaped")


async def _slices(content: bytes) -> AsyncGenerator[bytes, None]:
    for at in range(0, len(content), CHUNK):
        yield content[at : at + CHUNK]
