"""One worker process, seen from outside: started, given files, killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from motadata.core.errors import LoaderCrashedError
from motadata.core.models import Document
from motadata.ingest._frames import JOB, MOST_HEADER, frame, read_frame
from motadata.ingest._wire import Greeting, read_answer, to_document
from motadata.ingest.limits import Limits


_START_SECONDS: Final = 60.0
_REAP_SECONDS: Final = 10.0
_GRACE_SECONDS: Final = 2.0
_SIGNALLED: Final = 128
_BUFFER: Final = 2**20
_LONGEST_CHARACTER: Final = 4
_PARENT_VARIABLES: Final = ("LD_LIBRARY_PATH", "SYSTEMROOT")


class WorkerProcess:
    """A process that reads one file at a time. Made by `start_worker`."""

    def __init__(self, process: asyncio.subprocess.Process, limits: Limits) -> None:
        if process.stdin is None or process.stdout is None:
            message = "the process was started without pipes"
            raise ValueError(message)
        self._process = process
        self._input, self._output = process.stdin, process.stdout
        self._limits = limits
        self.layers: frozenset[str] = frozenset()
        self.documents = 0
        self.is_in_step = True

    @property
    def is_alive(self) -> bool:
        """Whether it can take a file."""
        return self._process.returncode is None and not self._output.at_eof()

    async def greet(self) -> None:
        """Wait until it is ready, and note which layers of isolation hold.

        Raises:
            LoaderCrashedError: It died, or was not ready in time.
        """
        try:
            async with asyncio.timeout(_START_SECONDS):
                greeting = await read_frame(self._output, most=MOST_HEADER)
            self.layers = frozenset(Greeting.model_validate_json(greeting).layers)
        except (TimeoutError, asyncio.IncompleteReadError, ValidationError) as error:
            message = "The reader process could not be started."
            remedy = f"Run `{Path(sys.executable).name} -m motadata.ingest._worker` to see why."
            raise LoaderCrashedError(message, remedy=remedy, retryable=True) from error

    async def read(self, chunks: AsyncGenerator[bytes, None], *, source: str) -> Document:
        """Have a file read. After any exception the process is of no use and must be ended.

        Args:
            chunks: The file's content.
            source: Its name.

        Raises:
            IngestionError: One of its kinds says why the file cannot be read; `LoaderCrashedError`
                when the process died of it or took too long.
        """
        self.documents += 1
        self.is_in_step = False
        try:
            async with asyncio.timeout(self._limits.seconds):
                await self._send(chunks, source)
                answer = read_answer(await read_frame(self._output, most=MOST_HEADER))
                if answer.document is None:
                    text = b""
                else:
                    most = self._limits.characters * _LONGEST_CHARACTER
                    text = await read_frame(self._output, most=most)
            self.is_in_step = True
        except TimeoutError as error:
            message = f"Reading {source!r} took longer than {self._limits.seconds:g} seconds."
            remedy = "Split the file, or raise Limits.seconds."
            raise LoaderCrashedError(message, remedy=remedy) from error
        except (asyncio.IncompleteReadError, ConnectionResetError, BrokenPipeError) as error:
            raise await self._crash(source) from error
        if answer.document is None:
            raise answer.error.to_error() if answer.error else await self._crash(source)
        # Ten million characters take longer to decode than an event loop should stand still.
        return await asyncio.to_thread(
            to_document, answer.document, text, source=source, limits=self._limits
        )

    async def _send(self, chunks: AsyncGenerator[bytes, None], source: str) -> None:
        self._input.write(JOB + frame(source.encode("utf-8", "replace")))
        async with aclosing(chunks):
            async for chunk in chunks:
                self._input.write(frame(chunk))
                await self._input.drain()
        self._input.write(frame(b""))
        await self._input.drain()

    async def _crash(self, source: str) -> LoaderCrashedError:
        """Return the error that names what the process died of."""
        try:
            async with asyncio.timeout(_GRACE_SECONDS):
                code = await self._process.wait()
        except TimeoutError:
            code = 0
        number = code - _SIGNALLED if code > _SIGNALLED else -code
        if number == getattr(signal, "SIGXCPU", None):
            reason = f"used more than {self._limits.seconds:g} seconds of processor time"
        elif number > 0:
            reason = f"was killed by signal {number}"
        else:
            reason = f"ended with status {code}"
        message = f"The process that read {source!r} {reason}."
        return LoaderCrashedError(message, remedy="The file is damaged, hostile or too complex.")

    def kill(self) -> None:
        """End it at once, with the process that reads its current file."""
        if self._process.returncode is not None:
            return
        try:
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()
        except ProcessLookupError:
            return  # it ended by itself a moment ago

    async def close(self) -> None:
        """Kill it and wait until the system has forgotten it."""
        self.kill()
        self._input.close()
        async with asyncio.timeout(_REAP_SECONDS):
            # An unread pipe would keep its transport open for good.
            while await self._output.read(_BUFFER):
                pass
            await self._process.wait()


async def start_worker(limits: Limits) -> WorkerProcess:
    """Start a process and wait until it is ready.

    It gets none of our environment, where secrets are, except what finding its own code takes.

    Raises:
        LoaderCrashedError: It cannot be started.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-s", "-P", "-m", "motadata.ingest._worker"),
            json.dumps(asdict(limits)),
            str(os.getpid()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=_environment(),
            cwd=Path.cwd().anchor,
            start_new_session=True,
            limit=_BUFFER,
        )
    except OSError as error:
        message = f"The reader process cannot be started: {error.strerror}."
        remedy = "Check sys.executable and the number of processes allowed."
        raise LoaderCrashedError(message, remedy=remedy, retryable=True) from error
    worker = WorkerProcess(process, limits)
    try:
        await worker.greet()
    except BaseException:
        worker.kill()
        await asyncio.shield(worker.close())
        raise
    return worker


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _PARENT_VARIABLES if name in os.environ}
    code = [str(Path(entry).absolute()) for entry in sys.path if entry and Path(entry).exists()]
    return {**kept, "PYTHONPATH": os.pathsep.join(code), "OMP_NUM_THREADS": "1"}
